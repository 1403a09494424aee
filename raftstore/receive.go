package raftstore

import (
	"io"
	"slices"

	"github.com/hashicorp/raft"

	"slipway/raftstore/boltlog"
)

// receiver is a transport that keeps a replica from going back. A leader whose news of this replica is
// old (answers get lost) offers what came before: entries from before the beginning of the log, and a
// snapshot that is older than what was applied here. Raft, which cannot compare such entries any more,
// rejects them, is offered older and older ones, and at last the snapshot, which it installs. All that
// was applied is committed, the same everywhere and on disk here: so the offers are taken as far as they
// are news.
type receiver struct {
	*witness
	log *boltlog.Log
	out chan raft.RPC
}

// progress tells how far a replica is.
type progress interface {
	AppliedIndex() uint64
	CurrentTerm() uint64
}

func newReceiver(w *witness, log *boltlog.Log) *receiver {
	return &receiver{witness: w, log: log, out: make(chan raft.RPC)}
}

// Consumer returns what arrives.
func (r *receiver) Consumer() <-chan raft.RPC { return r.out }

// run hands over what arrives until done is closed.
func (r *receiver) run(p progress, done <-chan struct{}) {
	for {
		select {
		case rpc := <-r.witness.Consumer():
			switch cmd := rpc.Command.(type) {
			case *raft.AppendEntriesRequest:
				rpc.Command = r.fit(cmd, p.AppliedIndex())
			case *raft.InstallSnapshotRequest:
				if cmd.LastLogIndex <= p.AppliedIndex() && cmd.Term == p.CurrentTerm() {
					go known(rpc, cmd.Term)
					continue
				}
			}
			select {
			case r.out <- rpc:
			case <-done:
				return
			}
		case <-done:
			return
		}
	}
}

// known lets a snapshot pass by that has nothing new, and tells so.
func known(rpc raft.RPC, term uint64) {
	_, err := io.Copy(io.Discard, rpc.Reader) // the sender begins its next request behind it
	rpc.Respond(&raft.InstallSnapshotResponse{Term: term, Success: err == nil}, err)
}

// fit lets an offer of entries begin with the first one that the log has, if that was applied.
func (r *receiver) fit(a *raft.AppendEntriesRequest, applied uint64) *raft.AppendEntriesRequest {
	first, err := r.log.FirstIndex()
	if err != nil || len(a.Entries) == 0 || a.PrevLogEntry >= first || first > applied {
		return a
	}
	var e raft.Log
	if r.log.GetLog(first, &e) != nil {
		return a
	}
	fits := *a
	fits.PrevLogEntry, fits.PrevLogTerm = first, e.Term
	if at := slices.IndexFunc(a.Entries, func(e *raft.Log) bool { return e.Index > first }); at >= 0 {
		fits.Entries = a.Entries[at:]
	} else {
		fits.Entries = nil
	}
	return &fits
}

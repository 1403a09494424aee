package raftstore

import (
	"errors"
	"io"
	"sync/atomic"

	"github.com/hashicorp/raft"
)

// errSilenced is what a silenced replica gets for everything that it sends.
var errSilenced = errors.New("this server was silenced by its watchdog")

// gate lets through what a replica sends until it is shut. Raft itself goes on sending heartbeats
// after Shutdown for as long as its loop hangs.
type gate struct{ shut atomic.Bool }

// around puts the gate before a transport, which keeps its ability to pre-vote.
func (g *gate) around(t raft.Transport) raft.Transport {
	out := gated{Transport: t, gate: g}
	if p, ok := t.(raft.WithPreVote); ok {
		return preVoting{out, p}
	}
	return out
}

func (g *gate) pass() error {
	if g.shut.Load() {
		return errSilenced
	}
	return nil
}

// gated is a transport behind a gate.
type gated struct {
	raft.Transport
	gate *gate
}

// AppendEntries sends entries or a heartbeat.
func (t gated) AppendEntries(id raft.ServerID, to raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	if err := t.gate.pass(); err != nil {
		return err
	}
	return t.Transport.AppendEntries(id, to, args, resp)
}

// AppendEntriesPipeline opens a pipeline behind the gate.
func (t gated) AppendEntriesPipeline(id raft.ServerID, to raft.ServerAddress) (raft.AppendPipeline, error) {
	if err := t.gate.pass(); err != nil {
		return nil, err
	}
	p, err := t.Transport.AppendEntriesPipeline(id, to)
	if err != nil {
		return nil, err
	}
	return gatedPipeline{p, t.gate}, nil
}

// RequestVote asks for a vote.
func (t gated) RequestVote(id raft.ServerID, to raft.ServerAddress, args *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	if err := t.gate.pass(); err != nil {
		return err
	}
	return t.Transport.RequestVote(id, to, args, resp)
}

// InstallSnapshot sends a snapshot.
func (t gated) InstallSnapshot(id raft.ServerID, to raft.ServerAddress, args *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	if err := t.gate.pass(); err != nil {
		return err
	}
	return t.Transport.InstallSnapshot(id, to, args, resp, data)
}

// TimeoutNow asks another server to lead.
func (t gated) TimeoutNow(id raft.ServerID, to raft.ServerAddress, args *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	if err := t.gate.pass(); err != nil {
		return err
	}
	return t.Transport.TimeoutNow(id, to, args, resp)
}

// Close closes the transport, if it can be closed.
func (t gated) Close() error {
	if c, ok := t.Transport.(raft.WithClose); ok {
		return c.Close()
	}
	return nil
}

// preVoting is a gated transport with pre-votes.
type preVoting struct {
	gated
	votes raft.WithPreVote
}

// RequestPreVote asks whether a vote would be given.
func (t preVoting) RequestPreVote(id raft.ServerID, to raft.ServerAddress, args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	if err := t.gate.pass(); err != nil {
		return err
	}
	return t.votes.RequestPreVote(id, to, args, resp)
}

// gatedPipeline is a pipeline behind a gate.
type gatedPipeline struct {
	raft.AppendPipeline
	gate *gate
}

// AppendEntries sends entries.
func (p gatedPipeline) AppendEntries(args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	if err := p.gate.pass(); err != nil {
		return nil, err
	}
	return p.AppendPipeline.AppendEntries(args, resp)
}

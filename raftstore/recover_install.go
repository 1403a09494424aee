package raftstore

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"hash"

	"github.com/hashicorp/raft"

	"slipway/raftstore/boltlog"
)

// installs are the snapshots of a replica. A snapshot that another server sent may be of another
// history than the entries here, which nobody else has. Raft keeps such entries and compares what
// follows with them, finds that it does not fit, and asks for the snapshot again, forever
// (hashicorp/raft issue 697); so they leave the log together with the arrival of the snapshot.
type installs struct {
	raft.SnapshotStore
	log *boltlog.Log
}

// Create begins a snapshot.
func (i installs) Create(version raft.SnapshotVersion, index, term uint64, c raft.Configuration, configIndex uint64, t raft.Transport) (raft.SnapshotSink, error) {
	sink, err := i.SnapshotStore.Create(version, index, term, c, configIndex, t)
	if err != nil || i.log.Fits(index, term) {
		return sink, err
	}
	return &foreign{SnapshotSink: sink, log: i.log, index: index, term: term, sum: sha256.New()}, nil
}

// foreign is a snapshot of another history. It is checked before the log gives way to it.
type foreign struct {
	raft.SnapshotSink
	log         *boltlog.Log
	index, term uint64
	sum         hash.Hash
	tail        []byte // the last bytes so far, which may be the checksum
}

// Write adds to the snapshot.
func (f *foreign) Write(p []byte) (int, error) {
	n, err := f.SnapshotSink.Write(p)
	f.tail = append(f.tail, p[:n]...)
	if over := len(f.tail) - sha256.Size; over > 0 {
		f.sum.Write(f.tail[:over])
		f.tail = append(f.tail[:0], f.tail[over:]...)
	}
	return n, err
}

// Close completes the snapshot and makes the log fit it.
func (f *foreign) Close() error {
	if got := f.sum.Sum(nil); !bytes.Equal(got, f.tail) {
		f.Cancel()
		return fmt.Errorf("the snapshot at %d arrived damaged: its checksum is %x, it says %x", f.index, got, f.tail)
	}
	if err := f.SnapshotSink.Close(); err != nil {
		return err
	}
	return f.log.Anchor(f.index, f.term)
}

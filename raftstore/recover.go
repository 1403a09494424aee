package raftstore

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/hashicorp/raft"

	"slipway/api"
	"slipway/durable"
	"slipway/raftstore/boltlog"
	"slipway/raftstore/state"
)

// epochFile holds the epoch, beside the log.
const epochFile = "epoch"

// Member is a server as Raft knows it: an identity for life and where others reach it.
type Member struct{ ID, Addr string }

func (m Member) alone() raft.Configuration {
	return raft.Configuration{Servers: []raft.Server{{ID: raft.ServerID(m.ID), Address: raft.ServerAddress(m.Addr)}}}
}

// NewEpoch returns the epoch that follows previous, "" for the first of a rack. An epoch is a
// number that rises and a random part, "2-9f86d081884c7d65": servers of one rack that have not
// the same one belong to different histories of it and must not talk Raft to each other.
func NewEpoch(previous string) string {
	n := epochNumber(previous)
	random := make([]byte, 8)
	rand.Read(random)
	return fmt.Sprintf("%d-%s", n+1, hex.EncodeToString(random))
}

// NewerEpoch reports whether a was made after b, for the words of an error: the server with the
// older one is to be emptied and joined again.
func NewerEpoch(a, b string) bool { return epochNumber(a) > epochNumber(b) }

func epochNumber(epoch string) uint64 {
	head, _, _ := strings.Cut(epoch, "-")
	n, _ := strconv.ParseUint(head, 10, 64) // 0 for none
	return n
}

// Epoch reads the epoch of a directory (Config.Dir), "" if it has none.
func Epoch(dir string) (string, error) {
	b, err := os.ReadFile(filepath.Join(dir, epochFile))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read epoch: %w", err)
	}
	epoch := strings.TrimSpace(string(b))
	if epochNumber(epoch) == 0 {
		return "", api.Errorf(api.CodeInternal, "read epoch: %s is damaged; it must hold the epoch of the other servers, or recover this one", filepath.Join(dir, epochFile))
	}
	return epoch, nil
}

// SetEpoch stores the epoch of a directory (Config.Dir) durably: the one that a new server was
// told when it joined.
func SetEpoch(dir, epoch string) error {
	if epochNumber(epoch) == 0 {
		return api.Errorf(api.CodeInvalid, "set epoch: %q is none", epoch)
	}
	if err := durable.WriteFile(filepath.Join(dir, epochFile), []byte(epoch+"\n")); err != nil {
		return fmt.Errorf("epoch: %w", err)
	}
	return nil
}

// Recovered says what Recover found and made.
type Recovered struct {
	Epoch string
	Index uint64 // of the last entry that is in the state
	Rack  string // name
}

// Recover makes the server of dir (Config.Dir) the only voter of its rack, in a new epoch, so
// that the servers that were lost cannot talk to it should they come back. It keeps everything
// that was acknowledged and is in this directory: of the survivors, take the one with the newest
// log. The server must not run. A call that was cut short can be repeated.
func Recover(dir string, self Member) (Recovered, error) {
	var done Recovered
	if !HasState(dir) {
		return done, api.Errorf(api.CodeNotFound, "%s holds no state of a rack; give the data directory of a server that survived", dir)
	}
	log, err := boltlog.Open(filepath.Join(dir, "raft.db"))
	if err != nil {
		return done, fmt.Errorf("recover (is slipwayd stopped?): %w", err)
	}
	defer log.Close()
	quiet := raftLogger(nil)
	snaps, err := raft.NewFileSnapshotStoreWithLogger(dir, snapshotsKept, quiet)
	if err != nil {
		return done, fmt.Errorf("recover: open snapshots: %w", err)
	}
	last, err := log.LastIndex()
	if err != nil {
		return done, fmt.Errorf("recover: %w", err)
	}
	known, err := snaps.List()
	if err != nil {
		return done, fmt.Errorf("recover: list snapshots: %w", err)
	}
	if last == 0 && len(known) == 0 {
		return done, api.Errorf(api.CodeNotFound, "%s holds an empty log: this server never got the state of its rack; recover another one, or restore a backup", dir)
	}
	old, err := Epoch(dir)
	if err != nil {
		return done, err
	}
	done.Epoch = NewEpoch(old)
	if err := SetEpoch(dir, done.Epoch); err != nil { // first: what follows is fenced
		return done, err
	}
	conf := raft.DefaultConfig()
	conf.LocalID, conf.Logger = raft.ServerID(self.ID), quiet
	m := &replay{machine: machine{state: state.New(), publish: func(*state.View, []state.Result) {}}}
	_, transport := raft.NewInmemTransport(raft.ServerAddress(self.Addr))
	if err := raft.RecoverCluster(conf, m, log, log, snaps, transport, self.alone()); err != nil {
		return done, fmt.Errorf("recover: %w", err)
	}
	if err := leap(m, snaps, self, last); err != nil {
		return done, fmt.Errorf("recover: %w", err)
	}
	view := m.state.View()
	done.Index, done.Rack = view.Index(), view.Rack().Name
	return done, nil
}

// historyGap is how far the indexes of a rack leap when it goes on from a survivor or a backup. What
// was lost may have reached nodes and routers, who take nothing older than they have: all versions
// are made of indexes, and after the leap each is higher than any before. Even at a million entries
// a second a rack needs an hour for as many.
const historyGap = 1 << 32

// leap stores the state once more, at an index that nobody has seen.
func leap(m *replay, snaps *raft.FileSnapshotStore, self Member, last uint64) error {
	known, err := snaps.List()
	if err != nil {
		return fmt.Errorf("list snapshots: %w", err)
	}
	if len(known) == 0 {
		return api.Errorf(api.CodeInternal, "no snapshot was made")
	}
	snap, err := m.Snapshot()
	if err != nil {
		return err
	}
	_, transport := raft.NewInmemTransport(raft.ServerAddress(self.Addr))
	sink, err := snaps.Create(raft.SnapshotVersionMax, max(last, known[0].Index)+historyGap, known[0].Term, self.alone(), 1, transport)
	if err != nil {
		return err
	}
	return snap.Persist(sink)
}

// replay is a machine outside of a running replica: an entry that it does not know is an error
// and not the end of the program.
type replay struct {
	machine
	err error
}

// Apply applies an entry, unless one before it was not known.
func (r *replay) Apply(l *raft.Log) any {
	if _, err := Decode(l.Data); err != nil && r.err == nil {
		r.err = fmt.Errorf("raft log %d: %w", l.Index, err)
	}
	if r.err != nil {
		return nil
	}
	return r.machine.Apply(l)
}

// Snapshot refuses a state with a gap.
func (r *replay) Snapshot() (raft.FSMSnapshot, error) {
	if r.err != nil {
		return nil, r.err
	}
	return r.machine.Snapshot()
}

// Restore replaces the state.
func (r *replay) Restore(in io.ReadCloser) error { return r.machine.Restore(in) }

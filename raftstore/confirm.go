package raftstore

import (
	"context"
	"io"
	"sync"

	"github.com/hashicorp/raft"

	"slipway/raftstore/state"
)

// witness is a transport that remembers, for each server, which of the heartbeats that it
// confirmed was sent last. raft.VerifyLeader takes an answer to any heartbeat, also to one that
// was sent before the question; an answer that was long on its way would confirm a leader that
// another one has followed.
type witness struct {
	raft.Transport

	mu    sync.Mutex
	clock uint64 // counts heartbeats and questions
	seen  map[raft.ServerID]sighting
}

// sighting is a heartbeat that was confirmed.
type sighting struct{ sent, term uint64 }

func newWitness(t raft.Transport) *witness {
	return &witness{Transport: t, seen: map[raft.ServerID]sighting{}}
}

// now returns a time after that of everything sent so far.
func (w *witness) now() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.clock++
	return w.clock
}

// AppendEntries implements raft.Transport; heartbeats go this way.
func (w *witness) AppendEntries(id raft.ServerID, target raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	sent := w.now()
	if err := w.Transport.AppendEntries(id, target, args, resp); err != nil {
		return err
	}
	if !resp.Success || resp.Term != args.Term {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if last := w.seen[id]; last.term < args.Term || last.term == args.Term && last.sent < sent {
		w.seen[id] = sighting{sent, args.Term}
	}
	return nil
}

// confirmed reports whether a majority of the voters, self among them, confirmed a heartbeat of
// the term that was sent after a time.
func (w *witness) confirmed(self raft.ServerID, servers []raft.Server, term, after uint64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	voters, votes := 0, 0
	for _, s := range servers {
		if s.Suffrage != raft.Voter {
			continue
		}
		voters++
		if last := w.seen[s.ID]; s.ID == self || last.term == term && last.sent > after {
			votes++
		}
	}
	return votes > voters/2
}

// RequestPreVote implements raft.WithPreVote.
func (w *witness) RequestPreVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	t, ok := w.Transport.(raft.WithPreVote)
	if !ok {
		return raft.ErrUnsupportedProtocol
	}
	return t.RequestPreVote(id, target, args, resp)
}

// Close implements raft.WithClose.
func (w *witness) Close() error {
	if c, ok := w.Transport.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// Linearizable returns a view that no write acknowledged before the call is missing from. Only
// the leader can give one.
func (s *Store) Linearizable(ctx context.Context) (*state.View, error) {
	term := s.raft.CurrentTerm() // before everything else: what is of another term does not count
	if s.barrier.Load() != term {
		// A new leader does not know all that was committed before it until an entry of its own
		// term is.
		if err := s.Barrier(ctx); err != nil {
			return nil, err
		}
		s.barrier.Store(term)
	}
	committed, asked := s.raft.CommitIndex(), s.witness.now()
	for {
		if err := await(ctx, s.raft.VerifyLeader()); err != nil {
			return nil, s.explain(err)
		}
		if s.raft.CurrentTerm() != term {
			return nil, s.explain(raft.ErrLeadershipLost)
		}
		f := s.raft.GetConfiguration()
		if err := f.Error(); err != nil {
			return nil, s.explain(err)
		}
		if s.witness.confirmed(raft.ServerID(s.cfg.ID), f.Configuration().Servers, term, asked) {
			break
		}
	}
	for s.raft.AppliedIndex() < committed {
		if err := s.Barrier(ctx); err != nil {
			return nil, err
		}
	}
	if err := s.machine.failed.get(); err != nil {
		return nil, stopped(err)
	}
	return s.View(), nil
}

// await waits for what Raft promised, for as long as ctx lasts.
func await(ctx context.Context, f raft.Future) error {
	done := make(chan error, 1)
	go func() { done <- f.Error() }() // Raft answers every future, when it ends at the latest
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

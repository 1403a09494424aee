package raftstore

import (
	"log/slog"
	"time"

	"github.com/hashicorp/raft"

	"slipway/api"
)

// memberTimeout bounds a change of the membership: it is an entry of the log like any other.
const memberTimeout = 10 * time.Second

// Peer is a member as the newest configuration has it.
type Peer struct {
	Member
	// Voter counts towards the quorum; another one only receives the log.
	Voter bool
}

// Members returns the members, this server among them.
func (s *Store) Members() ([]Peer, error) {
	f := s.raft.GetConfiguration()
	if err := f.Error(); err != nil {
		return nil, s.explain(err)
	}
	var out []Peer
	for _, m := range f.Configuration().Servers {
		out = append(out, Peer{Member{string(m.ID), string(m.Address)}, m.Suffrage == raft.Voter})
	}
	return out, nil
}

// Admit makes a server a member that receives the log and has no vote. One that is a member
// already gets its new address and keeps its vote. Only the leader can.
func (s *Store) Admit(m Member) error {
	members, err := s.Members()
	if err != nil {
		return err
	}
	for _, p := range members {
		switch {
		case p.ID == m.ID && p.Addr == m.Addr:
			return nil
		case p.ID != m.ID && p.Addr == m.Addr && !p.Voter: // of an attempt to join that was cut short
			if err := s.Remove(p.ID); err != nil {
				return err
			}
		case p.ID != m.ID && p.Addr == m.Addr:
			return api.Errorf(api.CodeConflict, "server %s has the address %s already; if it is gone for good, remove it first: slipway rack servers remove %s", p.ID, p.Addr, p.ID)
		case p.ID == m.ID && p.Voter:
			return s.explained(s.raft.AddVoter(raft.ServerID(m.ID), raft.ServerAddress(m.Addr), 0, memberTimeout))
		}
	}
	return s.explained(s.raft.AddNonvoter(raft.ServerID(m.ID), raft.ServerAddress(m.Addr), 0, memberTimeout))
}

// Promote gives a member a vote. Only the leader can.
func (s *Store) Promote(m Member) error {
	return s.explained(s.raft.AddVoter(raft.ServerID(m.ID), raft.ServerAddress(m.Addr), 0, memberTimeout))
}

// Remove ends the membership of a server. Only the leader can; a leader that removes itself stops
// leading once that is committed.
func (s *Store) Remove(id string) error {
	return s.explained(s.raft.RemoveServer(raft.ServerID(id), 0, memberTimeout))
}

// Resign hands leadership to another voter that has the whole log.
func (s *Store) Resign() error { return s.explained(s.raft.LeadershipTransfer()) }

func (s *Store) explained(f raft.Future) error {
	if err := f.Error(); err != nil {
		return s.explain(err)
	}
	return nil
}

// Applied returns the index of the last entry of the log that is applied here.
func (s *Store) Applied() uint64 { return s.raft.AppliedIndex() }

// Committed returns the index of the last entry that is known here to be committed.
func (s *Store) Committed() uint64 { return s.raft.CommitIndex() }

// NewTransport returns the transport of a Store over connections of somebody else's making.
func NewTransport(stream raft.StreamLayer, log *slog.Logger) raft.Transport {
	return raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: stream, MaxPool: 3, Timeout: 10 * time.Second, Logger: raftLogger(log),
	})
}

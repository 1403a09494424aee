package server

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"slipway/api"
	"slipway/raftstore"
	"slipway/raftstore/state"
	"slipway/server/gossip"
)

const (
	// membersEvery is how often the leader looks at the servers.
	membersEvery = time.Second
	// promoteAfter is how long a server must have answered that gets a vote.
	promoteAfter = 2 * time.Second
	// removeAfter is how long a voter must have been gone before the rest goes on without it, and
	// votersFloor how many voters that answer must remain.
	removeAfter = 10 * time.Minute
	votersFloor = 3
)

// about is what a server tells the others of itself.
type about struct {
	Server  api.Server `json:"s"`
	Applied uint64     `json:"a"`
}

// sighting is what the leader knows of one server that it has seen.
type sighting struct {
	about api.Server
	// first and last are when it began to answer and when it answered last; target is what was
	// committed when it began, applied what it had applied last.
	first, last     time.Time
	target, applied uint64
}

// move is one change of the membership.
type move struct {
	kind   string // "promote", "remove"
	member raftstore.Member
}

// decideMember chooses the next change of the membership, one at a time: a server that answers and
// is up to date gets a vote; a voter that has been gone for long leaves, if enough of those that
// answer remain. It is pure.
func decideMember(members []raftstore.Peer, seen map[string]sighting, self string, now, leader time.Time) (move, bool) {
	answers := func(id string) bool { return id == self || now.Sub(seen[id].last) < 3*membersEvery }
	alive := 0
	for _, m := range members {
		if m.Voter && answers(m.ID) {
			alive++
		}
	}
	for _, m := range members {
		s := seen[m.ID]
		if !m.Voter && answers(m.ID) && now.Sub(s.first) >= promoteAfter && s.applied >= s.target {
			return move{"promote", m.Member}, true
		}
	}
	for _, m := range members {
		gone := leader // nobody has been seen before this leader was one
		if s, ok := seen[m.ID]; ok && s.last.After(gone) {
			gone = s.last
		}
		if !answers(m.ID) && now.Sub(gone) >= removeAfter && alive >= votersFloor {
			return move{"remove", m.Member}, true
		}
	}
	return move{}, false
}

// look takes in who answers now.
func look(seen map[string]sighting, members []gossip.Member, committed uint64, now time.Time) {
	for _, m := range members {
		var a about
		if json.Unmarshal(m.About, &a) != nil || a.Server.ID != m.ID {
			continue // it has not told yet
		}
		s := seen[m.ID]
		if now.Sub(s.last) >= 3*membersEvery {
			s.first, s.target = now, committed
		}
		s.about, s.applied, s.last = a.Server, a.Applied, now
		seen[m.ID] = s
	}
}

// keepMembers looks after the servers while this one leads.
func (s *Server) keepMembers(ctx context.Context) error {
	if s.gossip == nil {
		return nil
	}
	tick := time.NewTicker(membersEvery)
	defer tick.Stop()
	leader, self := time.Now(), s.identity.Name().ID
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
		now := time.Now()
		s.seenMu.Lock()
		look(s.seen, s.gossip.Members(), s.store.Committed(), now)
		seen := make(map[string]sighting, len(s.seen))
		for id, sight := range s.seen {
			seen[id] = sight
		}
		s.seenMu.Unlock()
		members, err := s.store.Members()
		if err != nil {
			return err
		}
		if err := s.record(ctx, members, seen); err != nil {
			return err
		}
		m, ok := decideMember(members, seen, self, now, leader)
		if !ok {
			continue
		}
		if err := s.change(ctx, m); err != nil {
			s.cfg.Log.Warn("servers not changed", "change", m.kind, "server", m.member.ID, "err", err)
		}
	}
}

// record stores what has changed of what servers tell of themselves.
func (s *Server) record(ctx context.Context, members []raftstore.Peer, seen map[string]sighting) error {
	v := s.store.View()
	for _, m := range members {
		sight, ok := seen[m.ID]
		known, stored := v.Server(m.ID)
		if !ok {
			continue
		}
		if stored {
			sight.about.Joined = known.Joined
			if sight.about == *known {
				continue
			}
		}
		if !sight.about.Formats.Reads(v.Format()) {
			continue // it stops as soon as it gets to know
		}
		if sight.about.Raft != m.Addr {
			if err := s.store.Admit(raftstore.Member{ID: m.ID, Addr: sight.about.Raft}); err != nil {
				return err
			}
		}
		if _, err := s.store.Propose(ctx, s.entry(state.PutServer{Server: sight.about})); err != nil {
			return err
		}
	}
	return nil
}

// change carries out one change of the membership.
func (s *Server) change(ctx context.Context, m move) error {
	s.cfg.Log.Info("servers change", "change", m.kind, "server", m.member.ID, "addr", m.member.Addr)
	if m.kind == "promote" {
		return s.store.Promote(m.member)
	}
	return s.RemoveServer(ctx, m.member.ID, s.entry(nil))
}

// RemoveServer ends the membership of a server for good: it has to join again. as says who wants
// it, and why.
func (s *Server) RemoveServer(ctx context.Context, id string, as state.Entry) error {
	members, err := s.store.Members()
	if err != nil {
		return err
	}
	voters := 0
	for _, m := range members {
		if m.Voter && m.ID != id {
			voters++
		}
	}
	switch {
	case !slices.ContainsFunc(members, func(m raftstore.Peer) bool { return m.ID == id }):
		return api.Errorf(api.CodeNotFound, "server %q is no member of the rack; see: slipway rack servers", id)
	case voters == 0:
		return api.Errorf(api.CodeConflict, "server %s is the only one with a vote: without it the rack could decide nothing", id)
	}
	if err := s.store.Remove(id); err != nil {
		return err
	}
	as.Command = state.RemoveServer{ID: id}
	_, err = s.store.Propose(ctx, as)
	return err
}

// Servers describes the servers of the rack. Only the leader can.
func (s *Server) Servers() ([]api.Server, error) {
	members, err := s.store.Members()
	if err != nil {
		return nil, err
	}
	v, leader := s.store.View(), s.leaderID()
	s.seenMu.Lock()
	defer s.seenMu.Unlock()
	var out []api.Server
	for _, m := range members {
		one := api.Server{ID: m.ID, Raft: m.Addr}
		if known, ok := v.Server(m.ID); ok {
			one = *known
		}
		one.Voter, one.Leader, one.Status = m.Voter, m.ID == leader, "silent"
		if s, ok := s.seen[m.ID]; ok {
			one.Contact = s.last
		}
		if one.Leader || time.Since(one.Contact) < 3*membersEvery {
			one.Status = "alive"
		}
		out = append(out, one)
	}
	return out, nil
}

// openGossip opens this server's part of the gossip; nil in a rack of one.
func (s *Server) openGossip() (err error) {
	if s.cfg.GossipAddr == "" {
		return nil
	}
	key, err := hex.DecodeString(s.keyring.Digest([]byte("gossip")))
	if err != nil {
		return fmt.Errorf("key of the gossip: %w", err)
	}
	id := s.identity.Name().ID
	s.gossip, err = gossip.Open(gossip.Config{
		ID: id, Addr: s.cfg.GossipAddr, Key: key, Log: s.cfg.Log,
		About: func() []byte {
			doc, err := json.Marshal(about{Server: s.cfg.about(id), Applied: s.store.Applied()})
			if err != nil {
				s.cfg.Log.Error("this server cannot tell of itself", "err", err)
			}
			return doc
		},
		Others: func() []string {
			var out []string
			for o := range s.store.View().Servers() {
				if o.ID != id && o.Gossip != "" {
					out = append(out, o.Gossip)
				}
			}
			return out
		},
	})
	return err
}

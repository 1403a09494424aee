package dispatch

import (
	"context"
	"time"

	"slipway/api"
	"slipway/api/pb"
	"slipway/raftstore/state"
)

// told is what an agent has been sent.
type told struct {
	whole        bool // everything, at least once
	assigned     []known
	names, peers uint64 // numbers of the changes in the ledgers
	routes       uint64
	servers      string
}

// tell sends the newest truth whenever it differs from what the agent has.
func (s *Server) tell(ctx context.Context, c *session) error {
	var has told
	var gap time.Duration
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-c.wake:
		}
		if gap > 0 { // what comes meanwhile goes along
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-time.After(gap):
			}
		}
		gap = 0
		for _, m := range s.news(c, &has) {
			if m.GetAssignments() != nil {
				gap = s.gap()
			}
			if err := c.send(m); err != nil {
				return err
			}
		}
	}
}

// gap is how long a session lets assignments come together.
func (s *Server) gap() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Duration(len(s.sessions)) * assignmentCost
}

// news returns what an agent has not been sent.
func (s *Server) news(c *session, has *told) (out []*pb.ServerMessage) {
	if !has.whole {
		has.peers, has.names = c.desk.known(c.peers, c.names)
	}
	v, before, after := c.desk.news(has, c.changes)
	now, m := s.assigned(v, c, has)
	has.assigned, has.whole = now, true
	out = before
	if m != nil {
		out = append(out, m)
	}
	return append(out, after...)
}

// known returns the numbers of the last changes to who knows the tables by their digests.
func (d *desk) known(peers, names digest) (atPeers, atNames uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.peers.knows(peers), d.names.knows(names)
}

// news returns the state to tell of, and which documents to send before the assignments of that
// state, and after them.
func (d *desk) news(has *told, changes bool) (v *state.View, before, after []*pb.ServerMessage) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !has.whole || d.version != has.routes {
		before = append(before, d.routes)
	}
	if d.peers.at != has.peers {
		before = append(before, d.peersSince(has.peers, changes))
	}
	if d.names.at != has.names {
		after = append(after, d.namesSince(has.names, changes))
	}
	if !has.whole || d.listed != has.servers {
		after = append(after, d.list)
	}
	has.routes, has.peers, has.names, has.servers = d.version, d.peers.at, d.names.at, d.listed
	return d.view, before, after
}

// assigned returns what an agent knows from now on, and the message that tells it so; nil when it
// knows already.
func (s *Server) assigned(v *state.View, c *session, has *told) ([]known, *pb.ServerMessage) {
	diff := compare(has.assigned, v.ProcessesOn(c.node))
	if has.whole && len(diff.fresh)+len(diff.gone) == 0 {
		return has.assigned, nil
	}
	set := &pb.AssignmentSet{Version: v.Index(), Change: has.whole && c.changes, Gone: diff.gone}
	if !set.Change {
		diff.fresh, set.Gone = nil, nil
		for p := range v.ProcessesOn(c.node) {
			diff.fresh = append(diff.fresh, p)
		}
	}
	left := map[api.ProcessID]bool{}
	for _, p := range diff.fresh {
		doc, err := s.documents.assignment(v, p, s.cfg.Secrets)
		if err != nil {
			s.cfg.Log.Error("assignment left out", "node", c.node, "process", p.ID, "err", err)
			left[p.ID] = true
			continue
		}
		set.Assignment = append(set.Assignment, doc)
	}
	return diff.without(left, has.assigned), &pb.ServerMessage{Kind: &pb.ServerMessage_Assignments{Assignments: set}}
}

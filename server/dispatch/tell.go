package dispatch

import (
	"context"
	"slices"
	"strings"
	"sync"

	"slipway/api/pb"
	"slipway/raftstore/state"
)

// told is what an agent has been sent.
type told struct {
	first                bool
	assigned             uint64
	names, peers, routes uint64
	servers              string
}

// tell sends the newest truth whenever it differs from what the agent has.
func (s *Server) tell(ctx context.Context, c *session) error {
	has := told{first: true}
	for after := uint64(0); ; {
		v, err := s.cfg.Store.Next(ctx, after)
		if err != nil {
			return err
		}
		after = v.Index()
		for _, m := range s.news(v, c, &has) {
			if err := c.send(m); err != nil {
				return err
			}
		}
		has.first = false
	}
}

// news returns what an agent has not been sent of a view.
func (s *Server) news(v *state.View, c *session, has *told) (out []*pb.ServerMessage) {
	if table := v.RouteTable(); has.first || table.Version != has.routes {
		has.routes = table.Version
		out = append(out, &pb.ServerMessage{Kind: &pb.ServerMessage_Routes{Routes: &pb.Routes{Version: table.Version, Table: pb.Marshal(table)}}})
	}
	shared := s.shared.of(v)
	if has.first || shared.peersDigest != has.peers { // before what runs there
		has.peers = shared.peersDigest
		out = append(out, &pb.ServerMessage{Kind: &pb.ServerMessage_Peers{Peers: shared.peers}})
	}
	if n := signature(v, c.node); has.first || n != has.assigned {
		has.assigned = n
		set, failed := assignments(v, c.node, s.cfg.Secrets)
		if failed != nil {
			s.cfg.Log.Error("assignment left out", "node", c.node, "err", failed)
		}
		out = append(out, &pb.ServerMessage{Kind: &pb.ServerMessage_Assignments{Assignments: set}})
	}
	if has.first || shared.namesDigest != has.names {
		has.names = shared.namesDigest
		out = append(out, &pb.ServerMessage{Kind: &pb.ServerMessage_Names{Names: shared.names}})
	}
	servers := s.cfg.Servers()
	if text := listed(servers); has.first || text != has.servers {
		has.servers = text
		out = append(out, &pb.ServerMessage{Kind: &pb.ServerMessage_Servers{Servers: servers}})
	}
	return out
}

func listed(servers *pb.Servers) string {
	var b strings.Builder
	for _, s := range servers.GetServer() {
		b.WriteString(s.Addr + " " + s.Registry + "\n")
	}
	return b.String()
}

// shared is what all agents are told alike. It is derived once for each state that somebody is told
// of.
type shared struct {
	mu    sync.Mutex
	index uint64
	docs  sharedDocs
}

type sharedDocs struct {
	names       *pb.Names
	namesDigest uint64
	peers       *pb.Peers
	peersDigest uint64
}

func (s *shared) of(v *state.View) sharedDocs {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.docs.names == nil || s.index < v.Index() {
		names, peers := names(v), peers(v)
		s.index, s.docs = v.Index(), sharedDocs{names, digest(names), peers, digest(peers)}
	}
	return s.docs
}

// peers lists the nodes that have a subnet of the rack's network.
func peers(v *state.View) *pb.Peers {
	out := &pb.Peers{}
	for n := range v.Nodes() {
		if n.Subnet != "" {
			out.Peer = append(out.Peer, &pb.Peer{Node: string(n.ID), Addr: n.Addr, Subnet: n.Subnet})
		}
	}
	slices.SortFunc(out.Peer, func(a, b *pb.Peer) int { return strings.Compare(a.Node, b.Node) })
	return out
}

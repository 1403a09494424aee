package agent

import (
	"maps"
	"slices"
	"strings"

	"slipway/api"
	"slipway/api/pb"
)

// copies are what a session has heard so far. Servers send whole tables and, later, changes to them.
// What is handed on is never written to again.
type copies struct {
	assignments map[api.ProcessID]api.Assignment
	names       map[string]*pb.Addresses
	peers       map[string]*pb.Peer
}

// assign takes a set, or changes to it, and returns the whole set, in the order of IDs.
func (c *copies) assign(m *pb.AssignmentSet) (api.AssignmentSet, error) {
	if !m.Change || c.assignments == nil {
		c.assignments = map[api.ProcessID]api.Assignment{}
	}
	for _, id := range m.Gone {
		delete(c.assignments, api.ProcessID(id))
	}
	for _, doc := range m.Assignment {
		a, err := pb.Unmarshal[api.Assignment](doc)
		if err != nil {
			return api.AssignmentSet{}, err
		}
		c.assignments[a.Process] = a
	}
	set := api.AssignmentSet{Version: m.Version}
	for _, id := range slices.Sorted(maps.Keys(c.assignments)) {
		set.Assignments = append(set.Assignments, c.assignments[id])
	}
	return set, nil
}

// name takes names, or changes to them, and returns all.
func (c *copies) name(m *pb.Names) *pb.Names {
	if !m.Change {
		c.names = m.Names
		return m
	}
	c.names = maps.Clone(c.names)
	if c.names == nil {
		c.names = map[string]*pb.Addresses{}
	}
	for name, addrs := range m.Names {
		if len(addrs.Address) == 0 {
			delete(c.names, name)
		} else {
			c.names[name] = addrs
		}
	}
	return &pb.Names{Names: c.names}
}

// peer takes peers, or changes to them, and returns all, in the order of their nodes.
func (c *copies) peer(m *pb.Peers) *pb.Peers {
	if !m.Change || c.peers == nil {
		c.peers = map[string]*pb.Peer{}
	}
	for _, p := range m.Peer {
		if p.Subnet == "" {
			delete(c.peers, p.Node)
		} else {
			c.peers[p.Node] = p
		}
	}
	all := slices.Collect(maps.Values(c.peers))
	slices.SortFunc(all, func(a, b *pb.Peer) int { return strings.Compare(a.Node, b.Node) })
	return &pb.Peers{Peer: all}
}

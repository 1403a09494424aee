package agent

import (
	"maps"
	"net/netip"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"slipway/api"
	"slipway/api/pb"
)

// copies are what a worker has heard so far. Servers send whole tables and, later, changes to them; of
// tables that are known by their digests, a new session begins with changes. What is handed on is never
// written to again.
type copies struct {
	peersDigest, namesDigest uint64 // of the tables below; 0 for none

	assignments map[api.ProcessID]api.Assignment
	names       map[string][]netip.AddrPort
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

// name takes names, or changes to them, and returns the endpoints of all.
func (c *copies) name(m *pb.Names) (map[string][]netip.AddrPort, error) {
	c.namesDigest = 0 // of half a message
	all := map[string][]netip.AddrPort{}
	if m.Change {
		maps.Copy(all, c.names)
	}
	for _, n := range m.Name {
		added, err := pb.UnpackEndpoints(n.Added)
		if err != nil {
			return nil, err
		}
		removed, err := pb.UnpackEndpoints(n.Removed)
		if err != nil {
			return nil, err
		}
		now := append(slices.Clone(all[n.Name]), added...)
		slices.SortFunc(now, netip.AddrPort.Compare)
		slices.SortFunc(removed, netip.AddrPort.Compare)
		now = slices.DeleteFunc(slices.Compact(now), func(e netip.AddrPort) bool {
			_, gone := slices.BinarySearchFunc(removed, e, netip.AddrPort.Compare)
			return gone
		})
		if all[n.Name] = now; len(now) == 0 {
			delete(all, n.Name)
		}
	}
	c.names, c.namesDigest = all, m.Digest
	return all, nil
}

// peer takes peers, or changes to them, and returns all, in the order of their nodes.
func (c *copies) peer(m *pb.Peers) ([]*pb.Peer, error) {
	c.peersDigest = 0 // of half a message
	var list pb.PeerList
	if err := proto.Unmarshal(m.List, &list); err != nil {
		return nil, api.Errorf(api.CodeInvalid, "the servers' list of nodes: %w", err)
	}
	if !m.Change || c.peers == nil {
		c.peers = map[string]*pb.Peer{}
	}
	for _, p := range list.Peer {
		if p.Subnet == "" {
			delete(c.peers, p.Node)
		} else {
			c.peers[p.Node] = p
		}
	}
	all := slices.Collect(maps.Values(c.peers))
	slices.SortFunc(all, func(a, b *pb.Peer) int { return strings.Compare(a.Node, b.Node) })
	c.peersDigest = m.Digest
	return all, nil
}

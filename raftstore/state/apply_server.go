package state

import (
	"iter"
	"net/netip"
	"time"

	"slipway/api"
)

// The commands about servers.
type (
	// PutServer stores what a server says of itself. Joined is kept from the first time.
	PutServer struct{ Server api.Server }
	// RemoveServer forgets a server that has left the quorum.
	RemoveServer struct{ ID string }
)

// Type names of the commands in the log.
func (PutServer) Type() string    { return "put_server" }
func (RemoveServer) Type() string { return "remove_server" }

// Servers returns the servers on record, by ID.
func (v *View) Servers() iter.Seq[*api.Server] { return values(v.servers, "") }

// Server returns a server on record.
func (v *View) Server(id string) (*api.Server, bool) { return v.servers.get(id) }

func (c *change) putServer(cmd PutServer) *api.Error {
	s := cmd.Server
	if s.ID == "" || s.Raft == "" {
		return api.Errorf(api.CodeInvalid, "a server must have an ID and an address")
	}
	if err := c.readable(&s); err != nil {
		return err
	}
	s.Leader, s.Voter, s.Status, s.Contact = false, false, "", time.Time{}
	old, known := c.Server(s.ID)
	if s.Joined = c.at; known {
		s.Joined = old.Joined
	}
	for other := range c.Servers() {
		if other.ID != s.ID && other.Raft == s.Raft { // it came back under another name
			drop(c, &c.servers, other.ID)
			drop(c, &c.holdings, "server/"+other.ID)
		}
	}
	put(c, &c.servers, s.ID, &s)
	switch {
	case !known:
		c.event("server.joined", "", s.ID, s.Name)
	case old.Version != s.Version:
		c.event("server.upgraded", "", s.ID, s.Name+": from "+old.Version+" to "+s.Version)
	}
	return nil
}

func (c *change) removeServer(cmd RemoveServer) *api.Error {
	s, ok := c.Server(cmd.ID)
	if !ok {
		return api.NotFound("server", cmd.ID, nil)
	}
	drop(c, &c.servers, cmd.ID)
	c.dismissed(s)
	c.event("server.removed", "", s.ID, s.Name)
	return nil
}

// nodeBits is the size of a node's subnet: 253 processes and the gateway.
const nodeBits = 24

// subnet returns the subnet of a node: the one it has, or the first that no other node has. Nodes
// choose for themselves in a rack without a network.
func (c *change) subnet(id api.NodeID) (string, *api.Error) {
	network, err := netip.ParsePrefix(c.rack.Network)
	if err != nil {
		return "", nil
	}
	if known, ok := c.Node(id); ok && c.inNetwork(known.Subnet) {
		return known.Subnet, nil
	}
	p := netip.PrefixFrom(network.Masked().Addr(), nodeBits)
	if c.subnetsFrom.IsValid() && network.Contains(c.subnetsFrom.Addr()) {
		p = c.subnetsFrom
	}
	for ; network.Contains(p.Addr()); p = after(p) {
		if _, taken := c.subnets.get(p.String()); !taken {
			c.subnetsFrom = p
			return p.String(), nil
		}
	}
	return "", api.Errorf(api.CodeExhausted, "the rack's network %s has no subnet left for node %s; remove nodes that are gone: slipway nodes remove", network, id)
}

// inNetwork reports whether a node may have a subnet: one of the rack's network, or none in a rack
// without.
func (v *View) inNetwork(subnet string) bool {
	network, err := netip.ParsePrefix(v.rack.Network)
	if err != nil {
		return subnet == ""
	}
	p, err := netip.ParsePrefix(subnet)
	return err == nil && network.Contains(p.Addr())
}

// after returns the prefix of equal size that follows.
func after(p netip.Prefix) netip.Prefix {
	b := p.Addr().As4()
	for i := p.Bits()/8 - 1; i >= 0; i-- {
		if b[i]++; b[i] != 0 {
			break
		}
	}
	return netip.PrefixFrom(netip.AddrFrom4(b), p.Bits())
}

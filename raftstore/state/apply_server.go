package state

import (
	"iter"
	"net/netip"
	"time"

	"slipway/api"
)

// Authority is one certificate authority of the rack. The key is sealed with the servers' keyring.
type Authority struct {
	Fingerprint string // SHA-256 of the certificate, hex
	Cert        []byte // PEM
	Key         []byte // sealed
	Created     time.Time
	// Active signs; the others are trusted only.
	Active bool
}

// The commands about servers and whom machines trust.
type (
	// PutServer stores what a server says of itself. Joined is kept from the first time.
	PutServer struct{ Server api.Server }
	// RemoveServer forgets a server that has left the quorum.
	RemoveServer struct{ ID string }
	// PutAuthority stores an authority. An active one takes the place of the one that was.
	PutAuthority struct{ Authority Authority }
	// RemoveAuthority ends the trust in an authority that is not active.
	RemoveAuthority struct{ Fingerprint string }
)

// Type names of the commands in the log.
func (PutServer) Type() string       { return "put_server" }
func (RemoveServer) Type() string    { return "remove_server" }
func (PutAuthority) Type() string    { return "put_authority" }
func (RemoveAuthority) Type() string { return "remove_authority" }

// Servers returns the servers on record, by ID.
func (v *View) Servers() iter.Seq[*api.Server] { return values(v.servers, "") }

// Server returns a server on record.
func (v *View) Server(id string) (*api.Server, bool) { return v.servers.get(id) }

// Authorities returns the authorities that machines trust, by fingerprint.
func (v *View) Authorities() iter.Seq[*Authority] { return values(v.authorities, "") }

// Authority returns the one that signs; false in a rack that is being made.
func (v *View) Authority() (*Authority, bool) {
	for a := range v.Authorities() {
		if a.Active {
			return a, true
		}
	}
	return nil, false
}

func (c *change) putServer(cmd PutServer) *api.Error {
	s := cmd.Server
	if s.ID == "" || s.Raft == "" {
		return api.Errorf(api.CodeInvalid, "a server must have an ID and an address")
	}
	s.Leader, s.Voter, s.Status, s.Contact = false, false, "", time.Time{}
	old, known := c.Server(s.ID)
	if s.Joined = c.at; known {
		s.Joined = old.Joined
	}
	for other := range c.Servers() {
		if other.ID != s.ID && other.Raft == s.Raft { // it came back under another name
			drop(c, &c.servers, other.ID)
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
	c.event("server.removed", "", s.ID, s.Name)
	return nil
}

func (c *change) putAuthority(cmd PutAuthority) *api.Error {
	a := cmd.Authority
	if a.Fingerprint == "" || len(a.Cert) == 0 || len(a.Key) == 0 {
		return api.Errorf(api.CodeInvalid, "an authority must have a fingerprint, a certificate and a key")
	}
	if old, ok := c.Authority(); ok && a.Active && old.Fingerprint != a.Fingerprint {
		passive := *old
		passive.Active = false
		put(c, &c.authorities, passive.Fingerprint, &passive)
	}
	_, known := c.authorities.get(a.Fingerprint)
	put(c, &c.authorities, a.Fingerprint, &a)
	switch {
	case a.Active:
		c.event("authority.active", "", a.Fingerprint, "")
	case !known:
		c.event("authority.added", "", a.Fingerprint, "")
	}
	return nil
}

func (c *change) removeAuthority(cmd RemoveAuthority) *api.Error {
	a, ok := c.authorities.get(cmd.Fingerprint)
	switch {
	case !ok:
		return api.NotFound("authority", cmd.Fingerprint, nil)
	case a.Active:
		return api.Errorf(api.CodeConflict, "authority %s signs the rack's certificates and cannot be removed", cmd.Fingerprint)
	}
	drop(c, &c.authorities, cmd.Fingerprint)
	c.event("authority.removed", "", cmd.Fingerprint, "")
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
	taken := map[netip.Prefix]bool{}
	for n := range c.Nodes() {
		p, err := netip.ParsePrefix(n.Subnet)
		switch {
		case err != nil:
		case n.ID == id && network.Contains(p.Addr()):
			return n.Subnet, nil
		default:
			taken[p] = true
		}
	}
	p := netip.PrefixFrom(network.Masked().Addr(), nodeBits)
	for network.Contains(p.Addr()) {
		if !taken[p] {
			return p.String(), nil
		}
		p = after(p)
	}
	return "", api.Errorf(api.CodeExhausted, "the rack's network %s has no subnet left for node %s; remove nodes that are gone: slipway nodes remove", network, id)
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

package state

import (
	"iter"
	"slices"
	"strings"
	"time"

	"slipway/api"
)

// Authority is one certificate authority of the rack. The key is sealed with the servers' keyring.
// A replacement adds a second one, which is trusted before it signs; the one before is trusted until
// nothing needs it.
type Authority struct {
	Fingerprint string // SHA-256 of the certificate, hex
	Cert        []byte // PEM
	Key         []byte // sealed
	Created     time.Time
	// Active signs; the others are trusted only.
	Active bool
	// Since is when it began to sign; zero for one that has not yet.
	Since time.Time `json:",omitzero"`
	// Cross are certificates in PEM of this authority that those before it have signed: whoever
	// trusts one of those only can tell by them that this one took its place. Empty for a rack's first.
	Cross []byte `json:",omitempty"`
	// Left are machines, "node/<id>" or "server/<id>", that its taking over does not wait for.
	Left []string `json:",omitempty"`
}

// Stage returns where the authority is in its life.
func (a *Authority) Stage() api.AuthorityStage {
	switch {
	case a.Active:
		return api.AuthoritySigning
	case a.Since.IsZero():
		return api.AuthorityAdded
	}
	return api.AuthorityLeaving
}

// Holding is what a machine says of its certificate, and of whom it trusts.
type Holding struct {
	Machine string   // "node/<id>" or "server/<id>"
	Issuer  string   // fingerprint of the authority that signed its certificate
	Trusts  []string // fingerprints of the authorities that it trusts, sorted
	At      time.Time
}

// Equal reports whether two machines, or one at two times, hold the same.
func (h *Holding) Equal(other *Holding) bool {
	return h.Issuer == other.Issuer && slices.Equal(h.Trusts, other.Trusts)
}

// The commands about whom machines trust.
type (
	// PutAuthority stores an authority: the first of a rack, which is active, or one that is to take
	// its place and is not. There are never more than two.
	PutAuthority struct{ Authority Authority }
	// SwitchAuthority makes an authority that was added sign, instead of the one that does.
	SwitchAuthority struct{ Fingerprint string }
	// LeaveBehind says which machines the newest authority does not wait for.
	LeaveBehind struct{ Machines []string }
	// RemoveAuthority ends the trust in an authority that is not active. Left are the machines that
	// have not followed, in words.
	RemoveAuthority struct {
		Fingerprint string
		Left        []string `json:",omitempty"`
	}
	// PutHolding stores what a machine on record says of itself; At is set by Apply.
	PutHolding struct{ Holding Holding }
)

// Type names of the commands in the log.
func (PutAuthority) Type() string    { return "put_authority" }
func (SwitchAuthority) Type() string { return "switch_authority" }
func (LeaveBehind) Type() string     { return "leave_behind" }
func (RemoveAuthority) Type() string { return "remove_authority" }
func (PutHolding) Type() string      { return "put_holding" }

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

// Replacing returns the authorities that take part in a replacement: the one that comes and the one
// that goes; false when there is none under way.
func (v *View) Replacing() (comes, goes *Authority, ok bool) {
	var added, signs, leaves *Authority
	for a := range v.Authorities() {
		switch a.Stage() {
		case api.AuthorityAdded:
			added = a
		case api.AuthoritySigning:
			signs = a
		case api.AuthorityLeaving:
			leaves = a
		}
	}
	switch {
	case signs != nil && added != nil:
		return added, signs, true
	case signs != nil && leaves != nil:
		return signs, leaves, true
	}
	return nil, nil, false
}

// Holding returns what a machine, "node/<id>" or "server/<id>", said of itself.
func (v *View) Holding(machine string) (*Holding, bool) { return v.holdings.get(machine) }

// Trusted returns the fingerprints of the authorities that machines are to trust, sorted.
func (v *View) Trusted() []string {
	var out []string
	for a := range v.Authorities() {
		out = append(out, a.Fingerprint)
	}
	return out
}

func (c *change) putAuthority(cmd PutAuthority) *api.Error {
	a := cmd.Authority
	signs, replaces := c.Authority()
	switch {
	case a.Fingerprint == "" || len(a.Cert) == 0 || len(a.Key) == 0:
		return api.Errorf(api.CodeInvalid, "an authority must have a fingerprint, a certificate and a key")
	case !replaces && !a.Active:
		return api.Errorf(api.CodeConflict, "the first authority of a rack must sign")
	case replaces && a.Fingerprint == signs.Fingerprint:
		return nil // told twice
	case replaces && a.Active:
		return api.Errorf(api.CodeConflict, "authority %s signs already; another one is added first", short(signs.Fingerprint))
	case c.authorities.len() > 1:
		return api.Errorf(api.CodeConflict, "the rack's authority is being replaced already; see: slipway rack ca")
	}
	a.Since = time.Time{}
	if a.Active {
		a.Since = a.Created
	}
	put(c, &c.authorities, a.Fingerprint, &a)
	if a.Active {
		c.event("authority.active", "", a.Fingerprint, "")
		return nil
	}
	c.event("authority.added", "", a.Fingerprint, "it takes the place of "+short(signs.Fingerprint)+" once every machine trusts it")
	return nil
}

func (c *change) switchAuthority(cmd SwitchAuthority) *api.Error {
	next, ok := c.authorities.get(cmd.Fingerprint)
	if !ok {
		return api.NotFound("authority", cmd.Fingerprint, nil)
	}
	before, ok := c.Authority()
	if !ok || next.Stage() != api.AuthorityAdded {
		return api.Errorf(api.CodeConflict, "authority %s is not one that waits to sign", short(cmd.Fingerprint))
	}
	a, passive := *next, *before
	a.Active, a.Since, passive.Active = true, c.at, false
	if passive.Since.IsZero() { // a rack that was made before this was noted
		passive.Since = c.at
	}
	put(c, &c.authorities, passive.Fingerprint, &passive)
	put(c, &c.authorities, a.Fingerprint, &a)
	c.event("authority.active", "", a.Fingerprint, "in place of "+short(before.Fingerprint))
	return nil
}

func (c *change) leaveBehind(cmd LeaveBehind) *api.Error {
	comes, _, ok := c.Replacing()
	switch {
	case !ok:
		return api.Errorf(api.CodeConflict, "the rack's authority is not being replaced; begin with: slipway rack ca rotate")
	case len(cmd.Machines) == 0:
		return api.Errorf(api.CodeInvalid, "no machine is named that is left behind")
	}
	a := *comes
	a.Left = slices.Compact(slices.Sorted(slices.Values(slices.Concat(a.Left, cmd.Machines))))
	put(c, &c.authorities, a.Fingerprint, &a)
	c.event("authority.forced", "", a.Fingerprint, "not waited for: "+strings.Join(cmd.Machines, ", "))
	return nil
}

func (c *change) removeAuthority(cmd RemoveAuthority) *api.Error {
	a, ok := c.authorities.get(cmd.Fingerprint)
	switch {
	case !ok:
		return api.NotFound("authority", cmd.Fingerprint, nil)
	case a.Active:
		return api.Errorf(api.CodeConflict, "authority %s signs the rack's certificates and cannot be removed", short(cmd.Fingerprint))
	}
	drop(c, &c.authorities, cmd.Fingerprint)
	if signs, ok := c.Authority(); ok && len(signs.Left) > 0 {
		stays := *signs
		stays.Left = nil
		put(c, &c.authorities, stays.Fingerprint, &stays)
	}
	message := "every machine has followed"
	if len(cmd.Left) > 0 {
		message = "left behind, to join anew: " + strings.Join(cmd.Left, ", ")
	}
	c.event("authority.removed", "", cmd.Fingerprint, message)
	return nil
}

func (c *change) putHolding(cmd PutHolding) *api.Error {
	h := cmd.Holding
	if !c.onRecord(h.Machine) {
		return api.NotFound("machine", h.Machine, nil)
	}
	h.At = c.at
	put(c, &c.holdings, h.Machine, &h)
	return nil
}

// onRecord reports whether a machine, "node/<id>" or "server/<id>", is part of the rack.
func (c *change) onRecord(machine string) bool {
	role, id, _ := strings.Cut(machine, "/")
	_, node := c.Node(api.NodeID(id))
	_, server := c.Server(id)
	return role == "node" && node || role == "server" && server
}

// dismissed marks a server that was removed, so that its certificate is good for nothing.
func (c *change) dismissed(s *api.Server) {
	drop(c, &c.holdings, "server/"+s.ID)
	c.remember("server/"+s.ID, s.Name)
}

// Dismissed reports whether a server was removed from the rack.
func (v *View) Dismissed(server string) bool {
	_, ok := v.removed.get("server/" + server)
	return ok
}

// short is how people tell fingerprints apart.
func short(fingerprint string) string { return fingerprint[:min(len(fingerprint), 12)] }

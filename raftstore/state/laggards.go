package state

import (
	"iter"
	"slices"

	"slipway/api"
)

// Laggards returns the machines that have not followed the replacement of the rack's authority as far
// as its present stage asks for, servers first: first all are to trust the authority that comes, then
// all are to have a certificate of it. None when no authority is being replaced.
func (v *View) Laggards() (out []api.Laggard) {
	comes, _, ok := v.Replacing()
	if !ok {
		return nil
	}
	for m := range v.machines() {
		if m.Why = v.lags(m, comes); m.Why != "" {
			m.Waited = !slices.Contains(comes.Left, m.Machine)
			out = append(out, m)
		}
	}
	return out
}

// machines returns the servers and nodes on record. What may keep one is its Why.
func (v *View) machines() iter.Seq[api.Laggard] {
	return func(yield func(api.Laggard) bool) {
		for s := range v.Servers() {
			if !yield(api.Laggard{Machine: "server/" + s.ID, Name: s.Called()}) {
				return
			}
		}
		for n := range v.Nodes() {
			m := api.Laggard{Machine: "node/" + string(n.ID), Name: n.Name}
			if n.Status == api.NodeDown {
				m.Why = "; it is down"
			}
			if !yield(m) {
				return
			}
		}
	}
}

// lags says how far a machine is behind, "" when it is not.
func (v *View) lags(m api.Laggard, comes *Authority) string {
	h, told := v.Holding(m.Machine)
	switch {
	case !told:
		return "has not told yet whom it trusts" + m.Why
	case !slices.Contains(h.Trusts, comes.Fingerprint):
		return "does not trust the new authority yet" + m.Why
	case comes.Active && h.Issuer != comes.Fingerprint:
		return "has a certificate of the old authority" + m.Why
	}
	return ""
}

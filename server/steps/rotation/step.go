package rotation

import (
	"slices"
	"time"

	"slipway/api"
	"slipway/raftstore/state"
	"slipway/server/steps"
)

// Settle is how long the old authority stays trusted after the last machine has a certificate of the
// new one, unless the rack is configured otherwise: requests that are under way on connections of
// before get to their end, and such connections are left when they are used next.
const Settle = time.Minute

// Step moves a replacement on when all machines that it waits for have followed.
func Step(v *state.View, _ state.Changes, in steps.Input) (cmds []state.Command, wake time.Time) {
	comes, goes, ok := v.Replacing()
	if !ok {
		return nil, time.Time{}
	}
	behind := v.Laggards()
	if slices.ContainsFunc(behind, func(l api.Laggard) bool { return l.Waited }) {
		return nil, time.Time{}
	}
	if !comes.Active {
		return []state.Command{state.SwitchAuthority{Fingerprint: comes.Fingerprint}}, time.Time{}
	}
	settle := in.Settle
	if settle == 0 {
		settle = Settle
	}
	if until := in.Since(followed(v, comes)...).Add(settle); in.Now.Before(until) {
		return nil, until
	}
	remove := state.RemoveAuthority{Fingerprint: goes.Fingerprint}
	for _, l := range behind {
		remove.Left = append(remove.Left, l.String())
	}
	return []state.Command{remove}, time.Time{}
}

// followed returns when the authority began to sign, and when machines told last what they hold.
func followed(v *state.View, comes *state.Authority) []time.Time {
	at := []time.Time{comes.Since}
	for s := range v.Servers() {
		if h, ok := v.Holding("server/" + s.ID); ok {
			at = append(at, h.At)
		}
	}
	for n := range v.Nodes() {
		if h, ok := v.Holding("node/" + string(n.ID)); ok {
			at = append(at, h.At)
		}
	}
	return at
}

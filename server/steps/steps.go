package steps

import (
	"time"

	"slipway/api"
	"slipway/raftstore/state"
)

// Input is what a step may not find out itself.
type Input struct {
	Now time.Time
	IDs *api.IDs
	// Leader is when this server began to lead.
	Leader time.Time
	// Heartbeats is when each node was last heard of, as far as this leader knows; nil where liveness.Looks
	// says that nobody looks.
	Heartbeats map[api.NodeID]time.Time
	// Attached are the nodes whose session with this leader has not ended; nil as Heartbeats is.
	Attached map[api.NodeID]bool
	// Silence is how long a node may say nothing before it counts as down; 0 for the default.
	Silence time.Duration
	// Settle is how long an authority that signs no more stays trusted after every machine has a
	// certificate of the next; 0 for the default.
	Settle time.Duration
}

// Since is the moment from which a wait that began at any of the given ones counts: the latest
// of them, but not before this leader could hear of its end. Nobody's patience runs out while
// nobody leads.
func (in Input) Since(began ...time.Time) time.Time {
	at := in.Leader
	for _, t := range began {
		if t.After(at) {
			at = t
		}
	}
	return at
}

// Sooner returns the earlier of two wake-up times; zero means never.
func Sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// Apps returns the apps that a change set touches, in name order.
func Apps(v *state.View, ch state.Changes) []*api.App {
	touched := map[api.AppName]bool{}
	for k := range ch.Services {
		touched[k.App] = true
	}
	var out []*api.App
	for a := range v.Apps() {
		if ch.All || touched[a.Name] || ch.Apps[a.Name] || ch.Routes[a.Name] {
			out = append(out, a)
		}
	}
	return out
}

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
	// Heartbeats is when each node was last heard of, as far as this leader knows.
	Heartbeats map[api.NodeID]time.Time
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
	for a := range ch.Apps {
		touched[a] = true
	}
	for k := range ch.Services {
		touched[k.App] = true
	}
	for a := range ch.Routes {
		touched[a] = true
	}
	var out []*api.App
	for a := range v.Apps() {
		if ch.All || touched[a.Name] {
			out = append(out, a)
		}
	}
	return out
}

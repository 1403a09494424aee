package server

import (
	"slices"
	"time"

	"slipway/api"
	"slipway/raftstore/state"
	"slipway/scheduler"
	"slipway/server/control"
)

// Planner answers questions about placement with the functions that decide about it.
type Planner struct{}

var _ control.Scheduler = Planner{}

// Explain says where copies of a service can go and why not elsewhere.
func (Planner) Explain(v *state.View, k api.ServiceKey) (api.Explanation, error) {
	return scheduler.NewCluster(placement{v}).Explain(placement{v}, k)
}

// WhyNot lists everything that keeps a copy of a service off a node.
func (Planner) WhyNot(v *state.View, k api.ServiceKey, node api.NodeID) (api.WhyNot, error) {
	return scheduler.NewCluster(placement{v}).WhyNot(placement{v}, k, node)
}

// WhatIf says what would follow from a change.
func (Planner) WhatIf(v *state.View, c api.Change, now time.Time, ids *api.IDs) (api.WhatIf, error) {
	return scheduler.WhatIf(placement{v}, slices.Collect(v.AllServices()), c, scheduler.Input{Now: now, IDs: ids})
}

// Capacity describes the room of every pool.
func (Planner) Capacity(v *state.View) []api.Capacity { return scheduler.Capacity(placement{v}) }

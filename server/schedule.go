package server

import (
	"iter"
	"slices"
	"time"

	"slipway/api"
	"slipway/raftstore/state"
	"slipway/scheduler"
	"slipway/server/steps"
)

// planMax bounds the placements of one command, which keeps Raft entries small.
const planMax = 400

// schedule is the step that places processes: it asks the scheduler about the services that
// changed, those that wait for room, and the processes that have no node yet.
func schedule(v *state.View, ch state.Changes, in steps.Input) (cmds []state.Command, wake time.Time) {
	var keys []api.ServiceKey
	for s := range v.AllServices() {
		spec := spreadsOverNodes(v, s)
		if ch.All || ch.Services[s.Key] || s.Waiting != "" || len(ch.Nodes) > 0 && spec {
			keys = append(keys, s.Key)
		}
	}
	pending := slices.Collect(v.Pending())
	if len(keys)+len(pending) == 0 {
		return nil, time.Time{}
	}
	plan, wake := scheduler.Schedule(placement{v}, keys, pending, scheduler.Input{Now: in.Now, IDs: in.IDs})
	waiting := map[api.ServiceKey]string{}
	for k, sentence := range plan.Waiting {
		if s, ok := v.Service(k); ok && s.Waiting != sentence {
			waiting[k] = sentence
		}
	}
	for id, sentence := range plan.Pending {
		if p, ok := v.Process(id); ok && p.Waiting == sentence {
			delete(plan.Pending, id)
		}
	}
	if plan.Empty() && len(waiting)+len(plan.Pending) == 0 {
		return nil, wake
	}
	cmds = append(cmds, state.ApplyPlan{Index: v.Index(), Stop: plan.Stop, Assign: plan.Assign, Waiting: waiting, Pending: plan.Pending})
	for _, g := range plan.Place {
		for chunk := range slices.Chunk(g.Copies, planMax) {
			part := g
			part.Copies = chunk
			cmds = append(cmds, state.ApplyPlan{Index: v.Index(), Place: []api.Group{part}})
		}
	}
	return cmds, wake
}

// spreadsOverNodes reports whether a service has one copy on each node.
func spreadsOverNodes(v *state.View, s *api.Service) bool {
	if len(s.Want) == 0 {
		return false
	}
	spec, ok := v.Spec(s.Want[0].Release, s.Key.Service)
	return ok && spec.Agent
}

// placement shows a view to the scheduler.
type placement struct{ v *state.View }

func (p placement) Nodes() iter.Seq[*api.Node]                          { return p.v.Nodes() }
func (p placement) Node(id api.NodeID) (*api.Node, bool)                { return p.v.Node(id) }
func (p placement) Pool(name api.PoolName) (*api.Pool, bool)            { return p.v.Pool(name) }
func (p placement) ProcessesOn(n api.NodeID) iter.Seq[*api.Process]     { return p.v.ProcessesOn(n) }
func (p placement) Process(id api.ProcessID) (*api.Process, bool)       { return p.v.Process(id) }
func (p placement) Used(n api.NodeID) api.Usage                         { return p.v.Used(n) }
func (p placement) Service(k api.ServiceKey) (*api.Service, bool)       { return p.v.Service(k) }
func (p placement) ProcessesOf(k api.ServiceKey) iter.Seq[*api.Process] { return p.v.ProcessesOf(k) }
func (p placement) Spec(r api.ReleaseID, s api.ServiceName) (*api.ServiceSpec, bool) {
	return p.v.Spec(r, s)
}

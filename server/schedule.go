package server

import (
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"slipway/api"
	"slipway/raftstore/state"
	"slipway/scheduler"
	"slipway/server/steps"
)

// planMax bounds the placements of one command, which keeps Raft entries small.
const planMax = 400

// stopMax bounds the stops of one command.
const stopMax = 1000

// Decider takes the decisions of a leader. It keeps the scheduler's picture of the nodes from
// pass to pass, which is a cache and nothing more: a new Decider decides the same, only later.
type Decider struct{ cluster *scheduler.Cluster }

// schedule is the step that places processes: it asks the scheduler about the services that
// changed, those that wait for room, and the processes that have no node yet.
func (d *Decider) schedule(v *state.View, ch state.Changes, in steps.Input) (cmds []state.Command, wake time.Time) {
	s := placement{v}
	d.catchUp(s, ch)
	keys, pending := concerned(v, ch), slices.Collect(v.Pending())
	if len(keys)+len(pending) == 0 {
		return nil, time.Time{}
	}
	plan, wake := d.cluster.Schedule(s, keys, pending, scheduler.Input{Now: in.Now, IDs: in.IDs})
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
	for len(plan.Stop) > stopMax {
		cmds = append(cmds, state.ApplyPlan{Index: v.Index(), Stop: plan.Stop[:stopMax]})
		plan.Stop = plan.Stop[stopMax:]
	}
	if len(plan.Stop)+len(plan.Assign)+len(waiting)+len(plan.Pending) > 0 {
		cmds = append(cmds, state.ApplyPlan{Index: v.Index(), Stop: plan.Stop, Assign: plan.Assign, Waiting: waiting, Pending: plan.Pending})
	}
	for _, part := range portions(plan.Place) {
		cmds = append(cmds, state.ApplyPlan{Index: v.Index(), Place: part})
	}
	return cmds, wake
}

// catchUp reads the nodes that changed.
func (d *Decider) catchUp(s placement, ch state.Changes) {
	if d.cluster == nil || ch.All {
		d.cluster = scheduler.NewCluster(s)
		return
	}
	nodes := slices.Collect(maps.Keys(ch.Nodes))
	for id := range ch.Usage {
		if !ch.Nodes[id] {
			nodes = append(nodes, id)
		}
	}
	slices.Sort(nodes)
	d.cluster.Update(s, nodes)
}

// concerned returns the services to look at, in order: those that changed, and, when room may
// have come, those that wait for it or have a copy on each node.
func concerned(v *state.View, ch state.Changes) []api.ServiceKey {
	if ch.All {
		var all []api.ServiceKey
		for s := range v.AllServices() {
			all = append(all, s.Key)
		}
		return all
	}
	keys := maps.Clone(ch.Services)
	if keys == nil {
		keys = map[api.ServiceKey]bool{}
	}
	if len(ch.Nodes)+len(ch.Usage) > 0 {
		for s := range v.WaitingServices() {
			keys[s.Key] = true
		}
	}
	if len(ch.Nodes) > 0 {
		for s := range v.AgentServices() {
			keys[s.Key] = true
		}
	}
	return slices.SortedFunc(maps.Keys(keys), func(a, b api.ServiceKey) int { return strings.Compare(a.String(), b.String()) })
}

// portions cuts groups into parts of at most planMax copies, so that Raft entries stay small.
func portions(groups []api.Group) [][]api.Group {
	var out [][]api.Group
	room := 0
	for _, g := range groups {
		for len(g.Copies) > 0 {
			if room == 0 {
				out, room = append(out, nil), planMax
			}
			n := min(room, len(g.Copies))
			part := g
			part.Copies, g.Copies = g.Copies[:n], g.Copies[n:]
			room -= n
			out[len(out)-1] = append(out[len(out)-1], part)
		}
	}
	return out
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

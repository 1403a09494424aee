package scheduler

import (
	"iter"

	"slipway/api"
)

// overlay is a state with changes that were not made.
type overlay struct {
	State
	nodes    map[api.NodeID]*api.Node // nil for removed
	added    []*api.Node              // in ID order
	services map[api.ServiceKey]*api.Service
	specs    map[api.ServiceKey]*api.ServiceSpec // of hypothetical
	changed  map[api.ProcessID]*api.Process
	born     map[api.ServiceKey][]*api.Process
	bornOn   map[api.NodeID][]*api.Process
	bornID   map[api.ProcessID]*api.Process
	usage    map[api.NodeID]api.Usage
}

// hypothetical is the release that a what-if promotes.
const hypothetical api.ReleaseID = "(new)"

func newOverlay(s State) *overlay {
	return &overlay{
		State: s, nodes: map[api.NodeID]*api.Node{}, services: map[api.ServiceKey]*api.Service{}, specs: map[api.ServiceKey]*api.ServiceSpec{},
		changed: map[api.ProcessID]*api.Process{}, born: map[api.ServiceKey][]*api.Process{}, bornOn: map[api.NodeID][]*api.Process{},
		bornID: map[api.ProcessID]*api.Process{}, usage: map[api.NodeID]api.Usage{},
	}
}

// Nodes implements State.
func (o *overlay) Nodes() iter.Seq[*api.Node] {
	return func(yield func(*api.Node) bool) {
		for n := range o.State.Nodes() {
			if m, known := o.nodes[n.ID]; known {
				n = m
			}
			if n != nil && !yield(n) {
				return
			}
		}
		for _, n := range o.added {
			if !yield(n) {
				return
			}
		}
	}
}

// Node implements State.
func (o *overlay) Node(id api.NodeID) (*api.Node, bool) {
	if n, known := o.nodes[id]; known {
		return n, n != nil
	}
	return o.State.Node(id)
}

// Used implements State.
func (o *overlay) Used(id api.NodeID) api.Usage {
	if u, known := o.usage[id]; known {
		return u
	}
	return o.State.Used(id)
}

// Service implements State.
func (o *overlay) Service(k api.ServiceKey) (*api.Service, bool) {
	if s, known := o.services[k]; known {
		return s, true
	}
	return o.State.Service(k)
}

// Spec implements State.
func (o *overlay) Spec(release api.ReleaseID, service api.ServiceName) (*api.ServiceSpec, bool) {
	if release != hypothetical {
		return o.State.Spec(release, service)
	}
	for k, spec := range o.specs { // those of one app
		if k.Service == service {
			return spec, true
		}
	}
	return nil, false
}

// ProcessesOf implements State.
func (o *overlay) ProcessesOf(k api.ServiceKey) iter.Seq[*api.Process] {
	return o.processes(o.State.ProcessesOf(k), o.born[k])
}

// ProcessesOn implements State.
func (o *overlay) ProcessesOn(node api.NodeID) iter.Seq[*api.Process] {
	return func(yield func(*api.Process) bool) {
		for p := range o.processes(o.State.ProcessesOn(node), o.bornOn[node]) {
			if p.Live() && !yield(p) {
				return
			}
		}
	}
}

func (o *overlay) processes(base iter.Seq[*api.Process], born []*api.Process) iter.Seq[*api.Process] {
	return func(yield func(*api.Process) bool) {
		for p := range base {
			if q, known := o.changed[p.ID]; known {
				p = q
			}
			if !yield(p) {
				return
			}
		}
		for _, p := range born {
			if q, known := o.changed[p.ID]; known {
				p = q
			}
			if !yield(p) {
				return
			}
		}
	}
}

// end ends a process at once.
func (o *overlay) end(p *api.Process, state api.State, desired api.Desired, reason string) {
	gone := *p
	gone.Observed.State, gone.Desired, gone.Reason = state, desired, reason
	o.changed[p.ID] = &gone
	if p.Live() && p.Node != "" {
		o.usage[p.Node] = o.Used(p.Node).Sub(p.Ask, p.Grant)
	}
}

// place makes a copy live at once.
func (o *overlay) place(g *api.Group, c *api.Copy) {
	p := &api.Process{
		ID: c.ID, App: g.Key.App, Service: g.Key.Service, Kind: api.KindService, Release: g.Release, Slot: c.Slot, Node: c.Node,
		Ask: g.Ask, Grant: c.Grant, Attempt: c.Attempt, Ready: true,
		Observed: api.ProcessStatus{State: api.StateRunning, Health: api.HealthHealthy},
	}
	o.born[g.Key] = append(o.born[g.Key], p)
	o.bornOn[c.Node] = append(o.bornOn[c.Node], p)
	o.bornID[c.ID] = p
	o.usage[c.Node] = o.Used(c.Node).Add(g.Ask, c.Grant)
}

// Process implements State.
func (o *overlay) Process(id api.ProcessID) (*api.Process, bool) {
	if p, known := o.changed[id]; known {
		return p, true
	}
	if p, known := o.bornID[id]; known {
		return p, true
	}
	return o.State.Process(id)
}

// addNode adds a node that does not exist.
func (o *overlay) addNode(n *api.Node) {
	o.nodes[n.ID] = n
	o.added = append(o.added, n)
}

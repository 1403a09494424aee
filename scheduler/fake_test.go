package scheduler

import (
	"cmp"
	"iter"
	"slices"
	"time"

	"slipway/api"
)

// rack is a small honest State: a plan that is applied to it is what the next one sees.
type rack struct {
	now       time.Time
	nodes     []*api.Node
	pools     map[api.PoolName]*api.Pool
	services  map[api.ServiceKey]*api.Service
	specs     map[api.ReleaseID]map[api.ServiceName]*api.ServiceSpec
	processes []*api.Process
}

func newRack() *rack {
	return &rack{
		now: time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC), services: map[api.ServiceKey]*api.Service{},
		specs: map[api.ReleaseID]map[api.ServiceName]*api.ServiceSpec{},
	}
}

func (r *rack) Nodes() iter.Seq[*api.Node] { return slices.Values(r.nodes) }

func (r *rack) Used(node api.NodeID) (used api.Usage) {
	for _, p := range r.processes {
		if p.Live() && p.Node == node {
			used = used.Add(p.Ask, p.Grant)
		}
	}
	return used
}

func (r *rack) Node(id api.NodeID) (*api.Node, bool) {
	i := slices.IndexFunc(r.nodes, func(n *api.Node) bool { return n.ID == id })
	if i < 0 {
		return nil, false
	}
	return r.nodes[i], true
}

func (r *rack) Process(id api.ProcessID) (*api.Process, bool) {
	p := r.byID(id)
	return p, p != nil
}

func (r *rack) Pool(name api.PoolName) (*api.Pool, bool) {
	p, ok := r.pools[name]
	return p, ok
}

func (r *rack) ProcessesOn(node api.NodeID) iter.Seq[*api.Process] {
	return func(yield func(*api.Process) bool) {
		for _, p := range r.processes {
			if p.Live() && p.Node == node && !yield(p) {
				return
			}
		}
	}
}

func (r *rack) Service(k api.ServiceKey) (*api.Service, bool) {
	s, ok := r.services[k]
	return s, ok
}

func (r *rack) Spec(release api.ReleaseID, service api.ServiceName) (*api.ServiceSpec, bool) {
	s, ok := r.specs[release][service]
	return s, ok
}

func (r *rack) ProcessesOf(k api.ServiceKey) iter.Seq[*api.Process] {
	return func(yield func(*api.Process) bool) {
		for _, p := range r.processes {
			if p.Key() == k && !yield(p) {
				return
			}
		}
	}
}

// node adds a node of the default pool.
func (r *rack) node(id string, capacity api.Amount) *api.Node {
	n := &api.Node{
		ID: api.NodeID(id), Name: id, Status: api.NodeReady, Pool: api.DefaultPool, Capacity: capacity,
		Labels: map[string]string{}, Attributes: map[string]string{},
	}
	r.nodes = append(r.nodes, n)
	slices.SortFunc(r.nodes, func(a, b *api.Node) int { return cmp.Compare(a.ID, b.ID) })
	return n
}

// spec adds a service to a release.
func (r *rack) spec(release string, s *api.ServiceSpec) {
	if r.specs[api.ReleaseID(release)] == nil {
		r.specs[api.ReleaseID(release)] = map[api.ServiceName]*api.ServiceSpec{}
	}
	r.specs[api.ReleaseID(release)][s.Name] = s
}

// want sets what should be alive of a service of the app "shop".
func (r *rack) want(service string, want ...api.Want) {
	k := key(service)
	if r.services[k] == nil {
		r.services[k] = &api.Service{Key: k}
	}
	r.services[k].Want = want
}

func key(service string) api.ServiceKey {
	return api.ServiceKey{App: "shop", Service: api.ServiceName(service)}
}

func (r *rack) keys() []api.ServiceKey {
	var keys []api.ServiceKey
	for k := range r.services {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b api.ServiceKey) int { return cmp.Compare(a.String(), b.String()) })
	return keys
}

func (r *rack) waitingForNode() []*api.Process {
	var out []*api.Process
	for _, p := range r.processes {
		if p.Live() && p.Node == "" {
			out = append(out, p)
		}
	}
	return out
}

func (r *rack) schedule() (api.Plan, time.Time) {
	return Schedule(r, r.keys(), r.waitingForNode(), Input{Now: r.now, IDs: api.NewIDs(uint64(len(r.processes)))})
}

// apply does what raftstore/state does with a plan.
func (r *rack) apply(plan api.Plan) {
	for _, s := range plan.Stop {
		if p := r.byID(s.Process); p != nil {
			p.Desired, p.Reason, p.Ready = api.DesiredDrain, s.Reason, false
		}
	}
	for i := range plan.Place {
		g := plan.Place[i]
		for _, c := range g.Copies {
			r.processes = append(r.processes, &api.Process{
				ID: c.ID, App: g.Key.App, Service: g.Key.Service, Kind: api.KindService, Release: g.Release, Slot: c.Slot,
				Node: c.Node, Ask: g.Ask, Grant: c.Grant, Attempt: c.Attempt, Cause: c.Cause, Created: r.now,
				Observed: api.ProcessStatus{State: api.StateAssigned},
			})
		}
	}
	for _, a := range plan.Assign {
		p := r.byID(a.Process)
		p.Node, p.Grant, p.Observed.State = a.Node, a.Grant, api.StateAssigned
	}
}

func (r *rack) byID(id api.ProcessID) *api.Process {
	for _, p := range r.processes {
		if p.ID == id {
			return p
		}
	}
	return nil
}

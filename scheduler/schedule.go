package scheduler

import (
	"iter"
	"time"

	"slipway/api"
)

// State is what a schedule is made from: one immutable view of the rack.
type State interface {
	// Nodes iterates over all nodes in ID order.
	Nodes() iter.Seq[*api.Node]
	// Used returns what live processes have reserved on a node.
	Used(node api.NodeID) api.Amount
	// Service returns a service in force.
	Service(k api.ServiceKey) (*api.Service, bool)
	// Spec returns a service as a release describes it.
	Spec(release api.ReleaseID, service api.ServiceName) (*api.ServiceSpec, bool)
	// ProcessesOf iterates over the processes of a service, live and ended, in ID order.
	ProcessesOf(k api.ServiceKey) iter.Seq[*api.Process]
}

// Input is what a pure function may not find out itself.
type Input struct {
	Now time.Time
	IDs *api.IDs
}

// Schedule places and stops processes so that each of the services has what its Want says, and
// gives pending one-offs and builds a node. wake is when a slot that is held back may be tried
// again; zero for none.
func Schedule(s State, services []api.ServiceKey, pending []*api.Process, in Input) (plan api.Plan, wake time.Time) {
	r := &run{state: s, in: in, cluster: newCluster(s)}
	r.plan.Waiting = make(map[api.ServiceKey]string, len(services))
	for _, k := range services {
		r.service(k)
	}
	for _, p := range pending {
		r.pendingProcess(p)
	}
	return r.plan, r.wake
}

// run is one call of Schedule in progress.
type run struct {
	state   State
	in      Input
	cluster *cluster
	plan    api.Plan
	wake    time.Time
}

// service makes the processes of one service match its Want.
func (r *run) service(k api.ServiceKey) {
	svc, ok := r.state.Service(k)
	if !ok {
		return
	}
	d := compare(r.state, svc)
	for _, s := range d.stop {
		r.plan.Stop = append(r.plan.Stop, s)
	}
	waiting := newReasons()
	for _, want := range svc.Want {
		spec, ok := r.state.Spec(want.Release, k.Service)
		if !ok {
			waiting.add("release %s does not have the service", want.Release)
			continue
		}
		if spec.Agent {
			r.everywhere(svc, spec, want.Release, d, waiting)
			continue
		}
		for _, slot := range d.missing[want.Release] {
			r.slot(svc, spec, want.Release, slot, d, waiting)
		}
	}
	r.plan.Waiting[k] = waiting.sentence()
}

// slot places one missing copy, or says why not.
func (r *run) slot(svc *api.Service, spec *api.ServiceSpec, release api.ReleaseID, slot int, d *diff, waiting *reasons) {
	if spec.Singleton && d.alive > 0 {
		waiting.add("the previous copy of a singleton has not ended yet")
		return
	}
	past := d.history[slotKey{release, slot}]
	if at := retryAt(past); r.in.Now.Before(at) {
		waiting.add("slot %d is held back until %s after %d failures in a row", slot, at.UTC().Format(time.TimeOnly), past.failures)
		r.wakeAt(at)
		return
	}
	ask := askOf(spec, svc.Override)
	node, why := r.cluster.best(request{
		key: svc.Key, spec: spec, ask: ask, slot: slot, copies: d.perNode, avoid: past.lastNode, pinned: d.pinned(spec),
	})
	if node == nil {
		waiting.merge(why)
		return
	}
	r.place(api.Process{
		ID: r.in.IDs.Process(), App: svc.Key.App, Service: svc.Key.Service, Kind: api.KindService,
		Release: release, Slot: slot, Node: node.ID, Ask: ask, Attempt: past.attempts, Cause: causeOf(past),
	})
	d.perNode[node.ID]++
	d.alive++
}

// everywhere places one copy on each eligible node that has none.
func (r *run) everywhere(svc *api.Service, spec *api.ServiceSpec, release api.ReleaseID, d *diff, waiting *reasons) {
	has := map[api.NodeID]bool{}
	for _, p := range d.live {
		if p.Release == release && p.Desired == api.DesiredRun {
			has[p.Node] = true
		}
	}
	ask := askOf(spec, svc.Override)
	for i, n := range r.cluster.nodes {
		if has[n.ID] {
			continue
		}
		q := request{key: svc.Key, spec: spec, ask: ask}
		if reason := r.cluster.refuses(n, q); reason != "" {
			if n.Eligible() {
				waiting.add("%s", reason)
			}
			continue
		}
		past := d.history[slotKey{release, i + 1}]
		if at := retryAt(past); r.in.Now.Before(at) {
			r.wakeAt(at)
			continue
		}
		r.place(api.Process{
			ID: r.in.IDs.Process(), App: svc.Key.App, Service: svc.Key.Service, Kind: api.KindService,
			Release: release, Slot: i + 1, Node: n.ID, Ask: ask, Attempt: past.attempts, Cause: "one copy on each node",
		})
	}
}

// pendingProcess gives a one-off or a build a node.
func (r *run) pendingProcess(p *api.Process) {
	spec := &api.ServiceSpec{Name: p.Service}
	if s, ok := r.state.Spec(p.Release, p.Service); ok {
		spec = s
	}
	node, _ := r.cluster.best(request{key: p.Key(), spec: spec, ask: p.Ask})
	if node == nil {
		return
	}
	placed := *p
	placed.Node = node.ID
	r.place(placed)
}

// place enters a placement into the plan and into the picture of the cluster.
func (r *run) place(p api.Process) {
	r.cluster.take(p.Node, p.Ask)
	r.plan.Place = append(r.plan.Place, p)
}

func (r *run) wakeAt(at time.Time) {
	if r.wake.IsZero() || at.Before(r.wake) {
		r.wake = at
	}
}

// askOf is what one copy reserves, with an override in place.
func askOf(spec *api.ServiceSpec, o *api.ScaleOverride) api.Amount { return o.Apply(spec.Scale).Ask }

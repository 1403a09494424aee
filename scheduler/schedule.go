package scheduler

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
	"time"

	"slipway/api"
)

// State is what a schedule is made from: one immutable view of the rack.
type State interface {
	// Nodes iterates over all nodes in ID order.
	Nodes() iter.Seq[*api.Node]
	// Used returns what live processes have reserved on a node.
	Used(node api.NodeID) api.Usage
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
// gives pending one-offs and builds a node. When room is short, services with a higher
// priority come first, and all of them before the pending processes. wake is when a slot that
// is held back may be tried again; zero for none.
func Schedule(s State, services []api.ServiceKey, pending []*api.Process, in Input) (plan api.Plan, wake time.Time) {
	r := &run{state: s, in: in, cluster: newCluster(s)}
	r.plan.Waiting = make(map[api.ServiceKey]string, len(services))
	r.plan.Pending = map[api.ProcessID]string{}
	for _, svc := range r.inOrder(services) {
		r.service(svc)
	}
	for _, p := range pending {
		r.pending(p)
	}
	return r.plan, r.wake
}

// run is one call of Schedule in progress.
type run struct {
	state   State
	in      Input
	cluster *cluster
	draft
}

// inOrder returns the services, the most important first.
func (r *run) inOrder(keys []api.ServiceKey) []*api.Service {
	var out []*api.Service
	priority := map[api.ServiceKey]int{}
	for _, k := range keys {
		svc, ok := r.state.Service(k)
		if !ok {
			continue
		}
		out = append(out, svc)
		for _, w := range svc.Want {
			if spec, ok := r.state.Spec(w.Release, k.Service); ok {
				priority[k] = spec.Priority
				break
			}
		}
	}
	slices.SortStableFunc(out, func(a, b *api.Service) int { return cmp.Compare(priority[b.Key], priority[a.Key]) })
	return out
}

// service makes the processes of one service match its Want.
func (r *run) service(svc *api.Service) {
	d := compare(r.state, svc)
	for _, p := range d.unwanted() {
		r.stop(p, fmt.Sprintf("release %s is not wanted any more", p.Release))
	}
	waiting := newReasons(api.Amount{})
	for _, w := range svc.Want {
		spec, ok := r.state.Spec(w.Release, svc.Key.Service)
		switch {
		case !ok:
			waiting.hold(w.Count, "release %s does not have the service", w.Release)
		case spec.Agent:
			r.everywhere(d, spec, w, waiting)
		default:
			r.counted(d, spec, w, waiting)
		}
	}
	r.plan.Waiting[svc.Key] = waiting.sentence()
}

// counted brings the copies of one release to a number.
func (r *run) counted(d *diff, spec *api.ServiceSpec, w api.Want, waiting *reasons) {
	running := d.running(w.Release)
	for _, p := range d.surplus(running, w.Count) {
		r.stop(p, tooMany(w.Count, w.Release, len(running)))
	}
	var nodes *search
	for _, slot := range free(running, w.Count) {
		h := d.history[slotKey{w.Release, slot}]
		switch at := retryAt(h); {
		case d.singleton && d.alive > 0:
			waiting.hold(1, "the previous copy of a singleton has not ended yet")
			continue
		case r.in.Now.Before(at):
			r.holdBack(slot, at, h, waiting)
			continue
		}
		if nodes == nil {
			nodes = newSearch(r.cluster, r.request(d, spec, w.Release))
		}
		m := nodes.next(h.avoid)
		if m == nil {
			waiting.merge(nodes.why, 1)
			continue
		}
		r.place(d.svc.Key, w.Release, nodes.q.ask, r.copy(slot, m.ID, h))
		d.alive++
	}
}

// holdBack makes a slot that keeps failing wait.
func (r *run) holdBack(slot int, at time.Time, h past, waiting *reasons) {
	waiting.hold(1, "slot %d is held back until %s after %d failures in a row", slot, at.UTC().Format(time.TimeOnly), h.failures)
	r.wakeAt(at)
}

// request describes the copies of one release to the search for nodes.
func (r *run) request(d *diff, spec *api.ServiceSpec, release api.ReleaseID) *request {
	q := &request{
		key: d.svc.Key, spec: spec, ask: d.svc.Override.Apply(spec.Scale).Ask,
		own: map[api.NodeID]int{}, others: map[api.NodeID]int{},
	}
	for _, p := range d.live {
		if p.Release == release && p.Desired == api.DesiredRun {
			q.own[p.Node]++
		} else {
			q.others[p.Node]++
		}
	}
	if keepsData(spec) {
		q.home = d.home
	}
	return q
}

// copy makes the record of one placed copy.
func (r *run) copy(slot int, node api.NodeID, h past) api.Copy {
	return api.Copy{ID: r.in.IDs.Process(), Slot: slot, Node: node, Attempt: h.attempts, Cause: causeOf(h)}
}

// pending gives a one-off or a build a node. For one that finds none it says why.
func (r *run) pending(p *api.Process) {
	q := &request{key: p.Key(), spec: &api.ServiceSpec{Name: p.Service}, ask: p.Ask, own: map[api.NodeID]int{}}
	if spec, ok := r.state.Spec(p.Release, p.Service); ok && p.Kind != api.KindBuild {
		q.spec = spec
		if keepsData(spec) {
			q.home = home(r.state, p.Key())
		}
	}
	nodes := newSearch(r.cluster, q)
	m := nodes.next("")
	if m == nil {
		r.plan.Pending[p.ID] = nodes.why.causes()
		return
	}
	r.plan.Assign = append(r.plan.Assign, api.Assign{Process: p.ID, Node: m.ID})
}

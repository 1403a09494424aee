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
	// Used returns what live processes hold of a node.
	Used(node api.NodeID) api.Usage
	// Node returns a node.
	Node(id api.NodeID) (*api.Node, bool)
	// Pool returns what an operator said about a pool.
	Pool(name api.PoolName) (*api.Pool, bool)
	// ProcessesOn iterates over the live processes of a node, in ID order.
	ProcessesOn(node api.NodeID) iter.Seq[*api.Process]
	// Service returns a service in force.
	Service(k api.ServiceKey) (*api.Service, bool)
	// Spec returns a service as a release describes it.
	Spec(release api.ReleaseID, service api.ServiceName) (*api.ServiceSpec, bool)
	// Process returns a process.
	Process(id api.ProcessID) (*api.Process, bool)
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
	return NewCluster(s).Schedule(s, services, pending, in)
}

// Schedule is the same on a cluster that is kept between calls and up to date with the state.
func (c *Cluster) Schedule(s State, services []api.ServiceKey, pending []*api.Process, in Input) (plan api.Plan, wake time.Time) {
	c.reread(s)
	r := &run{state: s, in: in, cluster: c, victims: map[api.ProcessID]bool{}, promised: map[int32]bool{}}
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
	state    State
	in       Input
	cluster  *Cluster
	builds   map[api.NodeID]int     // that this plan starts
	victims  map[api.ProcessID]bool // that make room for more important ones
	promised map[int32]bool         // nodes with room that waits for its copies
	draft
}

// inOrder returns the services, the most important first.
func (r *run) inOrder(keys []api.ServiceKey) []*api.Service {
	type ordered struct {
		svc      *api.Service
		priority int
	}
	all := make([]ordered, 0, len(keys))
	for _, k := range keys {
		if svc, ok := r.state.Service(k); ok {
			all = append(all, ordered{svc, priorityOf(r.state, svc)})
		}
	}
	slices.SortStableFunc(all, func(a, b ordered) int { return cmp.Compare(b.priority, a.priority) })
	out := make([]*api.Service, len(all))
	for i := range all {
		out[i] = all[i].svc
	}
	return out
}

// priorityOf returns the priority of the newest release that is wanted.
func priorityOf(s State, svc *api.Service) int {
	for _, w := range svc.Want {
		if spec, ok := s.Spec(w.Release, svc.Key.Service); ok {
			return spec.Priority
		}
	}
	return 0
}

// service makes the processes of one service match its Want.
func (r *run) service(svc *api.Service) {
	d := compare(r.state, svc, r.victims)
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
	missing := w.Count - len(running)
	if missing <= 0 {
		return
	}
	var nodes *search
	for slot := range free(running, w.Count) {
		h := d.past(w.Release, slot)
		switch at := retryAt(h); {
		case d.singleton && d.alive > 0:
			waiting.hold(missing, "the previous copy of a singleton has not ended yet")
			missing = 0
		case r.in.Now.Before(at):
			r.holdBack(slot, at, h, waiting)
			missing--
			continue
		}
		if missing == 0 {
			break
		}
		if nodes == nil {
			nodes = r.search(d, spec, w.Release)
		}
		i, grant, ok := nodes.next(slot)
		if !ok {
			why := nodes.why()
			if missing = r.makeRoom(nodes, missing, waiting); missing > 0 {
				waiting.merge(why, missing)
			}
			break
		}
		r.place(d.svc.Key, w.Release, nodes.q.ask, r.copy(slot, r.cluster.ids[i], h, grant), missing)
		missing--
		d.alive++
		if len(d.svc.Want) > 1 { // the next release keeps away from these as well
			d.live = append(d.live, &api.Process{Release: w.Release, Slot: slot, Node: r.cluster.ids[i]})
		}
	}
	if nodes != nil {
		nodes.done()
	}
}

// holdBack makes a slot that keeps failing wait.
func (r *run) holdBack(slot int, at time.Time, h past, waiting *reasons) {
	waiting.hold(1, "slot %d is held back until %s after %d failures in a row", slot, at.UTC().Format(time.TimeOnly), h.failures)
	r.wakeAt(at)
}

// search looks for nodes for copies of one release.
func (r *run) search(d *diff, spec *api.ServiceSpec, release api.ReleaseID) *search {
	q := d.request(r.state, spec, release)
	return newSearch(r.cluster, r.cluster.shapeOf(r.state, spec, q.ask), q)
}

// copy makes the record of one placed copy.
func (r *run) copy(slot int, node api.NodeID, h past, g *api.Grant) api.Copy {
	return api.Copy{ID: r.in.IDs.Process(), Slot: slot, Node: node, Attempt: h.attempts, Cause: causeOf(h), Grant: g}
}

// buildsMax is how many builds a node runs at once.
const buildsMax = 4

// pending gives a one-off or a build a node. For one that finds none it says why.
func (r *run) pending(p *api.Process) {
	q := &request{key: p.Key(), spec: &api.ServiceSpec{Name: p.Service}, ask: p.Ask}
	if p.Kind == api.KindBuild {
		q.barred = r.busyBuilding
	} else if spec, ok := r.state.Spec(p.Release, p.Service); ok {
		one := *spec
		one.HostPorts = nil // those belong to the copies of the service
		q.spec = &one
		if keepsData(spec) {
			q.home = home(r.state, p.Key())
		}
	}
	nodes := newSearch(r.cluster, r.cluster.shapeOf(r.state, q.spec, q.ask), q)
	defer nodes.done()
	i, grant, ok := nodes.next(0)
	if !ok {
		r.plan.Pending[p.ID] = nodes.why().causes()
		return
	}
	node := r.cluster.ids[i]
	if p.Kind == api.KindBuild {
		if r.builds == nil {
			r.builds = map[api.NodeID]int{}
		}
		r.builds[node]++
	}
	r.plan.Assign = append(r.plan.Assign, api.Assign{Process: p.ID, Node: node, Grant: grant})
}

// busyBuilding says that a node has all the builds it may have at once.
func (r *run) busyBuilding(node api.NodeID) string {
	n := r.builds[node]
	for p := range r.state.ProcessesOn(node) {
		if p.Kind == api.KindBuild {
			n++
		}
	}
	if n < buildsMax {
		return ""
	}
	return fmt.Sprintf("busy with %d builds", buildsMax)
}

package scheduler

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
	"time"

	"slipway/api"
)

// slotKey identifies a slot within a release: failures of one release do not hold back the
// next.
type slotKey struct {
	release api.ReleaseID
	slot    int
}

// past is what a slot has been through.
type past struct {
	attempts int // processes it had
	failures int // how many of them, up to the last, ended by themselves in a row
	last     *api.Process
}

// diff is what is wanted beside what lives.
type diff struct {
	svc  *api.Service
	all  []*api.Process // copies, live and ended
	live []*api.Process // those that hold resources
	// history is what slots have been through; nil until somebody asks, for most passes find
	// that nothing is missing.
	history map[slotKey]past
	lookups int // of single slots
	// alive counts live and placed copies. singleton: there must never be two.
	alive     int
	singleton bool
}

// compare looks at the processes of a service. Those that make room for others do not count any
// more.
func compare(s State, svc *api.Service, victims map[api.ProcessID]bool) *diff {
	d := &diff{svc: svc}
	for p := range s.ProcessesOf(svc.Key) {
		if p.Kind != api.KindService {
			continue
		}
		if len(victims) > 0 && victims[p.ID] {
			gone := *p
			gone.Desired = api.DesiredDrain
			p = &gone
		}
		d.all = append(d.all, p)
		if p.Live() {
			d.live = append(d.live, p)
		}
	}
	d.alive = len(d.live)
	for _, w := range svc.Want {
		spec, ok := s.Spec(w.Release, svc.Key.Service)
		d.singleton = d.singleton || ok && spec.Singleton
	}
	return d
}

// fewSlots is up to how many slots are looked up one by one.
const fewSlots = 4

// past returns what a slot has been through.
func (d *diff) past(release api.ReleaseID, slot int) past {
	if d.lookups++; d.history == nil && d.lookups <= fewSlots {
		return d.pastOf(slotKey{release, slot})
	}
	d.remember()
	return d.history[slotKey{release, slot}]
}

// pastOf looks at the processes of one slot only.
func (d *diff) pastOf(k slotKey) past {
	var all []*api.Process
	for _, p := range d.all {
		if p.Slot == k.slot && p.Release == k.release {
			all = append(all, p)
		}
	}
	oldestFirst(all)
	h := past{}
	for _, p := range all {
		h = h.after(p)
	}
	return h
}

// remember works out the history of the slots.
func (d *diff) remember() {
	if d.history != nil {
		return
	}
	oldestFirst(d.all)
	d.history = make(map[slotKey]past, len(d.all))
	for _, p := range d.all {
		k := slotKey{p.Release, p.Slot}
		d.history[k] = d.history[k].after(p)
	}
}

func oldestFirst(all []*api.Process) {
	slices.SortFunc(all, func(a, b *api.Process) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.Slot, b.Slot), cmp.Compare(a.Attempt, b.Attempt), cmp.Compare(a.ID, b.ID))
	})
}

// copies returns the processes that are copies of a service, oldest first.
func copies(s State, k api.ServiceKey) []*api.Process {
	var all []*api.Process
	for p := range s.ProcessesOf(k) {
		if p.Kind == api.KindService {
			all = append(all, p)
		}
	}
	oldestFirst(all)
	return all
}

// request describes the copies of one release to a search for nodes.
func (d *diff) request(s State, spec *api.ServiceSpec, release api.ReleaseID) *request {
	q := &request{key: d.svc.Key, spec: spec, ask: d.svc.Override.Apply(spec.Scale).Ask, priority: priorityOf(s, d.svc)}
	for _, p := range d.live {
		if p.Release == release && p.Desired == api.DesiredRun {
			q.own = append(q.own, p.Node)
		} else {
			q.others = append(q.others, p.Node)
		}
	}
	for _, p := range d.all {
		if failedByItself(p) {
			q.failed = append(q.failed, p.Node)
		}
	}
	if keepsData(spec) {
		q.home = home(s, d.svc.Key)
	}
	return q
}

// failedByItself reports whether a process ended although it should run and its node was well.
func failedByItself(p *api.Process) bool {
	return !p.Live() && p.Desired == api.DesiredRun && p.Observed.State != api.StateLost
}

// home returns the node that holds the named volumes of a service: the one where a process
// with volumes first ran, or is about to. A node keeps them when it goes down, so that losing
// the process does not change its home.
func home(s State, k api.ServiceKey) api.NodeID {
	for _, p := range copies(s, k) {
		if p.Node == "" || !p.Live() && p.Observed.Started.IsZero() {
			continue
		}
		if spec, ok := s.Spec(p.Release, k.Service); ok && keepsData(spec) {
			return p.Node
		}
	}
	return ""
}

// keepsData reports whether copies leave something on their node that the next one needs.
func keepsData(spec *api.ServiceSpec) bool {
	return slices.ContainsFunc(spec.Volumes, func(v api.Volume) bool { return v.Name != "" && !v.Memory })
}

// after adds a process to the history of its slot. Processes come oldest first. The attempts of
// the first one that is still on record count those that were reaped.
func (h past) after(p *api.Process) past {
	first := h.last == nil
	h.attempts = max(h.attempts, p.Attempt) + 1
	h.last = p
	switch {
	case p.Live():
	case !failedByItself(p):
		h.failures = 0 // we ended it, or its node did
	case lasted(p) > backoffReset:
		h.failures = 1
	case first:
		h.failures = p.Attempt + 1
	default:
		h.failures++
	}
	return h
}

func lasted(p *api.Process) time.Duration {
	if p.Observed.Started.IsZero() {
		return 0
	}
	return p.Observed.Finished.Sub(p.Observed.Started)
}

// running returns the copies of a release that are meant to stay.
func (d *diff) running(release api.ReleaseID) []*api.Process {
	var out []*api.Process
	for _, p := range d.live {
		if p.Release == release && p.Desired == api.DesiredRun {
			out = append(out, p)
		}
	}
	return out
}

// unwanted returns the copies of releases that Want does not name.
func (d *diff) unwanted() []*api.Process {
	var out []*api.Process
	for _, p := range d.live {
		named := slices.ContainsFunc(d.svc.Want, func(w api.Want) bool { return w.Release == p.Release })
		if p.Desired == api.DesiredRun && !named {
			out = append(out, p)
		}
	}
	oldestFirst(out)
	return out
}

// surplus picks the copies to let go when more run than are wanted: what a restart is about to
// replace, then what does not serve yet, then the newest slot.
func (d *diff) surplus(running []*api.Process, count int) []*api.Process {
	if len(running) <= count {
		return nil
	}
	sorted := slices.Clone(running)
	oldestFirst(sorted)
	slices.SortStableFunc(sorted, func(a, b *api.Process) int {
		return cmp.Or(cmp.Compare(d.worth(a), d.worth(b)), cmp.Compare(b.Slot, a.Slot))
	})
	return sorted[:len(running)-count]
}

// worth orders copies by how much would be lost with them.
func (d *diff) worth(p *api.Process) int {
	stale := p.Created.Before(d.svc.RestartAt)
	switch {
	case p.Ready && !stale:
		return 4
	case p.Ready:
		return 3
	case p.Observed.State == api.StateRunning && !stale:
		return 2
	case !stale:
		return 1
	}
	return 0
}

// free iterates over the lowest slots that no running copy holds, so many that count copies
// would exist.
func free(running []*api.Process, count int) iter.Seq[int] {
	return func(yield func(int) bool) {
		taken := map[int]bool{}
		for _, p := range running {
			taken[p.Slot] = true
		}
		missing := count - len(running)
		for slot := 1; missing > 0; slot++ {
			if !taken[slot] {
				missing--
				if !yield(slot) {
					return
				}
			}
		}
	}
}

// causeOf says why a copy is created.
func causeOf(h past) string {
	if h.last == nil {
		return "a copy was missing"
	}
	o := h.last.Observed
	switch {
	case h.last.Reason != "":
		return fmt.Sprintf("replaces %s (%s)", h.last.ID, h.last.Reason)
	case o.Message != "":
		return fmt.Sprintf("replaces %s (%s)", h.last.ID, o.Message)
	}
	return fmt.Sprintf("replaces %s (%s)", h.last.ID, o.State)
}

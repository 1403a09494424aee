package scheduler

import (
	"cmp"
	"fmt"
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
	avoid    api.NodeID // where the last one failed
}

// diff is what is wanted beside what lives.
type diff struct {
	svc     *api.Service
	live    []*api.Process // copies that hold resources, oldest first
	history map[slotKey]past
	home    api.NodeID // the node where the volumes of the service are; "" if nowhere yet
	// alive counts live and placed copies. singleton: there must never be two.
	alive     int
	singleton bool
}

// compare looks at the processes of a service.
func compare(s State, svc *api.Service) *diff {
	d := &diff{svc: svc, history: map[slotKey]past{}}
	for _, p := range copies(s, svc.Key) {
		d.remember(p)
		if p.Live() {
			d.live = append(d.live, p)
		}
	}
	d.alive = len(d.live)
	for _, w := range svc.Want {
		spec, ok := s.Spec(w.Release, svc.Key.Service)
		d.singleton = d.singleton || ok && spec.Singleton
	}
	d.home = home(s, svc.Key)
	return d
}

// copies returns the processes that are copies of a service, oldest first.
func copies(s State, k api.ServiceKey) []*api.Process {
	var all []*api.Process
	for p := range s.ProcessesOf(k) {
		if p.Kind == api.KindService {
			all = append(all, p)
		}
	}
	slices.SortStableFunc(all, func(a, b *api.Process) int { return a.Created.Compare(b.Created) })
	return all
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

// remember adds a process to the history of its slot. Processes come oldest first. The
// attempts of the first one that is still on record count those that were reaped.
func (d *diff) remember(p *api.Process) {
	k := slotKey{p.Release, p.Slot}
	h := d.history[k]
	first := h.last == nil
	h.attempts = max(h.attempts, p.Attempt) + 1
	h.last = p
	switch {
	case p.Live():
	case p.Desired != api.DesiredRun || p.Observed.State == api.StateLost:
		h.failures, h.avoid = 0, "" // we ended it, or its node did
	case lasted(p) > backoffReset:
		h.failures, h.avoid = 1, p.Node
	case first:
		h.failures, h.avoid = p.Attempt+1, p.Node
	default:
		h.failures, h.avoid = h.failures+1, p.Node
	}
	d.history[k] = h
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
	return out
}

// surplus picks the copies to let go when more run than are wanted: what a restart is about to
// replace, then what does not serve yet, then the newest slot.
func (d *diff) surplus(running []*api.Process, count int) []*api.Process {
	if len(running) <= count {
		return nil
	}
	sorted := slices.Clone(running)
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

// free returns the lowest slots that no running copy holds, so many that count copies exist.
func free(running []*api.Process, count int) []int {
	taken := map[int]bool{}
	for _, p := range running {
		taken[p.Slot] = true
	}
	var out []int
	for slot := 1; len(running)+len(out) < count; slot++ {
		if !taken[slot] {
			out = append(out, slot)
		}
	}
	return out
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

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
	failures int // of them, ended by themselves, in a row up to the last
	last     *api.Process
	lastNode api.NodeID // to be avoided after a failure
}

// diff is what is wanted beside what lives.
type diff struct {
	live    []*api.Process // of kind service
	alive   int            // how many still hold resources
	stop    []api.Stop
	missing map[api.ReleaseID][]int // free slots, lowest first, as many as copies are wanted
	history map[slotKey]past
	perNode map[api.NodeID]int // live copies
	volumes api.NodeID         // where the data of the service lies; "" if nowhere yet
}

// compare sorts the processes of a service into what stays, what stops and what is missing.
func compare(s State, svc *api.Service) *diff {
	d := &diff{missing: map[api.ReleaseID][]int{}, history: map[slotKey]past{}, perNode: map[api.NodeID]int{}}
	var all []*api.Process
	for p := range s.ProcessesOf(svc.Key) {
		if p.Kind == api.KindService {
			all = append(all, p)
		}
	}
	slices.SortStableFunc(all, func(a, b *api.Process) int { return a.Created.Compare(b.Created) })
	for _, p := range all {
		d.remember(p)
		if p.Live() {
			d.live = append(d.live, p)
			d.alive++
			d.perNode[p.Node]++
		}
	}
	for _, w := range svc.Want {
		d.wanted(s, svc, w)
	}
	for _, p := range d.live {
		if p.Desired == api.DesiredRun && !slices.ContainsFunc(svc.Want, func(w api.Want) bool { return w.Release == p.Release }) {
			d.stop = append(d.stop, api.Stop{Process: p.ID, Reason: "release " + string(p.Release) + " is not wanted any more"})
		}
	}
	return d
}

// remember adds a process to the history of its slot. Processes come oldest first.
func (d *diff) remember(p *api.Process) {
	k := slotKey{p.Release, p.Slot}
	h := d.history[k]
	h.attempts++
	h.last = p
	if p.Node != "" && p.Observed.State != api.StateLost {
		d.volumes = p.Node
	}
	switch {
	case p.Live():
	case p.Desired != api.DesiredRun || p.Observed.State == api.StateLost:
		h.failures, h.lastNode = 0, ""
	case lasted(p) > backoffReset:
		h.failures, h.lastNode = 1, p.Node
	default:
		h.failures++
		h.lastNode = p.Node
	}
	d.history[k] = h
}

func lasted(p *api.Process) time.Duration {
	if p.Observed.Started.IsZero() {
		return 0
	}
	return p.Observed.Finished.Sub(p.Observed.Started)
}

// wanted finds the surplus and the free slots of one release.
func (d *diff) wanted(s State, svc *api.Service, w api.Want) {
	if spec, ok := s.Spec(w.Release, svc.Key.Service); ok && spec.Agent && w.Count > 0 {
		return
	}
	var running []*api.Process
	taken := map[int]bool{}
	for _, p := range d.live {
		if p.Release == w.Release && p.Desired == api.DesiredRun {
			running = append(running, p)
			taken[p.Slot] = true
		}
	}
	if surplus := len(running) - w.Count; surplus > 0 {
		slices.SortStableFunc(running, func(a, b *api.Process) int {
			return cmp.Or(cmp.Compare(worth(a, svc), worth(b, svc)), a.Created.Compare(b.Created), -cmp.Compare(a.Slot, b.Slot))
		})
		for _, p := range running[:surplus] {
			d.stop = append(d.stop, api.Stop{Process: p.ID, Reason: fmt.Sprintf("%d copies of release %s are wanted, %d were alive", w.Count, w.Release, len(running))})
		}
	}
	for slot := 1; len(running)+len(d.missing[w.Release]) < w.Count; slot++ {
		if !taken[slot] {
			d.missing[w.Release] = append(d.missing[w.Release], slot)
		}
	}
}

// worth orders processes by how much would be lost with them. One from before a requested
// restart is to go first.
func worth(p *api.Process, svc *api.Service) int {
	switch {
	case p.Created.Before(svc.RestartAt):
		return -1
	case p.Ready:
		return 2
	case p.Observed.State == api.StateRunning:
		return 1
	}
	return 0
}

// pinned is the node that copies must go to because their volumes lie there, "" for any.
func (d *diff) pinned(spec *api.ServiceSpec) api.NodeID {
	for _, v := range spec.Volumes {
		if v.Name != "" {
			return d.volumes
		}
	}
	return ""
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

package scheduler

import (
	"slices"

	"slipway/api"
)

// everywhere brings the copies of a service with one copy per node to a number. Nodes where
// nothing of the service lives come first, so that a rollout that stops before it starts fills
// the places it made.
func (r *run) everywhere(d *diff, spec *api.ServiceSpec, w api.Want, waiting *reasons) {
	running := d.running(w.Release)
	kept := r.onePerNode(d, spec, running, w)
	q := r.request(d, spec, w.Release)
	q.home = "" // each node has its own volumes
	classes, why := newClasses(spec), newReasons(q.ask)
	missing := w.Count - len(kept)
	for _, m := range r.emptiest(q) {
		if missing <= 0 {
			return
		}
		if q.own[m.ID] > 0 {
			continue
		}
		if no := refuses(m, classes.of(m.Node), q); no != (refusal{}) {
			why.refuse(no, m)
			continue
		}
		slot := d.slotOn(m.ID, w.Release, kept)
		h := d.history[slotKey{w.Release, slot}]
		missing--
		if at := retryAt(h); r.in.Now.Before(at) {
			r.holdBack(slot, at, h, waiting)
			continue
		}
		c := r.copy(slot, m.ID, h)
		m.free = m.free.Sub(q.ask)
		kept = append(kept, &api.Process{ID: c.ID, Slot: slot, Node: m.ID})
		r.place(d.svc.Key, w.Release, q.ask, c)
	}
	if missing > 0 {
		waiting.merge(why, missing)
	}
}

// onePerNode stops copies on nodes that do not suit any more, second copies on a node, and
// what is more than wanted. It returns the copies that stay.
func (r *run) onePerNode(d *diff, spec *api.ServiceSpec, running []*api.Process, w api.Want) []*api.Process {
	suits := map[api.NodeID]bool{}
	for _, m := range r.cluster.machines {
		suits[m.ID] = spec.Suits(m.Node)
	}
	var kept []*api.Process
	for _, p := range running {
		second := slices.ContainsFunc(kept, func(q *api.Process) bool { return q.Node == p.Node })
		switch {
		case !suits[p.Node]:
			r.stop(p, "its node does not suit the service any more")
		case second:
			r.stop(p, "its node has a copy already")
		default:
			kept = append(kept, p)
		}
	}
	surplus := d.surplus(kept, w.Count)
	for _, p := range surplus {
		r.stop(p, tooMany(w.Count, w.Release, len(kept)))
	}
	return slices.DeleteFunc(kept, func(p *api.Process) bool { return slices.Contains(surplus, p) })
}

// emptiest returns the machines, those without a copy of another release first.
func (r *run) emptiest(q *request) []*machine {
	machines := slices.Clone(r.cluster.machines)
	slices.SortStableFunc(machines, func(a, b *machine) int { return q.others[a.ID] - q.others[b.ID] })
	return machines
}

// slotOn returns the slot that the node had before, or the lowest that no node had.
func (d *diff) slotOn(node api.NodeID, release api.ReleaseID, kept []*api.Process) int {
	taken := map[int]bool{}
	for _, p := range kept {
		taken[p.Slot] = true
	}
	had := 0
	others := map[int]bool{}
	for k, h := range d.history {
		if k.release != release || taken[k.slot] {
			continue
		}
		others[k.slot] = true
		if h.last.Node == node && (had == 0 || k.slot < had) {
			had = k.slot
		}
	}
	if had > 0 {
		return had
	}
	slot := 1
	for taken[slot] || others[slot] {
		slot++
	}
	return slot
}

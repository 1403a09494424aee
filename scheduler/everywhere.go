package scheduler

import (
	"slices"

	"slipway/api"
)

// everywhere brings the copies of a service with one copy per node to a number. Nodes where
// nothing of the service lives come first, so that a rollout that stops before it starts fills
// the places it made.
func (r *run) everywhere(d *diff, spec *api.ServiceSpec, w api.Want, waiting *reasons) {
	c := r.cluster
	running := d.running(w.Release)
	kept := r.onePerNode(d, spec, running, w)
	missing := w.Count - len(kept)
	if missing <= 0 {
		return
	}
	q := d.request(r.state, spec, w.Release)
	q.home = "" // each node has its own volumes
	sh := c.shapeOf(r.state, spec, q.ask)
	has, others := map[api.NodeID]bool{}, map[api.NodeID]int{}
	for _, id := range q.own {
		has[id] = true
	}
	for _, id := range q.others {
		others[id]++
	}
	why := newReasons(q.ask)
	for _, i := range c.emptiest(others) {
		n := c.nodes[i]
		if missing <= 0 {
			return
		}
		if has[n.ID] {
			continue
		}
		if no := sh.spots[i].why; no >= 0 {
			why.refuse(sh.causes[no], c.table[i].free)
			continue
		}
		slot := d.slotOn(n.ID, w.Release, kept)
		h := d.past(w.Release, slot)
		missing--
		if at := retryAt(h); r.in.Now.Before(at) {
			r.holdBack(slot, at, h, waiting)
			continue
		}
		g, _ := grant(spec, n, api.Usage{Grant: c.held[i]}, slot)
		cp := r.copy(slot, n.ID, h, g)
		c.take(i, q.ask, g)
		kept = append(kept, &api.Process{ID: cp.ID, Slot: slot, Node: n.ID})
		r.place(d.svc.Key, w.Release, q.ask, cp, 0)
	}
	if missing > 0 {
		waiting.merge(why, missing)
	}
}

// onePerNode stops copies on nodes that do not suit any more, second copies on a node, and
// what is more than wanted. It returns the copies that stay.
func (r *run) onePerNode(d *diff, spec *api.ServiceSpec, running []*api.Process, w api.Want) []*api.Process {
	var kept []*api.Process
	has := map[api.NodeID]bool{}
	oldestFirst(running)
	for _, p := range running {
		n, ok := r.state.Node(p.Node)
		second := has[p.Node]
		switch {
		case !ok || !spec.Suits(n):
			r.stop(p, "its node does not suit the service any more")
		case second:
			r.stop(p, "its node has a copy already")
		default:
			has[p.Node] = true
			kept = append(kept, p)
		}
	}
	surplus := d.surplus(kept, w.Count)
	for _, p := range surplus {
		r.stop(p, tooMany(w.Count, w.Release, len(kept)))
	}
	return slices.DeleteFunc(kept, func(p *api.Process) bool { return slices.Contains(surplus, p) })
}

// emptiest returns the nodes, those without a copy of another release first.
func (c *Cluster) emptiest(others map[api.NodeID]int) []int32 {
	nodes := slices.Clone(c.inOrder())
	slices.SortStableFunc(nodes, func(a, b int32) int { return others[c.ids[a]] - others[c.ids[b]] })
	return nodes
}

// slotOn returns the slot that the node had before, or the lowest that no node had.
func (d *diff) slotOn(node api.NodeID, release api.ReleaseID, kept []*api.Process) int {
	d.remember()
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

package sim

import (
	"slipway/api"
	"slipway/raftstore/state"
)

// check looks at the truth after each commit: at everything while it is small, else now and then.
func (w *World) check() {
	w.Checks++
	if len(w.nodes) <= 20 || w.Checks%100 == 0 {
		w.broken = append(w.broken, w.State.View().Check()...)
	}
	w.checkMinimum()
}

// checkMoves: states and what is wanted of a process never go back.
func (w *World) checkMoves(before *state.View, ch state.Changes) {
	now := w.State.View()
	for id := range ch.Processes {
		was, ok := before.Process(id)
		is, still := now.Process(id)
		if ok && still && (!was.Observed.State.CanMove(is.Observed.State) || is.Desired < was.Desired) {
			w.fail("process %s went from %s/%s to %s/%s", id, was.Observed.State, was.Desired, is.Observed.State, is.Desired)
		}
	}
}

// checkRoutes: a table that a leader decides on leads to processes that are reported healthy and
// have not been asked to stop, as far as it knows. One that began to drain in the same pass may be
// named once more, for all steps of a pass see the same snapshot; it is not stopped before a
// table without it is acknowledged.
func (w *World) checkRoutes(v *state.View, c state.Command) {
	set, ok := c.(state.SetRoutes)
	if !ok {
		return
	}
	for _, r := range set.Routes {
		for _, t := range r.Targets {
			p, ok := v.Process(t.Process)
			if !ok || p.Desired == api.DesiredStop || p.Observed.Health != api.HealthHealthy {
				w.fail("route %s leads to process %s, which is not healthy or is to stop", r.Key, t.Process)
			}
		}
	}
}

// checkDrained: a process that serves is asked to end only once no router leads to it, while
// nothing is wrong.
func (w *World) checkDrained(p *proc) {
	if w.faulty || p.l.Status.Health != api.HealthHealthy {
		return
	}
	for _, n := range w.nodes {
		if n.up && (n.table[p.a.Process] || n.drains[p.a.Process].After(w.Now)) {
			w.fail("process %s is asked to end while the router of %s leads to it or has requests in flight", p.a.Process, n.id)
		}
	}
}

// checkMinimum compares the ready copies with what a rollout may not undercut.
func (w *World) checkMinimum() {
	if w.faulty {
		return
	}
	v := w.State.View()
	for key, least := range w.minimum {
		ready := 0
		for p := range v.LiveOf(key) {
			if p.Ready {
				ready++
			}
		}
		if ready < least {
			w.fail("%s has %d ready copies, the minimum is %d", key, ready, least)
			delete(w.minimum, key)
		}
	}
}

// Settled checks what must hold once faults have stopped and everything has converged: servers
// agree, and nodes run what they are to run and nothing else.
func (w *World) Settled() {
	w.broken = append(w.broken, w.State.View().Check()...)
	v := w.State.View()
	for _, n := range w.nodes {
		for id, p := range n.procs {
			known, ok := v.Process(id)
			if p.l.Task && p.l.Exit == nil && (!ok || known.Node != n.id || !known.Live()) {
				w.fail("node %s runs %s, which nobody wants", n.id, id)
			}
		}
		for p := range v.ProcessesOn(n.id) {
			if mine := n.procs[p.ID]; p.Observed.State == api.StateRunning && (mine == nil || !mine.l.Task || mine.l.Exit != nil) {
				w.fail("process %s runs for the servers, but not on node %s", p.ID, n.id)
			}
		}
	}
	for _, s := range w.servers {
		if s.up && s.applied == w.index {
			s.compact()
		}
	}
}

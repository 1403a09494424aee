package router

import (
	"cmp"
	"context"
	"slices"
	"time"

	"slipway/api"
)

// retire takes the targets that the new table does not name out of service. Whoever acquires
// one of them from now on is sent back to the table.
func (r *Router) retireLocked(next *table, now time.Time) {
	for id, tg := range r.known {
		if _, named := next.targets[id]; named || tg.isRetired() {
			continue
		}
		tg.retire()
		r.drains[tg] = now.Add(tg.drain)
	}
}

// reviveLocked puts the targets of the new table in service, those that were draining as well.
func (r *Router) reviveLocked(next *table) {
	for id, tg := range next.targets {
		tg.drain = next.drains[id]
		r.known[id] = tg
		if tg.isRetired() {
			tg.revive()
			delete(r.drains, tg)
		}
	}
}

// drainLoop watches the retired targets: it is told when one has no more requests, and wakes at
// the limits of the others.
func (r *Router) drainLoop(ctx context.Context) error {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		if next := r.settle(time.Now()); !next.IsZero() {
			timer.Reset(time.Until(next))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-r.settled:
		case <-timer.C:
		}
	}
}

// settle forgets the targets that have drained or may not drain any longer, and returns the
// nearest limit of those that are left; zero if there are none.
func (r *Router) settle(now time.Time) (next time.Time) {
	var over []*target
	r.mu.Lock()
	for tg, limit := range r.drains {
		switch {
		case tg.inFlight() == 0:
			r.logger.Info("target drained", "process", tg.id.process)
		case !now.Before(limit):
			r.logger.Warn("target reached its drain limit", "process", tg.id.process, "in_flight", tg.inFlight())
		default:
			if next.IsZero() || limit.Before(next) {
				next = limit
			}
			continue
		}
		delete(r.drains, tg)
		delete(r.known, tg.id)
		over = append(over, tg)
	}
	r.mu.Unlock()
	for _, tg := range over {
		tg.closeTunnels()
		tg.sweep(now.Add(time.Hour))
	}
	if len(over) > 0 {
		r.changed()
	}
	return next
}

// draining lists the processes that left the table with requests in flight, sorted.
func (r *Router) draining() []api.DrainingTarget {
	r.mu.Lock()
	counts := make(map[api.ProcessID]int, len(r.drains))
	for tg := range r.drains {
		if n := tg.inFlight(); n > 0 {
			counts[tg.id.process] += n
		}
	}
	r.mu.Unlock()
	for _, d := range r.inherited() {
		counts[d.Process] += d.InFlight
	}
	list := make([]api.DrainingTarget, 0, len(counts))
	for process, n := range counts {
		list = append(list, api.DrainingTarget{Process: process, InFlight: n})
	}
	slices.SortFunc(list, func(a, b api.DrainingTarget) int { return cmp.Compare(a.Process, b.Process) })
	return list
}

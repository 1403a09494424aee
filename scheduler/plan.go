package scheduler

import (
	"time"

	"slipway/api"
)

// draft is a plan in the making.
type draft struct {
	plan api.Plan
	wake time.Time
}

func (d *draft) place(p api.Process) { d.plan.Place = append(d.plan.Place, p) }

func (d *draft) stop(p *api.Process, reason string) {
	d.plan.Stop = append(d.plan.Stop, api.Stop{Process: p.ID, Reason: reason})
}

// wakeAt asks to be called again at a time, at the latest.
func (d *draft) wakeAt(at time.Time) {
	if d.wake.IsZero() || at.Before(d.wake) {
		d.wake = at
	}
}

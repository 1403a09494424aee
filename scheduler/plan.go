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

// place adds a copy to the group of its service and release.
func (d *draft) place(key api.ServiceKey, release api.ReleaseID, ask api.Amount, c api.Copy) {
	if n := len(d.plan.Place); n == 0 || d.plan.Place[n-1].Key != key || d.plan.Place[n-1].Release != release {
		d.plan.Place = append(d.plan.Place, api.Group{Key: key, Release: release, Ask: ask})
	}
	g := &d.plan.Place[len(d.plan.Place)-1]
	g.Copies = append(g.Copies, c)
}

func (d *draft) stop(p *api.Process, reason string) {
	d.plan.Stop = append(d.plan.Stop, api.Stop{Process: p.ID, Reason: reason})
}

// wakeAt asks to be called again at a time, at the latest.
func (d *draft) wakeAt(at time.Time) {
	if d.wake.IsZero() || at.Before(d.wake) {
		d.wake = at
	}
}

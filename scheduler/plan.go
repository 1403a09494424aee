package scheduler

import (
	"time"

	"slipway/api"
)

// moreMax bounds the room that is made for copies to come: a rack may be full after the first.
const moreMax = 1024

// draft is a plan in the making.
type draft struct {
	plan api.Plan
	wake time.Time
}

// place adds a copy to the group of its service and release, of which more may come.
func (d *draft) place(key api.ServiceKey, release api.ReleaseID, ask api.Amount, c api.Copy, more int) {
	if n := len(d.plan.Place); n == 0 || d.plan.Place[n-1].Key != key || d.plan.Place[n-1].Release != release {
		d.plan.Place = append(d.plan.Place, api.Group{Key: key, Release: release, Ask: ask, Copies: make([]api.Copy, 0, 1+min(more, moreMax))})
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

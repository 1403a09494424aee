package rollout

import (
	"slices"

	"slipway/api"
	"slipway/raftstore/state"
)

// want computes what should be alive of a service on its way to a release, and whether it is
// there. The rounding is that of Kubernetes: what may be surplus is rounded up, what may be
// missing is rounded down, so that one copy at 50/200 starts the new one first.
func (p *pass) want(svc *api.Service, release api.ReleaseID) ([]api.Want, bool) {
	spec, ok := p.v.Spec(release, svc.Key.Service)
	if !ok {
		return p.retire(svc, release), len(svc.Want) == 0
	}
	n := svc.Override.Apply(spec.Scale).Count
	if spec.Agent {
		n = p.eligible()
	}
	c := p.count(svc, release)
	if c.otherWanted == 0 && c.othersLive == 0 {
		// Nothing to replace: all copies at once.
		return p.fresh(svc, spec, release, n, c)
	}
	surge := (n*(spec.Maximum-100) + 99) / 100
	missing := n * (100 - spec.Minimum) / 100
	if surge <= 0 && missing == 0 {
		surge = 1 // 100/100 could never move
	}
	// New copies fill what the old ones leave free.
	target := min(n, max(c.mine, n+surge-c.othersLive))
	// Old copies go as far as ready ones stay above the minimum.
	keep := max(0, n-missing-c.mineReady)
	if c.mineReady >= n {
		keep = 0
	}
	want := []api.Want{}
	if target > 0 {
		want = append(want, api.Want{Release: release, Count: target})
	}
	for _, w := range p.others(svc, release) {
		count := min(w.Count, keep)
		keep -= count
		if count > 0 {
			want = append(want, api.Want{Release: w.Release, Count: count})
		}
	}
	return want, false
}

// fresh is the want of a service that has copies of one release only. Copies from before a
// requested restart are replaced: some more are wanted until they are ready, then the usual
// number, and the scheduler lets go of the oldest.
func (p *pass) fresh(svc *api.Service, spec *api.ServiceSpec, release api.ReleaseID, n int, c counts) ([]api.Want, bool) {
	want := []api.Want{}
	total := n
	if len(c.stale) > 0 && n > 0 && !spec.Agent {
		surge := (n*(spec.Maximum-100) + 99) / 100
		switch {
		case surge <= 0 && c.mineReady >= n:
			p.cmds = append(p.cmds, state.StopProcess{Process: c.stale[0], Reason: "restarted"})
		case c.mineReady < n+surge:
			total = n + surge
		}
	}
	if total > 0 {
		want = append(want, api.Want{Release: release, Count: total})
	}
	return want, c.mineReady >= n && c.mine <= n && len(c.stale) == 0
}

// counts is what there is of a service.
type counts struct {
	mine, mineReady int // live copies of the release that are meant to run; those ready
	othersLive      int // copies of other releases that hold resources
	otherWanted     int // copies of other releases that Want names
	// stale are live copies of the release from before a requested restart.
	stale []api.ProcessID
}

func (p *pass) count(svc *api.Service, release api.ReleaseID) (c counts) {
	for q := range p.v.LiveOf(svc.Key) {
		switch {
		case q.Kind != api.KindService:
		case q.Release != release:
			c.othersLive++
		case q.Desired == api.DesiredRun:
			c.mine++
			if q.Created.Before(svc.RestartAt) {
				c.stale = append(c.stale, q.ID)
			}
			if q.Ready {
				c.mineReady++
			}
		}
	}
	for _, w := range svc.Want {
		if w.Release != release {
			c.otherWanted += w.Count
		}
	}
	return c
}

// others is what is wanted of other releases, what serves first: the release that a deployment
// would go back to, then the newer ones.
func (p *pass) others(svc *api.Service, release api.ReleaseID) []api.Want {
	var out []api.Want
	for _, w := range svc.Want {
		if w.Release != release {
			out = append(out, w)
		}
	}
	ready := func(w api.Want) int {
		n := 0
		for q := range p.v.LiveOf(svc.Key) {
			if q.Release == w.Release && q.Ready {
				n++
			}
		}
		return n
	}
	slices.SortStableFunc(out, func(a, b api.Want) int { return ready(b) - ready(a) })
	return out
}

// retire is the want of a service that a release does not have: its copies stay until all
// services of the release are in force, because they may be called by the old ones.
func (p *pass) retire(svc *api.Service, release api.ReleaseID) []api.Want {
	r, ok := p.v.Release(release)
	if !ok {
		return nil
	}
	for i := range r.Services {
		k := api.ServiceKey{App: p.app.Name, Service: r.Services[i].Name}
		s, ok := p.v.Service(k)
		if !ok {
			return svc.Want
		}
		n := s.Override.Apply(r.Services[i].Scale).Count
		if r.Services[i].Agent {
			n = p.eligible()
		}
		if c := p.count(s, release); c.mineReady < n || c.otherWanted > 0 {
			return svc.Want
		}
	}
	return nil
}

// eligible counts the nodes that take processes.
func (p *pass) eligible() int {
	n := 0
	for node := range p.v.Nodes() {
		if node.Eligible() {
			n++
		}
	}
	return n
}

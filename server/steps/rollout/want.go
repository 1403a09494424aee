package rollout

import (
	"cmp"
	"slices"

	"slipway/api"
	"slipway/raftstore/state"
)

// tally is what there is of a service on its way to a release.
type tally struct {
	fresh, ready int            // copies of the release that are meant to run; those ready
	old          int            // copies to be replaced that hold room, leaving ones included
	leaving      int            // those that drain or stop
	stale        []*api.Process // running copies of the release that are to be replaced, see pass.stale
	others       []api.Want     // what Want names of other releases, the most ready first
	readyOf      map[api.ReleaseID]int
	staleReady   int
}

// stale says why a copy of the release that is in force is to be replaced by another one of it; ""
// if it may stay. Copies that run once on every node leave a draining one with nobody to follow.
func (p *pass) stale(svc *api.Service, spec *api.ServiceSpec, q *api.Process) string {
	if q.Created.Before(svc.RestartAt) {
		return "the service was restarted"
	}
	if node, drains := p.draining[q.Node]; drains && spec != nil && !spec.Agent {
		return "node " + node + " is draining"
	}
	return ""
}

func (p *pass) tally(svc *api.Service, release api.ReleaseID) (t tally) {
	t.readyOf = map[api.ReleaseID]int{}
	spec, _ := p.v.Spec(release, svc.Key.Service)
	for q := range p.v.LiveOf(svc.Key) {
		if q.Kind != api.KindService {
			continue
		}
		if q.Ready {
			t.readyOf[q.Release]++
		}
		running, stale := q.Desired == api.DesiredRun, p.stale(svc, spec, q) != ""
		if !running && (stale || q.Release != release) {
			t.leaving++
		}
		switch {
		case q.Release != release:
			t.old++
		case stale:
			t.old++
			if running {
				t.stale = append(t.stale, q)
				if q.Ready {
					t.staleReady++
				}
			}
		case running:
			t.fresh++
			if q.Ready {
				t.ready++
			}
		}
	}
	for _, w := range svc.Want {
		if w.Release != release {
			t.others = append(t.others, w)
		}
	}
	slices.SortStableFunc(t.others, func(a, b api.Want) int { return cmp.Compare(t.readyOf[b.Release], t.readyOf[a.Release]) })
	// Those that do not serve go first, then the oldest: they are at the end.
	slices.SortStableFunc(t.stale, func(a, b *api.Process) int {
		if a.Ready != b.Ready {
			if a.Ready {
				return -1
			}
			return 1
		}
		return cmp.Or(b.Created.Compare(a.Created), cmp.Compare(a.ID, b.ID))
	})
	return t
}

// want computes what should be alive of a service on its way to a release, and whether it is
// there: every copy ready, nothing else alive. A scale change needs no more than this, for a
// release that is in force is one that is already on its way to itself. Copies from before a
// requested restart and those on draining nodes count as old; they are stopped one by one, for
// they are of the release that Want names.
func (p *pass) want(svc *api.Service, release api.ReleaseID) ([]api.Want, bool) {
	spec, ok := p.v.Spec(release, svc.Key.Service)
	if !ok {
		return p.retire(svc, release), len(svc.Want) == 0
	}
	n := p.scale(svc, spec)
	t := p.tally(svc, release)
	b := boundsOf(spec, n)
	wantNew, wantOld := b.next(t.fresh, t.ready, t.old-t.leaving, t.leaving)
	var old []api.Want
	for _, w := range t.others {
		if keep := min(w.Count, wantOld, t.readyOf[w.Release]); keep > 0 {
			old = append(old, api.Want{Release: w.Release, Count: keep})
			wantOld -= keep
		}
	}
	keep := min(wantOld, t.staleReady)
	for _, q := range t.stale[keep:] {
		p.cmds = append(p.cmds, state.StopProcess{Process: q.ID, Reason: p.stale(svc, spec, q)})
	}
	var want []api.Want
	if wantNew+keep > 0 {
		want = []api.Want{{Release: release, Count: wantNew + keep}}
	}
	return append(want, old...), t.ready >= n && t.fresh <= n && t.old == 0 && len(t.others) == 0
}

// scale is how many copies a service is to have.
func (p *pass) scale(svc *api.Service, spec *api.ServiceSpec) int {
	if !spec.Agent {
		return svc.Override.Apply(spec.Scale).Count
	}
	hosts := map[api.NodeID]bool{}
	for q := range p.v.LiveOf(svc.Key) {
		hosts[q.Node] = hosts[q.Node] || q.Kind == api.KindService
	}
	n := 0
	for node := range p.v.Nodes() {
		stays := node.Status == api.NodeReady && !node.Draining && hosts[node.ID]
		if spec.Suits(node) && (node.Eligible() || stays) {
			n++
		}
	}
	return n
}

// retire is the want of a service that a release does not have: its copies stay until all
// services of the release are in force, because they may be called by the old ones.
func (p *pass) retire(svc *api.Service, release api.ReleaseID) []api.Want {
	r, ok := p.v.Release(release)
	if !ok {
		return nil
	}
	for i := range r.Services {
		s, ok := p.v.Service(api.ServiceKey{App: p.app.Name, Service: r.Services[i].Name})
		if !ok {
			return svc.Want
		}
		if t := p.tally(s, release); t.ready < p.scale(s, &r.Services[i]) || len(t.others) > 0 {
			return svc.Want
		}
	}
	return nil
}

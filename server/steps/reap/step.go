package reap

import (
	"cmp"
	"slices"
	"time"

	"slipway/api"
	"slipway/raftstore/state"
	"slipway/server/steps"
)

// What is kept.
const (
	EndedPerService   = 20 // newest ended processes
	RecentPerService  = 200
	RecentAge         = time.Hour // of the processes of the newest deployment
	EndedPerSlot      = 3         // of releases that are wanted: the scheduler's back-off reads them
	DeploymentsPerApp = 20
	ReleasesPerApp    = 100
	RequestAge        = time.Hour
	requestBatch      = 1000
	sweepInterval     = 10 * time.Minute
)

// Step looks at the apps that changed.
func Step(v *state.View, ch state.Changes, in steps.Input) (cmds []state.Command, wake time.Time) {
	var r state.Reap
	for _, a := range steps.Apps(v, ch) {
		if a.Deleting {
			stop, live := ending(v, a.Name)
			cmds = append(cmds, stop...)
			if !live {
				r.Apps = append(r.Apps, a.Name)
			}
			continue
		}
		processes(v, a, in.Now, &r)
		services(v, a, &r)
		deployments(v, a.Name, &r)
		releases(v, a.Name, &r)
	}
	wake = in.Now.Add(sweepInterval)
	if ch.All && requests(v, in.Now, &r) {
		wake = in.Now
	}
	if len(r.Processes)+len(r.Deployments)+len(r.Releases)+len(r.Builds)+len(r.Requests)+len(r.Apps)+len(r.Services) > 0 {
		cmds = append(cmds, r)
	}
	return cmds, wake
}

// requests collects answered requests that nobody will repeat any more; more says that there
// are others. They are looked at when everything is, for they have no keys of their own.
func requests(v *state.View, now time.Time, r *state.Reap) (more bool) {
	for id, at := range v.Requests() {
		if now.Sub(at) < RequestAge {
			continue
		}
		if len(r.Requests) == requestBatch {
			return true
		}
		r.Requests = append(r.Requests, id)
	}
	return false
}

// ending stops what still lives of a deleted app.
func ending(v *state.View, app api.AppName) (cmds []state.Command, live bool) {
	for p := range v.ProcessesOfApp(app) {
		if !p.Live() {
			continue
		}
		live = true
		if p.Desired == api.DesiredRun {
			cmds = append(cmds, state.StopProcess{Process: p.ID, Reason: "the app was deleted"})
		}
	}
	return cmds, live
}

// processes keeps, of each service, the newest ended ones, those of the newest deployment for
// a while, the last ones of each slot, and the last one that ran.
func processes(v *state.View, a *api.App, now time.Time, r *state.Reap) {
	ended := map[api.ServiceName][]*api.Process{}
	for p := range v.ProcessesOfApp(a.Name) {
		if p.Live() {
			continue
		}
		if b, ok := v.Build(p.Build); ok && !b.Status.Ended() {
			continue // its result is still to be read
		}
		ended[p.Service] = append(ended[p.Service], p)
	}
	var deployed time.Time
	if d, ok := v.Deployment(a.Deployment); ok {
		deployed = d.Created
	}
	for service, list := range ended {
		if len(list) <= EndedPerService {
			continue
		}
		slices.SortFunc(list, func(a, b *api.Process) int {
			return cmp.Or(b.Created.Compare(a.Created), cmp.Compare(a.ID, b.ID))
		})
		k := keeper{deployed: deployed, now: now, slots: map[slot]int{}, wanted: map[api.ReleaseID]bool{}}
		if svc, ok := v.Service(api.ServiceKey{App: a.Name, Service: service}); ok {
			for _, w := range svc.Want {
				k.wanted[w.Release] = true
			}
		}
		for i, p := range list {
			if !k.keeps(i, p) {
				r.Processes = append(r.Processes, p.ID)
			}
		}
	}
	slices.Sort(r.Processes)
}

// keeper decides over the ended processes of one service, the newest first.
type keeper struct {
	deployed, now time.Time
	wanted        map[api.ReleaseID]bool
	slots         map[slot]int
	ran           bool
}

type slot struct {
	release api.ReleaseID
	slot    int
}

func (k *keeper) keeps(i int, p *api.Process) bool {
	s := slot{p.Release, p.Slot}
	k.slots[s]++
	lastRun := !k.ran && !p.Observed.Started.IsZero() // it knows where the volumes are
	k.ran = k.ran || lastRun
	recent := !p.Created.Before(k.deployed) && k.now.Sub(p.Observed.Finished) < RecentAge
	switch {
	case i < EndedPerService, lastRun:
		return true
	case i < RecentPerService && recent:
		return true
	}
	return p.Kind == api.KindService && k.wanted[p.Release] && k.slots[s] <= EndedPerSlot
}

// services removes those that no release in force describes, nobody scaled, and nothing is
// left of.
func services(v *state.View, a *api.App, r *state.Reap) {
	d, ok := v.Deployment(a.Deployment)
	if !ok || !d.Status.Ended() || a.Release == "" {
		return
	}
	for s := range v.Services(a.Name) {
		_, described := v.Spec(a.Release, s.Key.Service)
		if described || len(s.Want) > 0 || s.Override != nil {
			continue
		}
		alive := false
		for range v.LiveOf(s.Key) {
			alive = true
		}
		if !alive {
			r.Services = append(r.Services, s.Key)
		}
	}
}

func deployments(v *state.View, app api.AppName, r *state.Reap) {
	n := 0
	for d := range v.Deployments(app) {
		if n++; n > DeploymentsPerApp && d.Status.Ended() {
			r.Deployments = append(r.Deployments, d.ID)
		}
	}
}

// releases keeps the newest, and the builds they need; Apply keeps what is in use anyway.
func releases(v *state.View, app api.AppName, r *state.Reap) {
	a, _ := v.App(app)
	n := 0
	kept := map[api.BuildID]bool{}
	for rel := range v.Releases(app) {
		if n++; n > ReleasesPerApp && rel.ID != a.Release && !live(v, rel) {
			r.Releases = append(r.Releases, rel.ID)
			continue
		}
		kept[rel.Build] = true
	}
	n = 0
	for b := range v.Builds(app) {
		if n++; n > ReleasesPerApp && b.Status.Ended() && !kept[b.ID] {
			r.Builds = append(r.Builds, b.ID)
		}
	}
}

func live(v *state.View, rel *api.Release) bool {
	for p := range v.ProcessesOfApp(rel.App) {
		if p.Live() && p.Release == rel.ID {
			return true
		}
	}
	a, _ := v.App(rel.App)
	d, ok := v.Deployment(a.Deployment)
	return ok && (d.Previous == rel.ID || d.Release == rel.ID)
}

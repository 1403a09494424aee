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
	EndedPerService   = 20
	DeploymentsPerApp = 20
	ReleasesPerApp    = 100
	RequestAge        = time.Hour
	requestBatch      = 1000
	requestSweep      = 10 * time.Minute
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
		processes(v, a.Name, &r)
		deployments(v, a.Name, &r)
		releases(v, a.Name, &r)
	}
	sweep := in.Now.Add(requestSweep)
	for id, at := range v.Requests() {
		if in.Now.Sub(at) < RequestAge {
			continue
		}
		if r.Requests = append(r.Requests, id); len(r.Requests) == requestBatch {
			sweep = in.Now
			break
		}
	}
	if len(r.Processes)+len(r.Deployments)+len(r.Releases)+len(r.Builds)+len(r.Requests)+len(r.Apps) > 0 {
		cmds = append(cmds, r)
	}
	return cmds, sweep
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

// processes keeps the newest ended ones of each service.
func processes(v *state.View, app api.AppName, r *state.Reap) {
	ended := map[api.ServiceName][]*api.Process{}
	for p := range v.ProcessesOfApp(app) {
		if p.Live() {
			continue
		}
		if b, ok := v.Build(p.Build); ok && !b.Status.Ended() {
			continue // its result is still to be read
		}
		ended[p.Service] = append(ended[p.Service], p)
	}
	for _, list := range ended {
		if len(list) <= EndedPerService {
			continue
		}
		slices.SortFunc(list, func(a, b *api.Process) int {
			return cmp.Or(b.Created.Compare(a.Created), cmp.Compare(a.ID, b.ID))
		})
		for _, p := range list[EndedPerService:] {
			r.Processes = append(r.Processes, p.ID)
		}
	}
	slices.Sort(r.Processes)
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

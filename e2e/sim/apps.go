package sim

import (
	"fmt"
	"time"

	"slipway/api"
	"slipway/raftstore/state"
)

// App creates an app.
func (w *World) App(name api.AppName) {
	w.Apply("ann", state.CreateApp{App: api.App{Name: name}})
}

// Web describes a routed service.
func Web(count, minimum, maximum int) api.ServiceSpec {
	return api.ServiceSpec{
		Name: "web", Image: "web", Port: api.Port{Number: 80, Scheme: api.SchemeHTTP}, Minimum: minimum, Maximum: maximum,
		Health: api.Health{Path: "/", Grace: 5 * time.Second, Interval: 5 * time.Second, Timeout: 4 * time.Second},
		Drain:  30 * time.Second, Grace: 10 * time.Second,
		Scale: api.Scale{Count: count, Min: count, Max: count, Ask: api.Amount{CPU: 250, Memory: 512 * api.MiB}},
	}
}

// Release stores a release whose processes behave in a given way, and returns its ID.
func (w *World) Release(app api.AppName, b Behaviour, services ...api.ServiceSpec) api.ReleaseID {
	id := w.rand.Release()
	w.apps[id] = b
	w.Apply("ann", state.CreateRelease{Release: api.Release{ID: id, App: app, Services: services}})
	return id
}

// Promote begins a deployment.
func (w *World) Promote(app api.AppName, release api.ReleaseID) api.DeploymentID {
	id := w.rand.Deployment()
	if r := w.Apply("ann", state.CreateDeployment{Deployment: api.Deployment{ID: id, App: app, Release: release, Author: "ann"}}); r.Err != nil {
		panic(fmt.Sprintf("promote %s: %v", release, r.Err))
	}
	return id
}

// Await lets time pass until a deployment has ended and returns it.
func (w *World) Await(id api.DeploymentID, limit time.Duration) *api.Deployment {
	w.RunUntil(limit, func(v *state.View) bool {
		d, ok := v.Deployment(id)
		return ok && d.Status.Ended()
	})
	d, _ := w.State.View().Deployment(id)
	return d
}

// Converged reports whether every service has exactly what its app's release asks for, ready
// and routed, and nothing else is alive.
func Converged(v *state.View) bool {
	for a := range v.Apps() {
		if d, ok := v.Deployment(a.Deployment); ok && !d.Status.Ended() {
			return false
		}
		r, ok := v.Release(a.Release)
		if !ok {
			continue
		}
		for i := range r.Services {
			key := api.ServiceKey{App: a.Name, Service: r.Services[i].Name}
			svc, _ := v.Service(key)
			want, ready := r.Services[i].Scale.Count, 0
			if svc != nil {
				want = svc.Override.Apply(r.Services[i].Scale).Count
			}
			for p := range v.LiveOf(key) {
				if p.Release != r.ID || !p.Ready {
					return false
				}
				ready++
			}
			if ready != want || r.Services[i].Routed() && targets(v, key) != ready {
				return false
			}
		}
	}
	return true
}

// targets counts the processes that the route of a service leads to.
func targets(v *state.View, key api.ServiceKey) int {
	for _, r := range v.Routes(key.App) {
		if r.Key == key {
			return len(r.Targets)
		}
	}
	return 0
}

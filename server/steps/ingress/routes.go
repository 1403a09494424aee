package ingress

import (
	"fmt"
	"slices"
	"strings"

	"slipway/api"
	"slipway/raftstore/state"
)

// mainService answers under the app's own name even where it is not the only one.
const mainService api.ServiceName = "web"

// routesOf derives the routes of an app, one for each routed service that is in force, in name
// order. A service without targets keeps its route: a router then says that nobody is there
// instead of not knowing the host.
func routesOf(v *state.View, app api.AppName) []api.Route {
	a, ok := v.App(app)
	if !ok || a.Deleting {
		return nil
	}
	var routes []api.Route
	for s := range v.Services(app) {
		if r, ok := routeOf(v, a, s); ok {
			routes = append(routes, r)
		}
	}
	for i := range routes {
		if len(routes) == 1 || routes[i].Key.Service == mainService {
			routes[i].Hosts = addHost(routes[i].Hosts, string(app)+"."+v.Rack().Domain)
		}
	}
	return routes
}

// routeOf derives the route of one service from the newest release that wants it.
func routeOf(v *state.View, a *api.App, s *api.Service) (api.Route, bool) {
	release := a.Release
	if len(s.Want) > 0 {
		release = s.Want[0].Release
	}
	spec, ok := v.Spec(release, s.Key.Service)
	if !ok || !spec.Routed() {
		return api.Route{}, false
	}
	r := api.Route{
		Key: s.Key, Scheme: spec.Port.Scheme, Sticky: spec.Sticky, Redirect: spec.Redirect,
		Timeout: spec.Timeout, Drain: spec.Drain, Whitelist: spec.Whitelist,
		Hosts: []string{fmt.Sprintf("%s.%s.%s", s.Key.Service, a.Name, v.Rack().Domain)},
	}
	for _, d := range spec.Domains {
		r.Hosts = addHost(r.Hosts, strings.ToLower(d))
	}
	for q := range v.LiveOf(s.Key) {
		if t, ok := targetOf(v, q); ok {
			r.Targets = append(r.Targets, t)
		}
	}
	return r, true
}

func addHost(hosts []string, host string) []string {
	if slices.Contains(hosts, host) {
		return hosts
	}
	return append(hosts, host)
}

// targetOf says where a process receives traffic, if it may: healthy, meant to run, and with
// the port that its own release describes.
func targetOf(v *state.View, q *api.Process) (api.Target, bool) {
	o := q.Observed
	if q.Kind != api.KindService || q.Desired != api.DesiredRun || o.State != api.StateRunning ||
		o.Health != api.HealthHealthy || o.Addr == "" {
		return api.Target{}, false
	}
	spec, ok := v.Spec(q.Release, q.Service)
	if !ok || !spec.Routed() {
		return api.Target{}, false
	}
	return api.Target{Process: q.ID, Addr: fmt.Sprintf("%s:%d", o.Addr, spec.Port.Number)}, true
}

// same compares what is wanted with what is stored, which knows since when each target is
// named.
func same(want, have []api.Route) bool {
	return slices.EqualFunc(want, have, func(w, h api.Route) bool {
		return w.Key == h.Key && slices.Equal(w.Hosts, h.Hosts) && w.Scheme == h.Scheme && w.Sticky == h.Sticky &&
			w.Redirect == h.Redirect && w.Timeout == h.Timeout && w.Drain == h.Drain &&
			slices.Equal(w.Whitelist, h.Whitelist) &&
			slices.EqualFunc(w.Targets, h.Targets, func(a, b api.Target) bool { return a.Process == b.Process && a.Addr == b.Addr })
	})
}

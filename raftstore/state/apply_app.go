package state

import (
	"slices"
	"strings"

	"slipway/api"
)

// app returns a copy of an app that may be changed.
func (c *change) app(name api.AppName) (api.App, *api.Error) {
	if a, ok := c.App(name); ok {
		return *a, nil
	}
	var known []string
	for a := range c.Apps() {
		known = append(known, string(a.Name))
	}
	return api.App{}, api.NotFound("app", string(name), known)
}

func (c *change) createApp(cmd CreateApp) *api.Error {
	if _, ok := c.App(cmd.App.Name); ok {
		return api.Errorf(api.CodeConflict, "app %q exists already", cmd.App.Name)
	}
	a := cmd.App
	a.Created, a.NextRelease = c.at, 1
	c.putApp(a)
	c.event("app.created", a.Name, string(a.Name), "")
	return nil
}

func (c *change) deleteApp(cmd DeleteApp) *api.Error {
	a, err := c.app(cmd.App)
	if err != nil {
		return err
	}
	if a.Locked {
		return api.Errorf(api.CodeConflict, "app %q is locked; unlock it first: slipway apps unlock -a %s", a.Name, a.Name)
	}
	a.Deleting = true
	c.putApp(a)
	for _, d := range slices.Collect(c.DeploymentsOpen()) {
		if d.App == a.Name {
			end := *d
			end.Status, end.Ended, end.Cause = api.DeployCancelled, c.at, "the app was deleted"
			c.putDeployment(end)
		}
	}
	for _, s := range slices.Collect(c.Services(a.Name)) {
		gone := *s
		gone.Want = nil
		c.putService(gone)
	}
	c.event("app.deleted", a.Name, string(a.Name), "")
	return nil
}

func (c *change) lockApp(cmd LockApp) *api.Error {
	a, err := c.app(cmd.App)
	if err != nil {
		return err
	}
	if a.Locked == cmd.Locked {
		return nil
	}
	a.Locked = cmd.Locked
	c.putApp(a)
	what := "app.unlocked"
	if a.Locked {
		what = "app.locked"
	}
	c.event(what, a.Name, string(a.Name), "")
	return nil
}

// service returns a copy of a service that may be changed; a service of the newest or the
// active release that has none yet gets an empty one.
func (c *change) service(k api.ServiceKey) (api.Service, *api.Error) {
	if s, ok := c.Service(k); ok {
		s := *s
		s.Want = slices.Clone(s.Want)
		return s, nil
	}
	a, err := c.app(k.App)
	if err != nil {
		return api.Service{}, err
	}
	var known []string
	for r := range c.Releases(a.Name) {
		for i := range r.Services {
			if r.Services[i].Name == k.Service {
				return api.Service{Key: k}, nil
			}
			known = append(known, string(r.Services[i].Name))
		}
		if r.ID == a.Release {
			break
		}
	}
	return api.Service{}, api.NotFound("service", string(k.Service), known)
}

func (c *change) setScale(cmd SetScale) *api.Error {
	s, err := c.service(cmd.Key)
	if err != nil {
		return err
	}
	if o := cmd.Override; o != nil && o.Count != nil && (*o.Count < 0 || *o.Count > 1_000_000) {
		return api.Errorf(api.CodeInvalid, "service %s: count %d is out of range 0 to 1000000", cmd.Key, *o.Count)
	}
	next := cmd.Override
	if cmd.Keep {
		next = next.Over(s.Override)
	}
	if resized(s.Override, next) {
		s.RestartAt = c.at // a copy gets its resources at birth
	}
	s.Override = next
	c.putService(s)
	c.event("service.scaled", s.Key.App, s.Key.String(), "")
	return nil
}

// resized reports whether two overrides give a copy different resources.
func resized(a, b *api.ScaleOverride) bool {
	var x, y api.ScaleOverride
	if a != nil {
		x = *a
	}
	if b != nil {
		y = *b
	}
	return x.CPU != y.CPU || x.Memory != y.Memory
}

func (c *change) setWant(cmd SetWant) *api.Error {
	s, err := c.service(cmd.Key)
	if err != nil {
		return err
	}
	s.Want = slices.Clone(cmd.Want)
	if len(s.Want) == 0 {
		s.Waiting = ""
	}
	c.putService(s)
	return nil
}

func (c *change) restartService(cmd RestartService) *api.Error {
	s, err := c.service(cmd.Key)
	if err != nil {
		return err
	}
	s.RestartAt = c.at
	c.putService(s)
	c.event("service.restarted", s.Key.App, s.Key.String(), "")
	return nil
}

// setRoutes replaces the routes of an app. A target that stays keeps the version that first
// named it; equal routes change nothing, not even the version.
func (c *change) setRoutes(cmd SetRoutes) *api.Error {
	since := map[string]uint64{}
	old := c.Routes(cmd.App)
	for _, r := range old {
		for _, t := range r.Targets {
			since[targetKey(r.Key, t)] = t.Since
		}
	}
	routes := slices.Clone(cmd.Routes)
	for i := range routes {
		routes[i].Targets = slices.Clone(routes[i].Targets)
		for j, t := range routes[i].Targets {
			routes[i].Targets[j].Since = c.index
			if at, ok := since[targetKey(routes[i].Key, t)]; ok {
				routes[i].Targets[j].Since = at
			}
		}
	}
	if equalRoutes(old, routes) {
		return nil
	}
	c.routesVersion = c.index
	put(c, &c.routes, string(cmd.App), &appRoutes{Changed: c.index, Routes: routes})
	c.res.Changes.route(cmd.App)
	return nil
}

func targetKey(k api.ServiceKey, t api.Target) string {
	return strings.Join([]string{k.String(), string(t.Process), t.Addr}, " ")
}

func equalRoutes(a, b []api.Route) bool {
	return slices.EqualFunc(a, b, func(x, y api.Route) bool {
		return x.Key == y.Key && slices.Equal(x.Hosts, y.Hosts) && x.Scheme == y.Scheme && x.Sticky == y.Sticky &&
			x.Redirect == y.Redirect && x.Timeout == y.Timeout && x.Drain == y.Drain &&
			slices.Equal(x.Whitelist, y.Whitelist) && slices.Equal(x.Targets, y.Targets)
	})
}

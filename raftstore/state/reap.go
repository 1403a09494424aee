package state

import (
	"slices"

	"slipway/api"
)

// reap removes records. Whatever is still in use stays, whoever asked.
func (c *change) reap(cmd Reap) *api.Error {
	for _, id := range cmd.Processes {
		if p, ok := c.Process(id); ok && !p.Live() {
			c.dropProcess(p)
		}
	}
	for _, id := range cmd.Deployments {
		if d, ok := c.Deployment(id); ok && d.Status.Ended() {
			c.dropDeployment(d)
		}
	}
	for _, id := range cmd.Releases {
		if r, ok := c.Release(id); ok && !c.releaseInUse(r) {
			c.dropRelease(r)
		}
	}
	for _, id := range cmd.Builds {
		if b, ok := c.Build(id); ok && b.Status.Ended() && !c.buildInUse(b) {
			c.dropBuild(b)
		}
	}
	for _, id := range cmd.Requests {
		drop(c, &c.requests, string(id))
	}
	for _, k := range cmd.Services {
		if s, ok := c.Service(k); ok && len(s.Want) == 0 {
			c.dropService(k)
		}
	}
	for _, name := range cmd.Apps {
		c.removeApp(name)
	}
	return nil
}

func (c *change) dropService(k api.ServiceKey) {
	drop(c, &c.services, k.String())
	drop(c, &c.waiting, k.String())
	drop(c, &c.agents, k.String())
	c.res.Changes.service(k)
}

func (c *change) dropDeployment(d *api.Deployment) {
	drop(c, &c.deployments, string(d.ID))
	drop(c, &c.deploymentsOf, newestFirst(d.App, d.Created, string(d.ID)))
	drop(c, &c.deploysOpen, string(d.ID))
}

func (c *change) dropRelease(r *api.Release) {
	drop(c, &c.releases, string(r.ID))
	drop(c, &c.releasesOf, releaseKey(r))
}

func (c *change) dropBuild(b *api.Build) {
	drop(c, &c.builds, string(b.ID))
	drop(c, &c.buildsOf, newestFirst(b.App, b.Created, string(b.ID)))
	drop(c, &c.buildsOpen, string(b.ID))
}

// releaseInUse reports whether an app runs, or may fall back to, the release.
func (c *change) releaseInUse(r *api.Release) bool {
	a, ok := c.App(r.App)
	if !ok {
		return false
	}
	if a.Release == r.ID {
		return true
	}
	if d, ok := c.Deployment(a.Deployment); ok && (d.Release == r.ID || d.Previous == r.ID) {
		return true
	}
	for p := range c.ProcessesOfApp(r.App) {
		if p.Live() && p.Release == r.ID {
			return true
		}
	}
	return false
}

// buildInUse reports whether a release has the build.
func (c *change) buildInUse(b *api.Build) bool {
	for r := range c.Releases(b.App) {
		if r.Build == b.ID {
			return true
		}
	}
	return false
}

// removeApp removes a deleted app and all that belonged to it, once nothing of it lives.
func (c *change) removeApp(name api.AppName) {
	a, ok := c.App(name)
	if !ok || !a.Deleting {
		return
	}
	for p := range c.ProcessesOfApp(name) {
		if p.Live() {
			return
		}
	}
	for _, p := range slices.Collect(c.ProcessesOfApp(name)) {
		c.dropProcess(p)
	}
	for _, s := range slices.Collect(c.Services(name)) {
		c.dropService(s.Key)
	}
	for _, d := range slices.Collect(c.Deployments(name)) {
		c.dropDeployment(d)
	}
	for _, r := range slices.Collect(c.Releases(name)) {
		c.dropRelease(r)
	}
	for _, b := range slices.Collect(c.Builds(name)) {
		c.dropBuild(b)
	}
	if len(c.Routes(name)) > 0 {
		c.routesVersion = c.index
	}
	drop(c, &c.routes, string(name))
	drop(c, &c.apps, string(name))
	c.res.Changes.app(name)
	c.res.Changes.route(name)
	c.event("app.removed", name, string(name), "")
}

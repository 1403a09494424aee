package state

import (
	"cmp"

	"slipway/api"
)

func (c *change) createBuild(cmd CreateBuild) *api.Error {
	a, err := c.app(cmd.Build.App)
	if err != nil {
		return err
	}
	if a.Deleting {
		return api.Errorf(api.CodeConflict, "app %q is being deleted", a.Name)
	}
	if _, ok := c.Build(cmd.Build.ID); ok {
		return api.Errorf(api.CodeConflict, "build %s exists already", cmd.Build.ID)
	}
	b := cmd.Build
	b.Status, b.Created = api.BuildCreated, c.at
	if b.Imported() {
		b.Started = c.at
	}
	c.putBuild(b)
	c.event("build.created", b.App, string(b.ID), b.Description)
	return nil
}

// build returns a copy of a build that may be changed, if it has not ended.
func (c *change) openBuild(id api.BuildID) (api.Build, *api.Error) {
	b, ok := c.Build(id)
	if !ok {
		return api.Build{}, api.NotFound("build", string(id), nil)
	}
	if b.Status.Ended() {
		return api.Build{}, api.Errorf(api.CodeConflict, "build %s has ended: %s", id, b.Status)
	}
	return *b, nil
}

func (c *change) startBuild(cmd StartBuild) *api.Error {
	b, err := c.openBuild(cmd.Build)
	if err != nil {
		return err
	}
	b.Status, b.Process, b.Started = api.BuildRunning, cmd.Process, c.at
	c.putBuild(b)
	c.event("build.started", b.App, string(b.ID), "")
	return nil
}

func (c *change) endBuild(cmd EndBuild) *api.Error {
	b, err := c.openBuild(cmd.Build)
	if err != nil {
		return err
	}
	b.Ended, b.Images, b.Failure = c.at, cmd.Images, cmd.Failure
	b.Status = api.BuildFailed
	if cmd.Release != nil {
		if err := c.createRelease(CreateRelease{Release: *cmd.Release, Base: cmd.Base}); err != nil {
			return err
		}
		b.Status, b.Release = api.BuildComplete, cmd.Release.ID
	}
	if cmd.Release != nil && cmd.Deployment != nil {
		if err := c.createDeployment(CreateDeployment{Deployment: *cmd.Deployment}); err != nil {
			return err
		}
		b.Deployment = cmd.Deployment.ID
	}
	c.putBuild(b)
	c.event("build."+string(b.Status), b.App, string(b.ID), b.Failure)
	return nil
}

func (c *change) createRelease(cmd CreateRelease) *api.Error {
	a, err := c.app(cmd.Release.App)
	if err != nil {
		return err
	}
	if _, ok := c.Release(cmd.Release.ID); ok {
		return api.Errorf(api.CodeConflict, "release %s exists already", cmd.Release.ID)
	}
	if err := c.checkBase(a.Name, cmd.Base); err != nil {
		return err
	}
	r := cmd.Release
	r.Number, r.Created = a.NextRelease, c.at
	a.NextRelease++
	c.putApp(a)
	c.putRelease(r)
	c.res.Value = string(r.ID)
	c.event("release.created", r.App, string(r.ID), r.Description)
	return nil
}

// checkBase reports that a release is made from one that is not the newest any more: what came in
// between would be lost.
func (c *change) checkBase(app api.AppName, base *api.ReleaseID) *api.Error {
	if base == nil {
		return nil
	}
	from := cmp.Or(string(*base), "none")
	for newest := range c.Releases(app) {
		if newest.ID == *base {
			return nil
		}
		return api.Errorf(api.CodeConflict, "the newest release of app %q is %s (v%d) and not %s: somebody changed the app meanwhile; look at it and try again: slipway releases -a %s",
			app, newest.ID, newest.Number, from, app)
	}
	if *base != "" {
		return api.Errorf(api.CodeConflict, "app %q has no release, and this one was made from %s", app, from)
	}
	return nil
}

package state

import (
	"slipway/api"
)

// createDeployment promotes a release. The newest promotion wins: one that has not ended is
// superseded, and a rollback goes to the release that was active before both.
func (c *change) createDeployment(cmd CreateDeployment) *api.Error {
	d := cmd.Deployment
	a, err := c.app(d.App)
	if err != nil {
		return err
	}
	if a.Deleting {
		return api.Errorf(api.CodeConflict, "app %q is being deleted", a.Name)
	}
	if cmd.Active != nil && *cmd.Active != a.Release {
		return api.Errorf(api.CodeConflict, "release %s became the active one of app %q meanwhile; look at it and try again: slipway releases -a %s", a.Release, a.Name, a.Name)
	}
	r, ok := c.Release(d.Release)
	if !ok || r.App != d.App {
		var known []string
		for r := range c.Releases(d.App) {
			known = append(known, string(r.ID))
		}
		return api.NotFound("release", string(d.Release), known)
	}
	if len(r.Services) == 0 {
		return api.Errorf(api.CodeInvalid, "release %s has no services; build the app first: slipway build -a %s", r.ID, a.Name)
	}
	if _, ok := c.Deployment(d.ID); ok {
		return api.Errorf(api.CodeConflict, "deployment %s exists already", d.ID)
	}
	if old, ok := c.Deployment(a.Deployment); ok && !old.Status.Ended() {
		over := *old
		over.Status, over.Ended = api.DeploySuperseded, c.at
		over.Cause = "release " + string(d.Release) + " was promoted"
		c.putDeployment(over)
		c.event("deployment.superseded", a.Name, string(over.ID), over.Cause)
	}
	d.Created, d.Status, d.Previous, d.Progress = c.at, api.DeployRunning, a.Release, c.at
	a.Deployment = d.ID
	c.putApp(a)
	c.putDeployment(d)
	for i := range r.Services {
		k := api.ServiceKey{App: a.Name, Service: r.Services[i].Name}
		if _, ok := c.Service(k); !ok {
			c.putService(api.Service{Key: k})
		} else {
			c.res.Changes.service(k)
		}
	}
	c.event("deployment.started", a.Name, string(d.ID), "release "+string(d.Release))
	return nil
}

func (c *change) cancelDeployment(cmd CancelDeployment) *api.Error {
	a, err := c.app(cmd.App)
	if err != nil {
		return err
	}
	d, ok := c.Deployment(a.Deployment)
	if !ok || d.Status.Ended() {
		return api.Errorf(api.CodeConflict, "app %q has no deployment in progress", a.Name)
	}
	cancelled := *d
	cancelled.Cancel = true
	c.putDeployment(cancelled)
	c.event("deployment.cancel", a.Name, string(d.ID), "")
	return nil
}

// updateDeployment stores progress. What the user owns of the record is kept.
func (c *change) updateDeployment(cmd UpdateDeployment) *api.Error {
	old, ok := c.Deployment(cmd.Deployment.ID)
	if !ok {
		return api.NotFound("deployment", string(cmd.Deployment.ID), nil)
	}
	if old.Status.Ended() {
		return api.Errorf(api.CodeConflict, "deployment %s has ended: %s", old.ID, old.Status)
	}
	d := cmd.Deployment
	d.App, d.Release, d.Previous, d.Author, d.Created = old.App, old.Release, old.Previous, old.Author, old.Created
	d.Cancel = d.Cancel || old.Cancel
	if d.Status.Ended() && d.Ended.IsZero() {
		d.Ended = c.at
	}
	c.putDeployment(d)
	if d.Status == old.Status {
		return nil
	}
	if d.Status == api.DeploySucceeded {
		a, err := c.app(d.App)
		if err != nil {
			return err
		}
		a.Release = d.Release
		c.putApp(a)
	}
	c.event("deployment."+string(d.Status), d.App, string(d.ID), d.Cause)
	return nil
}

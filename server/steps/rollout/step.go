package rollout

import (
	"fmt"
	"slices"
	"time"

	"slipway/api"
	"slipway/raftstore/state"
	"slipway/server/steps"
)

// progressDeadline is how long a deployment may go without a new copy becoming ready.
const progressDeadline = 10 * time.Minute

// Step paces all deployments that are open and keeps all other services at their scale.
func Step(v *state.View, ch state.Changes, in steps.Input) (cmds []state.Command, wake time.Time) {
	leaving := draining(v)
	for _, a := range apps(v, ch) {
		if a.Deleting {
			continue
		}
		p := &pass{v: v, app: a, in: in, draining: leaving}
		p.step()
		cmds = append(cmds, p.cmds...)
		wake = steps.Sooner(wake, p.wake)
	}
	return cmds, wake
}

// draining returns the names of the nodes that drain.
func draining(v *state.View) map[api.NodeID]string {
	names := map[api.NodeID]string{}
	for n := range v.Nodes() {
		if n.Draining {
			names[n.ID] = n.Name
		}
	}
	return names
}

// apps returns the apps that changed, and those whose scale follows the nodes that changed.
func apps(v *state.View, ch state.Changes) []*api.App {
	out := steps.Apps(v, ch)
	if ch.All || len(ch.Nodes) == 0 {
		return out
	}
	for a := range v.Apps() {
		if followsNodes(v, a) && !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	return out
}

// followsNodes reports whether an app has services whose scale is the number of nodes.
func followsNodes(v *state.View, a *api.App) bool {
	for s := range v.Services(a.Name) {
		for _, w := range s.Want {
			if spec, ok := v.Spec(w.Release, s.Key.Service); ok && spec.Agent {
				return true
			}
		}
	}
	return false
}

// pass looks at one app.
type pass struct {
	v    *state.View
	app  *api.App
	in   steps.Input
	cmds []state.Command
	wake time.Time
	// draining names the nodes that drain.
	draining map[api.NodeID]string
}

func (p *pass) step() {
	d, ok := p.v.Deployment(p.app.Deployment)
	if !ok || d.Status.Ended() {
		p.move(p.app.Release)
		return
	}
	switch d.Status {
	case api.DeployRunning:
		p.forward(*d)
	case api.DeployRollingBack:
		p.back(*d)
	}
}

// forward moves the app towards the deployment's release, or turns it round.
func (p *pass) forward(d api.Deployment) {
	failure := p.failure(&d)
	switch {
	case d.Cancel:
		p.turn(d, "cancelled by a user", nil)
	case failure != nil:
		p.turn(d, failure.Reason, failure)
	case p.move(d.Release) && p.settled(d.Release):
		d.Status, d.Ended, d.Cause = api.DeploySucceeded, p.in.Now, "every copy is ready"
		d.Receipt = p.receipt(&d)
		p.update(d)
	default:
		p.progress(d)
	}
}

// progress records when a copy last became ready, and fails a deployment that stands still.
func (p *pass) progress(d api.Deployment) {
	newest := d.Progress
	for _, q := range p.copies(d.Release) {
		if q.Ready && q.ReadyAt.After(newest) {
			newest = q.ReadyAt
		}
	}
	deadline := p.in.Since(newest).Add(progressDeadline)
	if !p.in.Now.Before(deadline) {
		f := p.stalled(&d)
		p.turn(d, f.Reason, f)
		return
	}
	p.wake = steps.Sooner(p.wake, deadline)
	if newest.After(d.Progress) {
		d.Progress = newest
		p.update(d)
	}
}

// turn gives a deployment up: from now on the app moves back.
func (p *pass) turn(d api.Deployment, cause string, f *api.Failure) {
	p.cmds = nil // what would have moved it forward
	d.Status, d.Cause, d.Failure, d.Progress = api.DeployRollingBack, cause, f, p.in.Now
	p.update(d)
	p.move(d.Previous)
}

// back moves the app to the previous release and ends the deployment once it is there. One that
// does not get there ends as well: its user should hear of it, and the app goes on moving.
func (p *pass) back(d api.Deployment) {
	deadline := p.in.Since(d.Progress).Add(progressDeadline)
	switch there := p.move(d.Previous) && (d.Previous == d.Release || p.gone(d.Release)); {
	case !there && p.in.Now.Before(deadline):
		p.wake = steps.Sooner(p.wake, deadline)
		return
	case !there:
		d.Cause += fmt.Sprintf("; release %s is not fully in force again after %s", d.Previous, progressDeadline)
	}
	d.Status, d.Ended = api.DeployFailed, p.in.Now
	if d.Cancel {
		d.Status = api.DeployCancelled
	}
	d.Receipt = p.receipt(&d)
	p.update(d)
}

func (p *pass) update(d api.Deployment) {
	p.cmds = append(p.cmds, state.UpdateDeployment{Deployment: d})
}

// move sets what is wanted of every service so that release comes into force, and reports
// whether that is the case for all of them: every copy ready, nothing else wanted.
func (p *pass) move(release api.ReleaseID) (there bool) {
	there = true
	for _, name := range p.services(release) {
		key := api.ServiceKey{App: p.app.Name, Service: name}
		svc, ok := p.v.Service(key)
		if !ok {
			svc = &api.Service{Key: key}
		}
		want, done := p.want(svc, release)
		if !slices.Equal(want, svc.Want) {
			p.cmds = append(p.cmds, state.SetWant{Key: key, Want: want})
			done = false
		}
		there = there && done
	}
	return there
}

// services lists the services of a release and those that still want or have something.
func (p *pass) services(release api.ReleaseID) []api.ServiceName {
	var names []api.ServiceName
	if r, ok := p.v.Release(release); ok {
		for i := range r.Services {
			names = append(names, r.Services[i].Name)
		}
	}
	for s := range p.v.Services(p.app.Name) {
		if len(s.Want) > 0 && !slices.Contains(names, s.Key.Service) {
			names = append(names, s.Key.Service)
		}
	}
	slices.Sort(names)
	return names
}

// settled reports whether no live copy of another release is left.
func (p *pass) settled(release api.ReleaseID) bool {
	for q := range p.v.ProcessesOfApp(p.app.Name) {
		if q.Live() && q.Kind == api.KindService && q.Release != release {
			return false
		}
	}
	return true
}

// gone reports whether no live copy of a release is left.
func (p *pass) gone(release api.ReleaseID) bool {
	for q := range p.v.ProcessesOfApp(p.app.Name) {
		if q.Live() && q.Kind == api.KindService && q.Release == release {
			return false
		}
	}
	return true
}

// copies returns the processes of a release that are copies of services, oldest first.
func (p *pass) copies(release api.ReleaseID) []*api.Process {
	var out []*api.Process
	for q := range p.v.ProcessesOfApp(p.app.Name) {
		if q.Kind == api.KindService && q.Release == release {
			out = append(out, q)
		}
	}
	slices.SortStableFunc(out, func(a, b *api.Process) int { return a.Created.Compare(b.Created) })
	return out
}

// stalled is the failure of a deployment that made no progress.
func (p *pass) stalled(d *api.Deployment) *api.Failure {
	f := &api.Failure{Reason: fmt.Sprintf("no copy became ready within %s", progressDeadline)}
	for s := range p.v.Services(p.app.Name) {
		if s.Waiting != "" {
			f.Service, f.Reason = s.Key.Service, f.Reason+": "+string(s.Key.Service)+": "+s.Waiting
			return f
		}
	}
	for _, q := range p.copies(d.Release) {
		if q.Live() && !q.Ready {
			return evidence(q, f.Reason)
		}
	}
	return f
}

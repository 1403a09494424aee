package control

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"slipway/api"
	"slipway/api/pb"
	"slipway/raftstore/state"
)

// whyLast is how many ended processes the story of a service tells of.
const whyLast = 3

// whyDepth bounds a chain of replacements.
const whyDepth = 10

// GetWhy explains an object of an app: a process, a release, a deployment, a build or a
// service, by its ID or name. "" explains the app by its newest deployment.
func (s *Server) GetWhy(ctx context.Context, r *pb.ObjectRequest) (*pb.Document, error) {
	v, a, err := s.readApp(ctx, r.GetApp())
	if err != nil {
		return nil, pb.Error(err)
	}
	w, err := s.why(v, a, r.GetId())
	return doc(w, err)
}

// why finds the object and tells its story.
func (s *Server) why(v *state.View, a *api.App, id string) (*story, error) {
	w := &story{Why: api.Why{Object: id, At: s.cfg.Now(), Causes: []api.Cause{}}, view: v, scheduler: s.cfg.Scheduler}
	if id == "" {
		w.Object = string(a.Name)
		w.app(a)
		return w, nil
	}
	if p, ok := v.Process(api.ProcessID(id)); ok && p.App == a.Name {
		w.process(p, 0)
		w.Status = processStatus(p)
		w.Failed = failureOf(p)
		return w, nil
	}
	if d, ok := v.Deployment(api.DeploymentID(id)); ok && d.App == a.Name {
		w.deployment(d)
		return w, nil
	}
	if b, ok := v.Build(api.BuildID(id)); ok && b.App == a.Name {
		w.build(b)
		w.Status = string(b.Status)
		return w, nil
	}
	if release, ok := currentRelease(v, a); ok {
		if spec, err := releaseService(release, id); err == nil {
			w.service(a, release, spec)
			return w, nil
		}
	}
	if release, err := findRelease(v, a, id); err == nil {
		w.release(a, release)
		return w, nil
	}
	return nil, api.NotFoundSee("process, service, release, deployment or build", id, knownObjects(v, a), "slipway ps -a "+string(a.Name))
}

// knownObjects lists what a user may have meant.
func knownObjects(v *state.View, a *api.App) []string {
	var known []string
	if release, ok := currentRelease(v, a); ok {
		for i := range release.Services {
			known = append(known, string(release.Services[i].Name))
		}
	}
	for p := range v.ProcessesOfApp(a.Name) {
		known = append(known, string(p.ID))
	}
	for r := range v.Releases(a.Name) {
		known = append(known, string(r.ID))
	}
	return known
}

// story collects the causes of one object.
type story struct {
	api.Why
	view      *state.View
	scheduler Scheduler
}

func (w *story) add(at time.Time, object, format string, args ...any) {
	w.Causes = append(w.Causes, api.Cause{At: at, Object: object, Text: fmt.Sprintf(format, args...)})
}

func (w *story) app(a *api.App) {
	w.Status = appStatus(w.view, a)
	d, ok := w.view.Deployment(a.Deployment)
	if !ok {
		w.add(a.Created, string(a.Name), "was created and never deployed")
		return
	}
	status := w.Status
	w.deployment(d)
	w.Status = status
}

// process tells of a process from its end back to what created it.
func (w *story) process(p *api.Process, depth int) {
	o, id := &p.Observed, string(p.ID)
	if !p.Live() {
		w.add(o.Finished, id, "%s", ending(p))
	}
	if p.Desired != api.DesiredRun {
		w.add(p.DrainSince, id, "was taken out of service: %s", p.Reason)
	}
	if o.Probe != nil {
		w.add(o.Probe.At, id, "%s", probeSentence(o.Probe))
	}
	switch {
	case !p.ReadyAt.IsZero():
		w.add(p.ReadyAt, id, "became ready: it is healthy, and every router knows it")
	case p.Live() && o.State == api.StateRunning && o.Health == api.HealthHealthy:
		w.add(o.Healthy, id, "is healthy, and waits until the routers know it")
	case p.Live() && p.Node == "":
		w.add(p.Created, id, "has no node yet%s", w.waiting(p))
	case p.Live() && o.Message != "":
		w.add(time.Time{}, id, "is %s: %s", processStatus(p), o.Message)
	}
	if !o.Started.IsZero() {
		w.add(o.Started, id, "started on node %s", w.node(p.Node))
	}
	if depth == 0 {
		w.placed(p)
	}
	w.add(p.Created, id, "was created%s: %s", copyOf(p), orElse(p.Cause, "no cause was recorded"))
	if before, ok := w.replaced(p); ok && depth < whyDepth {
		w.process(before, depth+1)
		return
	}
	if r, ok := w.view.Release(p.Release); ok {
		w.origin(r)
	}
	if b, ok := w.view.Build(p.Build); ok {
		w.build(b)
	}
}

// replaced returns the process that p took the place of.
func (w *story) replaced(p *api.Process) (*api.Process, bool) {
	for _, word := range strings.FieldsFunc(p.Cause, func(r rune) bool { return r == ' ' || r == ',' || r == ':' }) {
		if before, ok := w.view.Process(api.ProcessID(word)); ok && before.ID != p.ID && before.App == p.App {
			return before, true
		}
	}
	return nil, false
}

// origin tells where a release comes from.
func (w *story) origin(r *api.Release) {
	for d := range w.view.Deployments(r.App) {
		if d.Release == r.ID {
			w.add(d.Created, string(d.ID), "deployed release %s (v%d), on the word of %s", r.ID, r.Number, orElse(d.Author, "the rack"))
			break
		}
	}
	w.add(r.Created, string(r.ID), "release v%d was made by %s%s", r.Number, orElse(r.Author, "the rack"), described(r.Description))
}

func (w *story) deployment(d *api.Deployment) {
	w.Status, w.Failed, w.Receipt = string(d.Status), d.Failure, d.Receipt
	if d.Cause != "" || d.Status.Ended() {
		w.add(d.Ended, string(d.ID), "%s%s", d.Status, described(d.Cause))
	}
	if f := d.Failure; f != nil {
		w.add(time.Time{}, string(f.Service), "%s", f.Reason)
		if p, ok := w.view.Process(f.Process); ok {
			w.process(p, whyDepth)
			return
		}
	}
	w.add(d.Created, string(d.ID), "began to deploy release %s, on the word of %s", d.Release, orElse(d.Author, "the rack"))
	if r, ok := w.view.Release(d.Release); ok {
		for i := range r.Services {
			if service, ok := w.view.Service(api.ServiceKey{App: d.App, Service: r.Services[i].Name}); ok && service.Waiting != "" {
				w.add(time.Time{}, string(r.Services[i].Name), "waits: %s", service.Waiting)
			}
		}
		w.add(r.Created, string(r.ID), "release v%d was made by %s%s", r.Number, orElse(r.Author, "the rack"), described(r.Description))
	}
}

func (w *story) release(a *api.App, r *api.Release) {
	w.Object = string(r.ID)
	for d := range w.view.Deployments(a.Name) {
		if d.Release == r.ID {
			w.deployment(d)
			return
		}
	}
	w.Status = "not deployed"
	w.add(r.Created, string(r.ID), "release v%d was made by %s%s and never deployed", r.Number, orElse(r.Author, "the rack"), described(r.Description))
	if b, ok := w.view.Build(r.Build); ok {
		w.build(b)
	}
}

func (w *story) build(b *api.Build) {
	id := string(b.ID)
	switch b.Status {
	case api.BuildFailed:
		w.add(b.Ended, id, "failed: %s", b.Failure)
	case api.BuildComplete:
		w.add(b.Ended, id, "completed as release %s", b.Release)
	}
	if !b.Started.IsZero() {
		w.add(b.Started, id, "began in process %s", b.Process)
	}
	w.add(b.Created, id, "was asked for by %s%s", orElse(b.Author, "the rack"), described(b.Description))
}

// service tells what a service waits for and how its last processes ended.
func (w *story) service(a *api.App, r *api.Release, spec *api.ServiceSpec) {
	info := serviceInfo(w.view, a.Name, r, spec)
	w.Status = fmt.Sprintf("%d of %d ready", info.Ready, info.Count)
	name := string(spec.Name)
	if info.Waiting != "" {
		w.add(time.Time{}, name, "waits: %s", info.Waiting)
	}
	if o := info.Override; o != nil {
		w.add(o.At, name, "was scaled by %s; the manifest holds again after: slipway scale %s --reset", orElse(o.Author, "the rack"), name)
	}
	key := api.ServiceKey{App: a.Name, Service: spec.Name}
	var ended []*api.Process
	for p := range w.view.ProcessesOf(key) {
		switch {
		case p.Kind != api.KindService:
		case !p.Live():
			ended = append(ended, p)
		case !p.Ready:
			text := "is " + processStatus(p)
			if p.Observed.Probe != nil {
				text += "; " + probeSentence(p.Observed.Probe)
			} else if p.Observed.Message != "" {
				text += ": " + p.Observed.Message
			}
			w.add(p.Created, string(p.ID), "%s", text)
			if w.Failed == nil {
				w.Failed = failureOf(p)
			}
		}
	}
	slices.SortFunc(ended, func(x, y *api.Process) int { return y.Observed.Finished.Compare(x.Observed.Finished) })
	for _, p := range ended[:min(whyLast, len(ended))] {
		w.add(p.Observed.Finished, string(p.ID), "%s", ending(p))
		if w.Failed == nil && info.Ready < info.Count {
			w.Failed = failureOf(p)
		}
	}
	w.origin(r)
}

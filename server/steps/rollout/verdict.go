package rollout

import (
	"fmt"
	"time"

	"slipway/api"
	"slipway/server/steps"
)

// A copy that ends by itself before it was ready fails its deployment the second time: once
// may be bad luck.
const endsTolerated = 1

// failure is the verdict on a deployment: nil while there is still hope.
func (p *pass) failure(d *api.Deployment) *api.Failure {
	ends := map[api.ServiceName]int{}
	for _, q := range p.copies(d.Release) {
		if q.Created.Before(d.Created) {
			continue // of an earlier deployment of the same release
		}
		if q.Live() {
			if f := p.unhealthy(q); f != nil {
				return f
			}
			continue
		}
		if q.Desired != api.DesiredRun || q.Observed.State == api.StateLost {
			continue // stopped by us, or the node's fault
		}
		if ends[q.Service]++; ends[q.Service] > endsTolerated || final(q) {
			f := evidence(q, ended(q, ends[q.Service]))
			return &f
		}
	}
	return nil
}

// final reports whether a second try cannot end otherwise: the image or the spec is at fault.
func final(q *api.Process) bool {
	return q.Observed.State == api.StateFailed && q.Observed.Started.IsZero()
}

func ended(q *api.Process, times int) string {
	o := q.Observed
	switch {
	case o.State == api.StateFailed:
		return fmt.Sprintf("%s could not start: %s", q.Service, o.Message)
	case o.OOM:
		return fmt.Sprintf("%s was %s", q.Service, o.Message)
	case times > 1:
		return fmt.Sprintf("%s keeps ending: %s, %d times", q.Service, o.Message, times)
	}
	return fmt.Sprintf("%s ended: %s", q.Service, o.Message)
}

// unhealthy is the failure of a running copy that does not become healthy in time: its checks
// fail after its grace, or say nothing for much longer than they should take.
func (p *pass) unhealthy(q *api.Process) *api.Failure {
	o := q.Observed
	spec, ok := p.v.Spec(q.Release, q.Service)
	if !ok || q.Ready || q.Desired != api.DesiredRun || o.State != api.StateRunning || o.Started.IsZero() {
		return nil
	}
	if o.Health == api.HealthUnhealthy {
		f := evidence(q, string(q.Service)+" is not healthy: "+o.Message)
		return &f
	}
	if o.Health == api.HealthHealthy {
		return nil
	}
	deadline := o.Started.Add(patience(spec))
	if !p.in.Now.Before(deadline) {
		f := evidence(q, fmt.Sprintf("%s did not become healthy within %s", q.Service, patience(spec)))
		return &f
	}
	p.wake = steps.Sooner(p.wake, deadline)
	return nil
}

// patience is how long a started copy may take to become healthy.
func patience(spec *api.ServiceSpec) time.Duration {
	d := spec.Health.Grace + 4*(spec.Health.Interval+spec.Health.Timeout)
	if s := spec.Startup; s != nil {
		d += s.Grace + time.Duration(s.FailureThreshold+1)*(s.Interval+s.Timeout)
	}
	return d + 10*time.Second
}

// evidence takes what explains a failure from the process that failed.
func evidence(q *api.Process, reason string) api.Failure {
	o := q.Observed
	return api.Failure{
		Service: q.Service, Process: q.ID, Reason: reason, State: o.State, ExitCode: o.ExitCode, OOM: o.OOM,
		Probe: o.Probe, Sockets: o.Sockets, Lines: o.Lines,
	}
}

package rollout

import (
	"fmt"
	"time"

	"slipway/api"
	"slipway/server/steps"
)

const (
	// badEndsMax fails a deployment: that many copies of a service ended by themselves before
	// they were ready, or soon after they started. One may be bad luck.
	badEndsMax = 2
	// slotEndsMax fails it as well: that many copies in one slot ended, however late.
	slotEndsMax = 3
	// early is the age below which the end of a copy says that it does not run.
	early = 10 * time.Second
)

// trial gathers what speaks against a deployment.
type trial struct {
	bad       map[api.ServiceName]int
	ends      map[string]int // service and slot
	unhealthy map[api.ServiceName]int
}

// failure is the verdict on a deployment: nil while there is still hope.
func (p *pass) failure(d *api.Deployment) *api.Failure {
	t := trial{map[api.ServiceName]int{}, map[string]int{}, map[api.ServiceName]int{}}
	for _, q := range p.copies(d.Release) {
		if q.Created.Before(d.Created) || q.Desired != api.DesiredRun || q.Observed.State == api.StateLost {
			continue // of an earlier deployment, stopped by us, or the node's fault
		}
		f := p.unhealthy(q, &t)
		if !q.Live() {
			f = t.ended(q)
		}
		if f != nil {
			return f
		}
	}
	return nil
}

// ended judges a copy that ended by itself.
func (t *trial) ended(q *api.Process) *api.Failure {
	o := q.Observed
	slot := fmt.Sprint(q.Service, " ", q.Slot)
	t.ends[slot]++
	if q.ReadyAt.IsZero() || o.Finished.Sub(o.Started) < early {
		t.bad[q.Service]++
	}
	switch {
	case o.State == api.StateFailed && o.Started.IsZero():
		// The agent has tried several times; the image or the spec is at fault.
		return evidence(q, fmt.Sprintf("%s could not start: %s", q.Service, o.Message))
	case t.bad[q.Service] < badEndsMax && t.ends[slot] < slotEndsMax:
		return nil
	}
	return evidence(q, fmt.Sprintf("%s keeps ending: %s, %d times", q.Service, o.Message, max(t.bad[q.Service], t.ends[slot])))
}

// unhealthy judges a running copy: its checks fail after its grace, or say nothing for much
// longer than they should take. Of copies that were ready before, as many may be unhealthy as
// may be missing.
func (p *pass) unhealthy(q *api.Process, t *trial) *api.Failure {
	o := q.Observed
	spec, ok := p.v.Spec(q.Release, q.Service)
	if !ok || q.Ready || o.State != api.StateRunning || o.Started.IsZero() || o.Health == api.HealthHealthy {
		return nil
	}
	if o.Health == api.HealthUnhealthy {
		t.unhealthy[q.Service]++
		if !q.ReadyAt.IsZero() && t.unhealthy[q.Service] <= p.tolerated(q, spec) {
			return nil
		}
		return evidence(q, string(q.Service)+" is not healthy: "+o.Message)
	}
	// The node's clock may be behind: no copy started before it was created.
	deadline := p.in.Since(o.Started, q.Created).Add(patience(spec))
	if !p.in.Now.Before(deadline) {
		return evidence(q, fmt.Sprintf("%s did not become healthy within %s", q.Service, patience(spec)))
	}
	p.wake = steps.Sooner(p.wake, deadline)
	return nil
}

// tolerated is how many copies of a service may be unhealthy after they were ready.
func (p *pass) tolerated(q *api.Process, spec *api.ServiceSpec) int {
	svc, ok := p.v.Service(q.Key())
	if !ok {
		return 0
	}
	return boundsOf(spec, p.scale(svc, spec)).missing
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
func evidence(q *api.Process, reason string) *api.Failure {
	o := q.Observed
	return &api.Failure{
		Service: q.Service, Process: q.ID, Reason: reason, State: o.State, ExitCode: o.ExitCode, OOM: o.OOM,
		Probe: o.Probe, Sockets: o.Sockets.All(), Lines: o.Lines.All(),
	}
}

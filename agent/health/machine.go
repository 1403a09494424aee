package health

import (
	"fmt"
	"math"
	"time"

	"slipway/api"
)

// How a check behaves that the manifest does not describe further.
const (
	// unhealthyAfter is how many failures in a row take a process out of service.
	unhealthyAfter = 3
	// eager is the first interval until the first success: a connection that is refused costs
	// nothing, and every moment counts for a deploy.
	eager    = 2 * time.Millisecond
	eagerMax = time.Second
	// eagerGrowth makes each interval longer: a process is found to be up within a fifth of the
	// time that it took, and never asked more than some thirty times in its first second.
	eagerGrowth = 1.2
)

// The kinds of check.
const (
	KindHealth   = "health"
	KindLiveness = "liveness"
	KindStartup  = "startup"
)

// Verdict is what the checks say together.
type Verdict struct {
	Health api.HealthState
	// Probe is the last failure of the check that fails, nil when none does.
	Probe *api.ProbeResult
	// Condemned says why the process must be replaced; "" while it need not.
	Condemned string
}

// Machine turns the results of probes into a verdict. Its zero value is not ready; use
// NewMachine. It is not safe for concurrent use.
type Machine struct {
	spec     *api.ServiceSpec
	started  time.Time // of the process
	up       bool      // the startup check has passed, or there is none
	verdict  Verdict
	failures map[string]int
	passes   map[string]int
}

// NewMachine returns the machine of a process that started at a given time.
func NewMachine(spec *api.ServiceSpec, started time.Time) *Machine {
	return &Machine{
		spec: spec, started: started, up: spec.Startup == nil, verdict: Verdict{Health: api.HealthUnknown},
		failures: map[string]int{}, passes: map[string]int{},
	}
}

// Checked reports whether a service has a health check at all. Without one a process is
// healthy as soon as it runs. A port of UDP answers nobody who does not speak its protocol, so
// that a check of such a service needs a port of its own, or health.tcp.
func Checked(spec *api.ServiceSpec) bool {
	h := spec.Health
	switch {
	case h.Disabled:
		return false
	case h.Port != 0:
		return true
	case spec.Port.Scheme == api.SchemeUDP:
		return spec.Port.Number != 0 && h.TCP
	}
	return spec.Port.Number != 0
}

// Step takes in one result and returns the verdict.
func (m *Machine) Step(r api.ProbeResult) Verdict {
	if r.Error == "" {
		m.passed(r.Kind)
		return m.verdict
	}
	m.passes[r.Kind] = 0
	m.failures[r.Kind]++
	r.Failures = m.failures[r.Kind]
	m.failed(r)
	return m.verdict
}

func (m *Machine) passed(kind string) {
	m.failures[kind] = 0
	m.passes[kind]++
	switch kind {
	case KindStartup:
		if m.passes[kind] >= max(1, m.spec.Startup.SuccessThreshold) {
			m.up = true
		}
	case KindHealth:
		if m.up {
			m.verdict.Health, m.verdict.Probe = api.HealthHealthy, nil
		}
	}
}

func (m *Machine) failed(r api.ProbeResult) {
	grace, limit := m.spec.Health.Grace, unhealthyAfter
	if p := m.probe(r.Kind); p != nil {
		grace, limit = p.Grace, max(1, p.FailureThreshold)
	}
	early := r.At.Before(m.started.Add(grace))
	switch r.Kind {
	case KindHealth:
		if m.verdict.Probe = &r; early && m.verdict.Health == api.HealthUnknown || !m.up {
			m.failures[r.Kind] = 0 // failures of a process that is still starting do not count
			return
		}
		if r.Failures >= limit {
			m.verdict.Health = api.HealthUnhealthy
		}
	case KindLiveness, KindStartup:
		if early || r.Kind == KindLiveness && !m.up {
			m.failures[r.Kind] = 0
			return
		}
		if r.Failures >= limit {
			m.verdict.Probe = &r
			m.verdict.Condemned = fmt.Sprintf("%s check failed %d times: %s: %s", r.Kind, r.Failures, r.Target, r.Error)
		}
	}
}

func (m *Machine) probe(kind string) *api.Probe {
	switch kind {
	case KindLiveness:
		return m.spec.Liveness
	case KindStartup:
		return m.spec.Startup
	}
	return nil
}

// Wait is how long to wait before the next probe of a kind, n probes into the life of the
// process.
func (m *Machine) Wait(kind string, n int) time.Duration {
	interval := m.spec.Health.Interval
	if p := m.probe(kind); p != nil {
		interval = p.Interval
	}
	interval = max(interval, time.Second)
	starting := kind == KindHealth && m.verdict.Health == api.HealthUnknown || kind == KindStartup && !m.up
	if !starting || m.failures[kind] > 0 {
		return interval
	}
	wait := math.Min(float64(eagerMax), float64(eager)*math.Pow(eagerGrowth, float64(n)))
	return min(interval, time.Duration(wait))
}

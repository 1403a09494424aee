package health

import (
	"context"
	"crypto/tls"
	"reflect"
	"sync"
	"time"

	"slipway/api"
)

// anyCertificate accepts any certificate: the address is the process's own, and nothing secret is
// sent.
func anyCertificate() *tls.Config { return &tls.Config{InsecureSkipVerify: true} }

// Watch probes a process until ctx ends and reports every change of the verdict, from one
// goroutine at a time. The result of each probe goes to probed.
func Watch(ctx context.Context, spec *api.ServiceSpec, addr string, started time.Time, probed func(api.ProbeResult), report func(Verdict)) {
	m := NewMachine(spec, started)
	if !Checked(spec) {
		m.verdict.Health = api.HealthHealthy
		report(m.verdict)
	}
	var mu sync.Mutex // guards m and last
	last := m.verdict
	var wg sync.WaitGroup
	for _, c := range checks(spec, addr) {
		wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				r := c.run(ctx, time.Now)
				if ctx.Err() != nil {
					return
				}
				probed(r)
				mu.Lock()
				if v := m.Step(r); changed(v, last) && !tooSoon(v, time.Since(started)) {
					last = v
					report(v)
				}
				wait := m.Wait(c.kind, n)
				mu.Unlock()
				select {
				case <-ctx.Done():
				case <-time.After(wait):
				}
			}
		})
	}
	wg.Wait()
}

// patience is how old a process must be before it is told that it does not answer yet.
const patience = time.Second

// tooSoon reports whether a verdict is about a process that can hardly have come up.
func tooSoon(v Verdict, age time.Duration) bool {
	return v.Health == api.HealthUnknown && v.Condemned == "" && age < patience
}

// changed reports whether a verdict tells something new. That a failing probe fails again with
// the same words is not.
func changed(a, b Verdict) bool {
	if a.Health != b.Health || a.Condemned != b.Condemned || (a.Probe == nil) != (b.Probe == nil) {
		return true
	}
	if a.Probe == nil {
		return false
	}
	x, y := *a.Probe, *b.Probe
	x.At, x.Took, x.Failures = y.At, y.Took, y.Failures
	return !reflect.DeepEqual(x, y)
}

package agent

import (
	"context"
	"sync"
	"time"

	"slipway/agent/health"
	"slipway/agent/logs"
	"slipway/api"
	"slipway/runtime"
)

// What is kept of a failure.
const (
	evidenceLines = 20
	// loneliness is how long an attached run may be without anybody attached.
	loneliness = time.Minute
)

// witness is the observer of supervisors: probes, logs and the kernel's view of a process.
type witness struct {
	runtime runtime.Runtime
	logs    *logs.Store
	// probed is told the result of every probe.
	probed func(api.ProbeResult)

	mu       sync.Mutex
	attached map[api.ProcessID]int // sessions per attached run
}

var _ observer = (*witness)(nil)

func newWitness(r runtime.Runtime, l *logs.Store) *witness {
	return &witness{runtime: r, logs: l, probed: func(api.ProbeResult) {}, attached: map[api.ProcessID]int{}}
}

// Watch probes a process until ctx ends. A run that a user is to be attached to is watched for
// that as well: left alone for too long, it ends.
func (w *witness) Watch(ctx context.Context, a *api.Assignment, addr string, started time.Time, report func(Finding)) {
	var wg sync.WaitGroup
	if a.Run != nil && a.Run.Attached {
		wg.Go(func() { w.watchAttached(ctx, a.Process, report) })
	}
	health.Watch(ctx, &a.Spec, addr, started, w.probed, func(v health.Verdict) {
		report(Finding{Health: v.Health, Probe: v.Probe, Condemned: v.Condemned})
	})
	wg.Wait()
}

func (w *witness) watchAttached(ctx context.Context, id api.ProcessID, report func(Finding)) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	alone := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		w.mu.Lock()
		if w.attached[id] > 0 {
			alone = time.Now()
		}
		w.mu.Unlock()
		if time.Since(alone) > loneliness {
			report(Finding{Health: api.HealthHealthy, Condemned: "nobody was attached for " + loneliness.String()})
			return
		}
	}
}

// attach counts a session of an attached run; the returned function ends it.
func (w *witness) attach(id api.ProcessID) (leave func()) {
	w.mu.Lock()
	w.attached[id]++
	w.mu.Unlock()
	return func() {
		w.mu.Lock()
		if w.attached[id]--; w.attached[id] == 0 {
			delete(w.attached, id)
		}
		w.mu.Unlock()
	}
}

// Evidence collects what explains a failure. What cannot be read is left out: it is evidence,
// not a condition.
func (w *witness) Evidence(ctx context.Context, a *api.Assignment, last bool) Evidence {
	c, err := w.runtime.Inspect(ctx, a.Process)
	if last {
		w.logs.Complete(ctx, a.Process)
	}
	ev := Evidence{Lines: w.logs.Tail(a.Process, evidenceLines)}
	if err != nil {
		return ev
	}
	ev.PeakMemory = c.PeakMemory
	if c.Pid > 0 {
		ev.Sockets, _ = health.Sockets(c.Pid) // a process that ends meanwhile listens on nothing
	}
	return ev
}

// Note writes a line of the rack's own into the process's log.
func (w *witness) Note(id api.ProcessID, text string) { w.logs.System(id, text) }

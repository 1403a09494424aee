package agent

import (
	"context"
	"errors"
	"log/slog"
	"reflect"
	"sync"
	"syscall"
	"time"

	"slipway/api"
)

// engine is what a supervisor does to the node. Calls are idempotent: each may be repeated
// after a crash between the act and the record of it.
type engine interface {
	// Pull makes the image present.
	Pull(ctx context.Context, a *api.Assignment) error
	// Create makes network, volumes and container and returns the address of the process.
	Create(ctx context.Context, a *api.Assignment) (addr string, err error)
	// Start starts the main process.
	Start(ctx context.Context, id api.ProcessID) error
	// Signal reaches the main process; one that has ended is not an error.
	Signal(ctx context.Context, id api.ProcessID, sig syscall.Signal) error
	// Remove gives back everything.
	Remove(ctx context.Context, a *api.Assignment) error
}

// observer is what a supervisor learns about a running process beside its exit.
type observer interface {
	// Watch probes the process until ctx ends and reports each change of what it found.
	Watch(ctx context.Context, a *api.Assignment, addr string, started time.Time, report func(Finding))
	// Evidence collects what explains a failure: listening sockets, last lines, peak memory. With
	// last it waits for lines that are on their way.
	Evidence(ctx context.Context, a *api.Assignment, last bool) Evidence
	// Note writes a line of the rack's own into the process's log.
	Note(id api.ProcessID, text string)
}

// builder runs image builds.
type builder interface {
	Build(ctx context.Context, a *api.Assignment) (map[api.ServiceName]api.Image, error)
}

// Finding is what the probes say now.
type Finding struct {
	Health api.HealthState
	Probe  *api.ProbeResult // the last failing probe, nil when none fails
	// Condemned says why the process must be replaced: a failed liveness or startup check.
	Condemned string
}

// Evidence explains a failure.
type Evidence struct {
	Sockets    []string
	Lines      []string
	PeakMemory api.Bytes
}

// supervisor leads one process through its life. It is the only one that acts on it.
type supervisor struct {
	id      api.ProcessID
	engine  engine
	observe observer
	build   builder
	save    func(api.ProcessID, *api.Assignment, Local) error // durable before it returns
	report  func(api.ProcessID, api.ProcessStatus)
	acted   func(act Action, took time.Duration, err error) // measures; may be nil
	log     *slog.Logger
	now     func() time.Time

	wants chan want // newest assignment; capacity 1, older ones are replaced
	exits chan Exit // from the engine; capacity 1, a process ends once
	dooms chan string
}

// want is what the newest set says: an assignment, or nothing any more.
type want struct {
	assignment *api.Assignment // nil when the set does not name the process
}

// condemn ends the process although it is wanted. The first reason counts.
func (s *supervisor) condemn(reason string) {
	select {
	case s.dooms <- reason:
	default:
	}
}

// done is the outcome of an action.
type done struct {
	act    Action
	err    error
	addr   string
	images map[api.ServiceName]api.Image
}

// life is the state of a supervisor's loop. Only the loop touches it.
type life struct {
	*supervisor
	want     *api.Assignment
	local    Local
	reported api.ProcessStatus
	acting   Action // in progress; ActNone when idle
	breakOff context.CancelFunc
	unwatch  context.CancelFunc // nil while nobody watches
	results  chan done
	findings chan Finding
	wg       sync.WaitGroup
}

// run acts until the process is forgotten or ctx ends. It leaves containers running when ctx
// ends: the next agent adopts them.
func (s *supervisor) run(ctx context.Context, a *api.Assignment, l Local) {
	ctx, stop := context.WithCancel(ctx)
	f := &life{supervisor: s, want: a, local: l, results: make(chan done, 1), findings: make(chan Finding, 1)}
	defer f.wg.Wait()
	defer stop()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		act, next, wake := Next(f.want, f.local, s.now())
		f.watch(ctx) // before anything waits for the disk
		if !reflect.DeepEqual(next, f.local) || !reflect.DeepEqual(next.Status, f.reported) {
			f.local = s.settle(ctx, f.want, f.local, next)
			f.reported = f.local.Status
		}
		if act == ActForget {
			return
		}
		f.begin(ctx, act)
		if !wake.IsZero() {
			timer.Reset(max(0, wake.Sub(s.now())))
		}
		select {
		case <-ctx.Done():
			return
		case w := <-s.wants:
			f.heed(w)
		case e := <-s.exits:
			f.local = s.ended(f.local, e)
		case reason := <-s.dooms:
			if f.local.Condemned == "" {
				f.local.Condemned = reason
			}
		case found := <-f.findings:
			f.local = s.found(ctx, f.want, f.local, found)
		case r := <-f.results:
			f.breakOff()
			f.acting = ActNone
			f.local = s.learn(f.local, r)
		case <-timer.C:
			f.expire()
		}
	}
}

// begin starts an action when none is in progress, and breaks off one that has lost its point.
func (f *life) begin(ctx context.Context, act Action) {
	switch {
	case f.acting == ActTerm || f.acting == ActKill:
		// A signal is on its way.
	case f.acting != ActNone && act != f.acting && interrupts(act):
		f.breakOff()
	case f.acting == ActNone && act != ActNone:
		switch act { // the exit may be known before the call returns
		case ActTerm:
			f.local.TermAt = f.now()
		case ActKill:
			f.local.KillAt = f.now()
		}
		actCtx, cancel := context.WithCancel(ctx)
		f.acting, f.breakOff = act, cancel
		a := f.want
		f.wg.Go(func() { f.results <- f.do(actCtx, act, a) })
	}
}

// watch keeps probes running exactly while the main process does.
func (f *life) watch(ctx context.Context) {
	running := f.local.Task && f.local.Exit == nil && f.want.Kind != api.KindBuild
	switch {
	case running && f.unwatch == nil:
		watchCtx, cancel := context.WithCancel(ctx)
		f.unwatch = cancel
		a, status := f.want, f.local.Status
		f.wg.Go(func() {
			f.observe.Watch(watchCtx, a, status.Addr, status.Started, func(found Finding) { keepNewest(f.findings, found) })
		})
	case !running && f.unwatch != nil:
		f.unwatch()
		f.unwatch = nil
	}
}

// heed takes the newest word of the servers.
func (f *life) heed(w want) {
	f.local.Unwanted = w.assignment == nil
	if w.assignment != nil {
		f.want, f.local.Bare = merge(f.want, w.assignment), false
	}
}

// expire condemns a run that has reached its time limit.
func (f *life) expire() {
	if at := limit(f.want, f.local); !at.IsZero() && !f.now().Before(at) && f.local.Condemned == "" {
		f.local.Condemned = "reached its time limit of " + f.want.Run.Timeout.String()
	}
}

// interrupts reports whether act is worth breaking off the action in progress for.
func interrupts(act Action) bool { return act == ActNone || act == ActClean || act == ActTerm }

// merge keeps the secrets of an assignment that a newer copy without them would lose.
func merge(old, new *api.Assignment) *api.Assignment {
	if new.Env == nil && old.Env != nil {
		c := *new
		c.Env, c.Command = old.Env, old.Command
		return &c
	}
	return new
}

// keepNewest puts v into a channel of capacity one, in place of what nobody has read yet.
func keepNewest[T any](ch chan T, v T) {
	for {
		select {
		case ch <- v:
			return
		default:
		}
		select {
		case <-ch:
		default:
		}
	}
}

// settle makes a new status durable and reports it.
func (s *supervisor) settle(ctx context.Context, a *api.Assignment, old, l Local) Local {
	if l.Status.State.Ended() && !old.Status.State.Ended() {
		// Who was asked to end owes no explanation, and a rollout waits for it.
		byItself := l.Exit != nil && l.TermAt.IsZero()
		ev := s.observe.Evidence(ctx, a, byItself)
		l.Status.Lines, l.Status.PeakMemory = api.TextsOf(ev.Lines), max(l.Status.PeakMemory, ev.PeakMemory)
		if len(ev.Sockets) > 0 {
			l.Status.Sockets = api.TextsOf(ev.Sockets)
		}
	}
	if old.Status.State != l.Status.State {
		s.log.Info("process moved", "process", s.id, "app", a.App, "service", a.Service, "state", l.Status.State.String())
		if l.Status.State >= api.StateRunning && a.Kind != api.KindBuild { // a build's log is all its own
			s.observe.Note(s.id, noteOf(l))
		}
	}
	if old.Status.State == l.Status.State {
		s.report(s.id, l.Status) // no beginning and no end: nobody has to wait for the disk
		s.keep(a, l)
		return l
	}
	s.keep(a, l)
	s.report(s.id, l.Status)
	return l
}

// keep makes the facts durable. A process of which nothing is on the node yet needs none: a
// restarted agent is told of it again.
func (s *supervisor) keep(a *api.Assignment, l Local) {
	if l.Status.State <= api.StatePulling {
		return
	}
	if err := s.save(s.id, a, l); err != nil {
		s.log.Error("process not saved", "process", s.id, "err", err)
	}
}

// noteOf is the line that a user finds in the log of the process.
func noteOf(l Local) string {
	state, message := l.Status.State.String(), l.Status.Message
	if message == "" || message == state || !l.Status.State.Ended() {
		return state
	}
	return state + ": " + message
}

// do executes one action.
func (s *supervisor) do(ctx context.Context, act Action, a *api.Assignment) done {
	r := done{act: act}
	if s.acted != nil {
		began := s.now()
		defer func() { s.acted(act, s.now().Sub(began), r.err) }()
	}
	switch act {
	case ActPull:
		r.err = s.engine.Pull(ctx, a)
	case ActCreate:
		r.addr, r.err = s.engine.Create(ctx, a)
	case ActStart:
		r.err = s.engine.Start(ctx, s.id)
	case ActBuild:
		r.images, r.err = s.build.Build(ctx, a)
	case ActTerm:
		r.err = s.engine.Signal(ctx, s.id, syscall.SIGTERM)
	case ActKill:
		r.err = s.engine.Signal(ctx, s.id, syscall.SIGKILL)
	case ActClean:
		r.err = s.engine.Remove(ctx, a)
	}
	return r
}

// learn takes the outcome of an action into the facts.
func (s *supervisor) learn(l Local, r done) Local {
	now := s.now()
	switch r.act {
	case ActBuild:
		return s.built(l, r, now)
	case ActTerm, ActKill:
		if r.err != nil {
			s.log.Warn("signal not delivered", "process", s.id, "err", r.err)
		}
		return l
	}
	if r.err != nil {
		if errors.Is(r.err, context.Canceled) {
			return l
		}
		code := api.CodeOf(r.err)
		l.Failures, l.Failed, l.FailedAt, l.Error = l.Failures+1, r.act, now, r.err.Error()
		l.Fatal = code == api.CodeInvalid || code == api.CodeNotFound || code == api.CodeDenied
		s.log.Warn("action failed", "process", s.id, "action", r.act.String(), "err", r.err)
		return l
	}
	l.Failures, l.Error = 0, ""
	switch r.act {
	case ActPull:
		l.Image = true
	case ActCreate:
		l.Container, l.Status.Addr = true, r.addr
	case ActStart:
		l.Task, l.Status.Started = true, now
	case ActClean:
		l.Clean = true
	}
	return l
}

// built ends a build process.
func (s *supervisor) built(l Local, r done, now time.Time) Local {
	l.Task, l.Clean = true, true
	l.Exit = &Exit{At: now}
	if l.Status.Started.IsZero() {
		l.Status.Started = now
	}
	l.Status.Images = r.images
	if r.err != nil {
		l.Exit.Code = 1
		l.Condemned = r.err.Error()
	}
	return l
}

// ended takes the exit of the main process into the facts.
func (s *supervisor) ended(l Local, e Exit) Local {
	if l.Exit != nil {
		return l
	}
	l.Exit, l.Task = &e, true
	l.Status.PeakMemory = max(l.Status.PeakMemory, e.PeakMemory)
	return l
}

// found takes what the probes say into the facts.
func (s *supervisor) found(ctx context.Context, a *api.Assignment, l Local, f Finding) Local {
	if l.Exit != nil || !l.Task {
		return l
	}
	changed := l.Status.Health != f.Health
	l.Status.Health, l.Status.Probe = f.Health, f.Probe
	if f.Health == api.HealthHealthy && l.Status.Healthy.IsZero() {
		l.Status.Healthy = s.now()
	}
	l.Status.Message = ""
	if f.Probe != nil && f.Health != api.HealthHealthy {
		ev := s.observe.Evidence(ctx, a, false)
		l.Status.Sockets, l.Status.Lines = api.TextsOf(ev.Sockets), api.TextsOf(ev.Lines)
		l.Status.Message = f.Probe.Kind + " check fails: " + f.Probe.Target + ": " + f.Probe.Error
	} else {
		l.Status.Sockets, l.Status.Lines = api.Texts{}, api.Texts{}
	}
	if f.Condemned != "" && l.Condemned == "" {
		l.Condemned = f.Condemned
	}
	if changed {
		s.observe.Note(s.id, "health: "+string(f.Health))
	}
	return l
}

package agent

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"slipway/api"
)

// lab is an engine and an observer that do as they are told.
type lab struct {
	mu       sync.Mutex
	acts     []string
	pullTime time.Duration
	pullErr  error
	onTerm   func(syscall.Signal)
	finding  Finding
	claim    func() error // what Create asks first; may be nil
}

func (l *lab) note(s string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.acts = append(l.acts, s)
}

func (l *lab) Pull(ctx context.Context, _ *api.Assignment) error {
	l.note("pull")
	select {
	case <-time.After(l.pullTime):
		return l.pullErr
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
func (l *lab) Create(_ context.Context, a *api.Assignment) (string, error) {
	l.note("create" + a.Env["FOR"])
	if l.claim != nil {
		if err := l.claim(); err != nil {
			return "", err
		}
	}
	return "10.0.0.2", nil
}
func (l *lab) Start(context.Context, api.ProcessID) error    { l.note("start"); return nil }
func (l *lab) Remove(context.Context, *api.Assignment) error { l.note("remove"); return nil }
func (l *lab) Signal(_ context.Context, _ api.ProcessID, s syscall.Signal) error {
	l.note(s.String())
	if l.onTerm != nil {
		l.onTerm(s)
	}
	return nil
}
func (l *lab) Watch(ctx context.Context, _ *api.Assignment, _ string, _ time.Time, report func(Finding)) {
	report(l.finding)
	<-ctx.Done()
}
func (l *lab) Evidence(context.Context, *api.Assignment, bool) Evidence {
	return Evidence{Lines: []string{"last words"}}
}
func (l *lab) Note(api.ProcessID, string) {}

// supervised runs a supervisor in a bubble and gives the test the means to steer it.
func supervised(t *testing.T, l *lab, test func(s *supervisor, status func() api.ProcessStatus)) {
	supervisedFrom(t, l, Local{Status: api.ProcessStatus{State: api.StateAssigned}}, test)
}

// supervisedFrom is supervised for a process of which something is known already.
func supervisedFrom(t *testing.T, l *lab, known Local, test func(s *supervisor, status func() api.ProcessStatus)) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var last api.ProcessStatus
		s := &supervisor{
			id: "pone", engine: l, observe: l, now: time.Now, log: slog.New(slog.DiscardHandler),
			save: func(api.ProcessID, *api.Assignment, Local) error { return nil },
			report: func(_ api.ProcessID, st api.ProcessStatus) {
				mu.Lock()
				defer mu.Unlock()
				if !last.State.CanMove(st.State) {
					t.Errorf("reported %s after %s", st.State, last.State)
				}
				last = st
			},
			wants: make(chan want, 1), exits: make(chan Exit, 1), dooms: make(chan string, 1),
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			s.run(ctx, web(), known)
			close(done)
		}()
		synctest.Wait()
		test(s, func() api.ProcessStatus {
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			return last
		})
		cancel()
		<-done
	})
}

func TestLifeOfAProcess(t *testing.T) {
	l := &lab{finding: Finding{Health: api.HealthHealthy}}
	supervised(t, l, func(s *supervisor, status func() api.ProcessStatus) {
		if st := status(); st.State != api.StateRunning || st.Health != api.HealthHealthy || st.Addr != "10.0.0.2" || st.Healthy.IsZero() {
			t.Fatalf("after the start: %+v", st)
		}
		l.onTerm = func(syscall.Signal) { s.exits <- Exit{Code: 0, At: time.Now()} }
		stop := web()
		stop.Desired = api.DesiredStop
		s.wants <- want{assignment: stop}
		if st := status(); st.State != api.StateExited || st.Message != "stopped" || st.Lines.IsZero() {
			t.Errorf("after the stop: %+v", st)
		}
		s.wants <- want{}
		synctest.Wait()
	})
	if want := []string{"pull", "create", "start", "terminated", "remove"}; !slices.Equal(l.acts, want) {
		t.Errorf("did %q, want %q", l.acts, want)
	}
}

// TestNothingIsCreatedWithoutItsSecrets: the agent was killed before the container was made, and
// its store has no environment. Servers that are slow, or away, are waited for.
func TestNothingIsCreatedWithoutItsSecrets(t *testing.T) {
	l := &lab{finding: Finding{Health: api.HealthHealthy}}
	supervisedFrom(t, l, Local{Bare: true, Status: api.ProcessStatus{State: api.StateStarting}}, func(s *supervisor, status func() api.ProcessStatus) {
		time.Sleep(time.Hour) // of the bubble
		if status(); !slices.Equal(l.acts, []string{"pull"}) {
			t.Fatalf("without the environment it did %q", l.acts)
		}
		again := web()
		again.Env = map[string]string{"FOR": " for ann"}
		s.wants <- want{assignment: again}
		if st := status(); st.State != api.StateRunning {
			t.Errorf("with the environment: %+v", st)
		}
	})
	if want := []string{"pull", "create for ann", "start"}; !slices.Equal(l.acts, want) {
		t.Errorf("did %q, want %q", l.acts, want)
	}
}

func TestDeafProcessIsKilledAfterItsGrace(t *testing.T) {
	l := &lab{finding: Finding{Health: api.HealthHealthy}}
	supervised(t, l, func(s *supervisor, status func() api.ProcessStatus) {
		l.onTerm = func(sig syscall.Signal) {
			if sig == syscall.SIGKILL {
				s.exits <- Exit{Code: 137, At: time.Now()}
			}
		}
		stop := web()
		stop.Desired = api.DesiredStop
		began := time.Now()
		s.wants <- want{assignment: stop}
		time.Sleep(9 * time.Second) // virtual
		if st := status(); st.State != api.StateStopping {
			t.Errorf("9 s into a grace of 10 s: %s", st.State)
		}
		time.Sleep(2 * time.Second) // virtual
		if st := status(); st.State != api.StateExited || st.Finished.Sub(began) != 10*time.Second {
			t.Errorf("%s after %s: %q", st.State, st.Finished.Sub(began), st.Message)
		}
	})
}

func TestStopBreaksOffASlowPull(t *testing.T) {
	l := &lab{pullTime: time.Hour}
	supervised(t, l, func(s *supervisor, status func() api.ProcessStatus) {
		stop := web()
		stop.Desired = api.DesiredStop
		s.wants <- want{assignment: stop}
		if st := status(); st.State != api.StateFailed || st.Message != "stopped before it started" {
			t.Errorf("%+v", st)
		}
	})
	if !slices.Contains(l.acts, "remove") {
		t.Errorf("did %q, want a clean-up", l.acts)
	}
}

func TestPullIsTriedAgainUnlessItCannotHelp(t *testing.T) {
	for _, c := range []struct {
		err   error
		pulls int
	}{{errors.New("connection reset"), tries}, {api.Errorf(api.CodeNotFound, "no such image"), 1}} {
		l := &lab{pullErr: c.err}
		supervised(t, l, func(_ *supervisor, status func() api.ProcessStatus) {
			time.Sleep(time.Minute) // virtual
			if st := status(); st.State != api.StateFailed || st.Message != c.err.Error() {
				t.Errorf("%+v", st)
			}
		})
		if n := len(slices.DeleteFunc(l.acts, func(a string) bool { return a != "pull" })); n != c.pulls {
			t.Errorf("%v: pulled %d times, want %d", c.err, n, c.pulls)
		}
	}
}

func TestReportsSurviveASession(t *testing.T) {
	r := newReports()
	r.add("pone", api.ProcessStatus{State: api.StateRunning})
	seq, batch := r.take()
	if len(batch) != 1 {
		t.Fatalf("took %v", batch)
	}
	r.rewind() // the session broke before the acknowledgement
	if _, again := r.take(); len(again) != 1 {
		t.Errorf("an unacknowledged report was dropped: %v", again)
	}
	r.acknowledge(seq + 1)
	r.rewind()
	if _, again := r.take(); len(again) != 0 {
		t.Errorf("an acknowledged report was sent again: %v", again)
	}
}

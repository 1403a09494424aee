package agent

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"slipway/api"
)

func web() *api.Assignment {
	return &api.Assignment{
		Process: "pone", App: "shop", Service: "web", Kind: api.KindService,
		Spec: api.ServiceSpec{Name: "web", Grace: 10 * time.Second}, Ask: api.Amount{Memory: 64 * api.MiB},
	}
}

func TestNext(t *testing.T) {
	now := time.Unix(1000, 0)
	running := Local{Image: true, Container: true, Task: true, Status: api.ProcessStatus{State: api.StateRunning}}
	with := func(l Local, change func(*Local)) Local { change(&l); return l }
	stop := web()
	stop.Desired = api.DesiredStop
	drain := web()
	drain.Desired = api.DesiredDrain
	builds := web()
	builds.Kind = api.KindBuild
	for _, c := range []struct {
		name  string
		want  *api.Assignment
		local Local
		act   Action
		state api.State
		says  string
		wake  time.Duration // from now; 0 for none
	}{
		{"new", web(), Local{}, ActPull, api.StatePulling, "", 0},
		{"pulled", web(), Local{Image: true}, ActCreate, api.StateStarting, "", 0},
		{"pulled, without its secrets", web(), Local{Image: true, Bare: true}, ActNone, api.StatePending, "", 0},
		{"not pulled, without its secrets", web(), Local{Bare: true}, ActPull, api.StatePulling, "", 0},
		{"created, without its secrets", web(), Local{Image: true, Container: true, Bare: true}, ActStart, api.StateStarting, "", 0},
		{"created", web(), Local{Image: true, Container: true}, ActStart, api.StateStarting, "", 0},
		{"running", web(), running, ActNone, api.StateRunning, "", 0},
		{"draining lives on", drain, running, ActNone, api.StateRunning, "", 0},
		{"build", builds, Local{}, ActBuild, api.StateRunning, "", 0},
		{"first failure waits", web(), Local{Failures: 1, FailedAt: now, Error: "no route"}, ActNone, api.StatePending, "", 500 * time.Millisecond},
		{"third failure ends", web(), Local{Failures: 3, FailedAt: now, Error: "no route"}, ActNone, api.StateFailed, "no route", 1},
		{"fatal failure ends at once", web(), Local{Failures: 1, Fatal: true, Error: "not found"}, ActNone, api.StateFailed, "not found", 1},
		{"stop before the start", stop, Local{Image: true}, ActNone, api.StateFailed, "before it started", 1},
		{"stop", stop, running, ActTerm, api.StateStopping, "", 0},
		{"stopping", stop, with(running, func(l *Local) { l.TermAt = now.Add(-4 * time.Second) }), ActNone, api.StateStopping, "", 6 * time.Second},
		{"grace is over", stop, with(running, func(l *Local) { l.TermAt = now.Add(-10 * time.Second) }), ActKill, api.StateStopping, "", 0},
		{"killed but alive", stop, with(running, func(l *Local) { l.TermAt, l.KillAt = now.Add(-20*time.Second), now }), ActNone, api.StateStopping, "", 5 * time.Second},
		{"not named any more", web(), with(running, func(l *Local) { l.Unwanted = true }), ActTerm, api.StateStopping, "", 0},
		{"condemned", web(), with(running, func(l *Local) { l.Condemned = "liveness" }), ActTerm, api.StateStopping, "", 0},
		{"exited", web(), with(running, func(l *Local) { l.Exit = &Exit{Code: 3} }), ActNone, api.StateExited, "code 3", 1},
		{"signalled", web(), with(running, func(l *Local) { l.Exit = &Exit{Code: 139} }), ActNone, api.StateExited, "signal 11", 1},
		{"out of memory", web(), with(running, func(l *Local) { l.Exit = &Exit{Code: 137, OOM: true} }), ActNone, api.StateExited, "the limit is 64 MiB", 1},
		{"lost", web(), with(running, func(l *Local) { l.Exit = &Exit{Code: 137, Lost: true} }), ActNone, api.StateFailed, "disappeared", 1},
		{"deaf to SIGTERM", stop, with(running, func(l *Local) { l.TermAt, l.KillAt, l.Exit = now, now, &Exit{Code: 137} }), ActNone, api.StateExited, "ignored SIGTERM for 10s", 1},
		{"ended holds things", web(), Local{Status: api.ProcessStatus{State: api.StateExited}}, ActClean, api.StateExited, "", 0},
		{"ended and known", web(), Local{Clean: true, Status: api.ProcessStatus{State: api.StateExited}}, ActNone, api.StateExited, "", 0},
		{"ended and forgotten", web(), Local{Clean: true, Unwanted: true, Status: api.ProcessStatus{State: api.StateExited}}, ActForget, api.StateExited, "", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			act, next, wake := Next(c.want, c.local, now)
			if act != c.act || next.Status.State != c.state || !strings.Contains(next.Status.Message, c.says) {
				t.Errorf("%s, %s, %q; want %s, %s, %q", act, next.Status.State, next.Status.Message, c.act, c.state, c.says)
			}
			switch {
			case c.wake == 0 && !wake.IsZero(), c.wake == 1 && !wake.Equal(now), c.wake > 1 && !wake.Equal(now.Add(c.wake)):
				t.Errorf("wakes at %s, want %s from %s", wake, c.wake, now)
			}
		})
	}
}

// TestNextNeverGoesBack: whatever the facts, the state that Next reports can follow the one of
// before, and an end stays as it is.
func TestNextNeverGoesBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		flag := func(name string) bool { return rapid.Bool().Draw(t, name) }
		now := time.Unix(1000, 0)
		a := web()
		a.Desired = api.Desired(rapid.IntRange(0, 2).Draw(t, "desired"))
		l := Local{Image: flag("image"), Container: flag("container"), Task: flag("task"), Clean: flag("clean"), Unwanted: flag("unwanted")}
		if flag("exit") {
			l.Task, l.Exit = true, &Exit{Code: rapid.IntRange(0, 255).Draw(t, "code")}
		}
		if flag("condemned") {
			l.Condemned = "test"
		}
		last := api.StateAssigned
		l.Status.State = last
		for range 6 {
			var act Action
			act, l, _ = Next(a, l, now)
			if !last.CanMove(l.Status.State) {
				t.Fatalf("went from %s to %s", last, l.Status.State)
			}
			last = l.Status.State
			switch act {
			case ActPull:
				l.Image = true
			case ActCreate:
				l.Container = true
			case ActStart:
				l.Task = true
			case ActTerm:
				l.TermAt = now
			case ActKill:
				l.Exit = &Exit{Code: 137}
			case ActClean:
				l.Clean = true
			}
			now = now.Add(time.Duration(rapid.IntRange(0, 20).Draw(t, "seconds")) * time.Second)
		}
	})
}

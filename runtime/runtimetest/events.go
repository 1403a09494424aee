package runtimetest

import (
	"context"
	"syscall"
	"time"

	"slipway/api"
	"slipway/runtime"
)

// follow subscribes until the test ends.
func (l *lab) follow() <-chan runtime.Event {
	l.Helper()
	ch, err := l.Engine.Events(l.Context())
	if err != nil {
		l.Fatal(err)
	}
	return ch
}

// told waits for an event of a kind about a container.
func (l *lab) told(ch <-chan runtime.Event, kind runtime.EventKind, id api.ProcessID) runtime.Event {
	l.Helper()
	timeout := time.After(limit)
	var seen []runtime.Event
	for {
		select {
		case e, ok := <-ch:
			if !ok {
				l.Fatalf("the events ended; seen: %+v", seen)
			}
			if e.Kind == kind && e.ID == id {
				return e
			}
			seen = append(seen, e)
		case <-timeout:
			l.Fatalf("no %s of container %s within %s; seen: %+v", kind, id, limit, seen)
		}
	}
}

func events(l *lab) {
	ctx, cancel := context.WithCancel(l.Context())
	defer cancel()
	ch, err := l.Engine.Events(ctx)
	if err != nil {
		l.Fatal(err)
	}
	other := l.follow()
	for _, code := range []string{"0", "6"} {
		s := l.start(l.spec("exit", code))
		e := l.told(ch, runtime.EventExit, s.ID)
		c := l.ended(s.ID)
		if e.ExitCode != c.ExitCode || e.OOM || time.Since(e.At) > time.Minute || code != "0" && e.ExitCode != 6 {
			l.Errorf("told %+v, listed %+v", e, c)
		}
		l.told(other, runtime.EventExit, s.ID)
	}
	cancel()
	l.await("end of the events", func() bool {
		select {
		case _, more := <-ch:
			return !more
		default:
			return false
		}
	}, func() any { return "the channel is open" })
	s := l.start(l.spec("exit", "2"))
	if e := l.told(other, runtime.EventExit, s.ID); e.ExitCode != 2 {
		l.Errorf("the other subscriber was told %+v", e)
	}
}

func away(l *lab) {
	stays, ends := l.start(l.spec("out", "ready", "wait")), l.start(l.spec("out", "ready", "sleep", "300ms", "out", "more", "exit", "8"))
	l.says(stays, "ready")
	l.says(ends, "ready")
	ch := l.follow()
	pid := 0
	if c, _ := l.find(stays.ID); c.Pid > 0 {
		pid = c.Pid
	}
	l.Away(l.T, func() {
		ctx, cancel := context.WithTimeout(l.Context(), 2*time.Second)
		defer cancel()
		_, err := l.Engine.List(ctx)
		l.coded("list while the daemon is away", err, api.CodeUnavailable)
		// The container ends while nobody sees it. Its logger needs no daemon.
		l.says(ends, "more\n")
	})
	l.told(ch, runtime.EventGap, "")
	if c := l.ended(ends.ID); c.State != runtime.ContainerExited || c.ExitCode != 8 {
		l.Errorf("the one that ended meanwhile: %+v", c)
	}
	if c, _ := l.find(stays.ID); c.State != runtime.ContainerRunning || c.Pid != pid {
		l.Errorf("the other one had pid %d and is now %+v", pid, c)
	}
	if err := l.Engine.Signal(l.ctx(), stays.ID, syscall.SIGTERM); err != nil {
		l.Fatal(err)
	}
	l.told(ch, runtime.EventExit, stays.ID)
}

func lost(l *lab) {
	s := l.start(l.spec("out", "ready", "wait"))
	l.says(s, "ready")
	l.Lose(l.T, s.ID)
	if c := l.ended(s.ID); c.ExitCode != runtime.ExitLost || c.Pid != 0 {
		l.Errorf("got %+v", c)
	}
	l.coded("signal", l.Engine.Signal(l.ctx(), s.ID, syscall.SIGTERM), api.CodeNotFound)
	if err := l.Engine.Remove(l.ctx(), s.ID); err != nil {
		l.Error(err)
	}
	if c, there := l.find(s.ID); there {
		l.Errorf("still there: %+v", c)
	}
}

func outOfMemory(l *lab) {
	ch := l.follow()
	s := l.spec("out", "ready", "wait")
	s.Limits.Memory = 48 * api.MiB
	l.start(s)
	l.says(s, "ready")
	l.OOM(l.T, s.ID)
	e := l.told(ch, runtime.EventExit, s.ID)
	c := l.ended(s.ID)
	if !e.OOM || e.ExitCode != 137 || !c.OOM || c.ExitCode != 137 {
		l.Errorf("told %+v, listed %+v", e, c)
	}
	for _, peak := range []api.Bytes{e.PeakMemory, c.PeakMemory} {
		if peak < 40*api.MiB || peak > 49*api.MiB {
			l.Errorf("the peak is %s, the limit %s", peak, s.Limits.Memory)
		}
	}
	l.Engine = l.Reopen(l.T)
	if c := l.ended(s.ID); !c.OOM {
		l.Errorf("a restarted agent finds %+v", c)
	}
}

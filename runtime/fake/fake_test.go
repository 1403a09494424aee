package fake

import (
	"context"
	"crypto/sha256"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"slipway/api"
	"slipway/runtime"
	"slipway/runtime/runtimetest"
	"slipway/runtime/runtimetest/guest"
)

// program lets the fake run the suite's guest.
func program(ctx context.Context, p *Process) int {
	sizes := make(chan [2]int)
	if p.Sizes != nil {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		go func() {
			for {
				select {
				case s := <-p.Sizes:
					select {
					case sizes <- [2]int{int(s.Rows), int(s.Cols)}:
					case <-ctx.Done():
						return
					}
				case <-ctx.Done():
					return
				}
			}
		}()
	}
	return guest.Run(ctx, &guest.World{
		Args: p.Args[1:], Env: p.Env, Dir: p.Dir, Stdin: p.Stdin, Stdout: p.Stdout, Stderr: p.Stderr, Signals: p.Signals, Sizes: sizes,
	})
}

func TestSuite(t *testing.T) {
	e := New()
	t.Cleanup(e.Close)
	e.AddDevice("/dev/fuse")
	runtimetest.Run(t, &runtimetest.Harness{
		Engine: e, Dir: t.TempDir(), Fetches: e.Pulls, Device: "/dev/fuse",
		Push: func(_ *testing.T, i runtimetest.Image) string {
			ref := fmt.Sprintf("registry/test@sha256:%x", sha256.Sum256(fmt.Append(nil, i)))
			i.Size = 1234
			e.AddImage(ref, Image{Info: i.ImageInfo, Program: program})
			return ref
		},
		Reopen: func(*testing.T) runtime.Runtime { return e },
		Away: func(_ *testing.T, f func()) {
			e.SetDown(api.Errorf(api.CodeUnavailable, "the daemon is away"))
			f()
			e.SetDown(nil)
		},
		Lose: func(_ *testing.T, id api.ProcessID) { e.Lose(id) },
		OOM:  func(_ *testing.T, id api.ProcessID) { e.OOM(id) },
	})
}

// TestKnobsInABubble shows what goes wrong on demand, in the time of a bubble.
func TestKnobsInABubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := New()
		defer e.Close()
		start := time.Now()
		e.AddImage("r/slow@sha256:1", Image{Info: runtime.ImageInfo{Cmd: []string{"x"}}, PullTime: time.Minute, Program: ExitAfter(time.Hour, 3)})
		e.AddImage("r/gone@sha256:2", Image{PullError: api.Errorf(api.CodeDenied, "no right")})
		e.AddImage("r/bad@sha256:3", Image{Info: runtime.ImageInfo{Cmd: []string{"x"}}, StartError: api.Errorf(api.CodeInvalid, "no such program")})
		if _, err := e.Pull(t.Context(), "r/slow@sha256:1", nil); err != nil || time.Since(start) != time.Minute {
			t.Errorf("pull: %v after %s", err, time.Since(start))
		}
		if _, err := e.Pull(t.Context(), "r/gone@sha256:2", nil); api.CodeOf(err) != api.CodeDenied {
			t.Errorf("pull without a right: %v", err)
		}
		events, err := e.Events(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := e.Pull(t.Context(), "r/bad@sha256:3", nil); err != nil {
			t.Fatal(err)
		}
		for id, image := range map[api.ProcessID]string{"p1": "r/slow@sha256:1", "p2": "r/bad@sha256:3"} {
			if err := e.Create(t.Context(), runtime.Spec{ID: id, Image: image}); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := e.Start(t.Context(), "p2"); api.CodeOf(err) != api.CodeInvalid {
			t.Errorf("start of what cannot run: %v", err)
		}
		if _, err := e.Start(t.Context(), "p1"); err != nil {
			t.Fatal(err)
		}
		if got := <-events; got.ExitCode != 3 || time.Since(start) != time.Minute+time.Hour {
			t.Errorf("told %+v after %s", got, time.Since(start))
		}
	})
}

// TestSlowWatcherIsToldOfTheGap overflows a subscription.
func TestSlowWatcherIsToldOfTheGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := New()
		defer e.Close()
		e.AddImage("r/x@sha256:1", Image{Info: runtime.ImageInfo{Cmd: []string{"x"}}, Program: ExitAfter(time.Second, 0)})
		if _, err := e.Pull(t.Context(), "r/x@sha256:1", nil); err != nil {
			t.Fatal(err)
		}
		events, err := e.Events(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		run := func(n int) {
			for i := range n {
				id := api.ProcessID(fmt.Sprintf("p%d", i))
				if err := e.Create(t.Context(), runtime.Spec{ID: id, Image: "r/x@sha256:1"}); err != nil {
					t.Fatal(err)
				}
				if _, err := e.Start(t.Context(), id); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(2 * time.Second) // virtual
			for i := range n {
				if err := e.Remove(t.Context(), api.ProcessID(fmt.Sprintf("p%d", i))); err != nil {
					t.Fatal(err)
				}
			}
		}
		run(200)
		for range cap(events) {
			<-events
		}
		run(1)
		if got := <-events; got.Kind != runtime.EventGap {
			t.Errorf("told %+v, want a gap", got)
		}
	})
}

package runtimetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"syscall"
	"time"

	"slipway/api"
	"slipway/runtime"
)

// attachment is a call of Attach in progress.
type attachment struct {
	l      *lab
	out    buffer
	errs   buffer
	leave  context.CancelCauseFunc
	result chan error
}

// attachTo attaches in the background.
func (l *lab) attachTo(id api.ProcessID, stdin io.Reader, sizes <-chan runtime.Size) *attachment {
	a := &attachment{l: l, result: make(chan error, 1)}
	var ctx context.Context
	ctx, a.leave = context.WithCancelCause(l.ctx())
	go func() {
		a.result <- l.Engine.Attach(ctx, id, runtime.Streams{Stdin: stdin, Stdout: &a.out, Stderr: &a.errs, Resize: sizes})
	}()
	return a
}

// wait returns the result of the call.
func (a *attachment) wait() error {
	a.l.Helper()
	select {
	case err := <-a.result:
		return err
	case <-time.After(limit):
		a.l.Fatalf("attach has not ended; stdout %.2000q", a.out.String())
		return nil
	}
}

func (l *lab) attachable(words ...string) runtime.Spec {
	s := l.spec(words...)
	s.Attach = true
	return s
}

func attach(l *lab) {
	s := l.create(l.attachable("out", "to stdout", "err", "to stderr", "read", "cat", "exit", "3"))
	in, typed := io.Pipe()
	defer typed.Close()
	a := l.attachTo(s.ID, in, nil) // before the start
	l.launch(s.ID)
	a.out.holds(l, "to stdout\n")
	fmt.Fprintln(typed, "first line")
	a.out.holds(l, "first line\n")
	err := l.Engine.Attach(l.ctx(), s.ID, runtime.Streams{})
	l.coded("second attachment", err, api.CodeConflict)
	fmt.Fprint(typed, "the rest")
	typed.Close()
	if err := a.wait(); err != nil {
		l.Errorf("attach ended with %v", err)
	}
	const want = "to stdout\nfirst line\nthe rest"
	if a.out.String() != want || a.errs.String() != "to stderr\n" {
		l.Errorf("stdout %q, stderr %q", a.out.String(), a.errs.String())
	}
	if c := l.ended(s.ID); c.ExitCode != 3 {
		l.Errorf("ended with %+v", c)
	}
	l.coded("attach after the end", l.Engine.Attach(l.ctx(), s.ID, runtime.Streams{}), api.CodeNotFound)
	if out, errs := l.logged(s); out != want || errs != "to stderr\n" {
		l.Errorf("the log has %q and %q", out, errs)
	}
	l.coded("attach to nothing", l.Engine.Attach(l.ctx(), l.id(), runtime.Streams{}), api.CodeNotFound)
	plain := l.start(l.spec("wait"))
	l.coded("attach to one that was not made for it", l.Engine.Attach(l.ctx(), plain.ID, runtime.Streams{}), api.CodeConflict)
	empty := l.start(l.attachable("cat", "out", "done"))
	if err := l.attachTo(empty.ID, nil, nil).wait(); err != nil {
		l.Errorf("attach without input: %v", err)
	}
}

func attachAgain(l *lab) {
	s := l.start(l.attachable("out", "ready", "read", "read", "read", "out", "done", "exit", "6"))
	gone := errors.New("the user has gone")
	for _, text := range []string{"one\n", "two\n"} {
		in, typed := io.Pipe()
		defer typed.Close()
		a := l.attachTo(s.ID, in, nil)
		fmt.Fprint(typed, text)
		a.out.holds(l, text)
		a.leave(gone)
		if err := a.wait(); !errors.Is(err, gone) {
			l.Errorf("an attachment that was left ended with %v", err)
		}
		l.says(s, text)
	}
	if c, _ := l.find(s.ID); c.State != runtime.ContainerRunning {
		l.Errorf("left alone, the container is %+v", c)
	}
	if _, _, whole := l.log(s); whole {
		l.Error("the log has ended although the process has not")
	}
	l.Engine = l.Reopen(l.T)
	in, typed := io.Pipe()
	defer typed.Close()
	a := l.attachTo(s.ID, in, nil)
	fmt.Fprintln(typed, "three")
	if err := a.wait(); err != nil {
		l.Errorf("the last attachment ended with %v", err)
	}
	if out := a.out.String(); out != "three\ndone\n" {
		l.Errorf("the last attachment got %q", out)
	}
	if c := l.ended(s.ID); c.ExitCode != 6 {
		l.Errorf("ended with %+v", c)
	}
	if out, _ := l.logged(s); out != "ready\none\ntwo\nthree\ndone\n" {
		l.Errorf("the log has %q", out)
	}
}

func outputWaits(l *lab) {
	const lines = 50000 // many times what a pipe holds
	s := l.start(l.attachable("flood", fmt.Sprint(lines)))
	a := l.attachTo(s.ID, nil, nil)
	if err := a.wait(); err != nil {
		l.Fatal(err)
	}
	if got := a.out.String(); got != flood(lines) {
		l.Errorf("%d bytes came of %d", len(got), len(flood(lines)))
	}
	if out, _ := l.logged(s); out != flood(lines) {
		l.Errorf("the log has %d bytes of %d", len(out), len(flood(lines)))
	}
}

func attachTerminal(l *lab) {
	s := l.attachable("size", "size", "exit", "2")
	s.TTY, s.Size = true, runtime.Size{Rows: 40, Cols: 120}
	l.start(s)
	sizes := make(chan runtime.Size)
	a := l.attachTo(s.ID, l.blocked(), sizes)
	a.out.holds(l, "40 rows 120 cols\n")
	sizes <- runtime.Size{Rows: 41, Cols: 121}
	if err := a.wait(); err != nil {
		l.Errorf("attach ended with %v", err)
	}
	if out := a.out.String(); out != "40 rows 120 cols\n41 rows 121 cols\n" {
		l.Errorf("got %q", out)
	}
	if c := l.ended(s.ID); c.ExitCode != 2 {
		l.Errorf("ended with %+v", c)
	}
}

func unattached(l *lab) {
	ch := l.follow()
	s := l.start(l.attachable("out", "nobody", "err", "was there"))
	l.told(ch, runtime.EventExit, s.ID)
	if out, errs, _ := l.log(s); out != "nobody\n" || errs != "was there\n" {
		l.Errorf("when the exit is told, the log has %q and %q", out, errs)
	}
	l.coded("attach after the end", l.Engine.Attach(l.ctx(), s.ID, runtime.Streams{}), api.CodeNotFound)
	killed := l.start(l.attachable("out", "half", "stay"))
	gone := l.attachTo(killed.ID, nil, nil)
	gone.out.holds(l, "half\n")
	if err := l.Engine.Signal(l.ctx(), killed.ID, syscall.SIGKILL); err != nil {
		l.Fatal(err)
	}
	if err := gone.wait(); err != nil {
		l.Errorf("attach to a killed process ended with %v", err)
	}
}

func unattachedAcrossAgents(l *lab) {
	s := l.start(l.attachable("read", "sleep", "50ms", "out", "early", "wait"))
	in, typed := io.Pipe()
	defer typed.Close()
	a := l.attachTo(s.ID, in, nil)
	fmt.Fprintln(typed, "up") // answered by a program that listens to signals
	a.out.holds(l, "up\n")
	a.leave(nil)
	_ = a.wait() // says that it was left
	l.says(s, "up")
	l.Engine = l.Reopen(l.T)
	ch := l.follow()
	if err := l.Engine.Signal(l.ctx(), s.ID, syscall.SIGTERM); err != nil {
		l.Fatal(err)
	}
	l.told(ch, runtime.EventExit, s.ID)
	if out, _ := l.logged(s); out != "up\nearly\nterminated\n" {
		l.Errorf("the log has %q", out)
	}
}

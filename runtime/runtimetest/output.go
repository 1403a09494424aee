package runtimetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"syscall"
	"time"

	"slipway/api"
	"slipway/runtime"
)

// flood is what the guest's word "flood" writes.
func flood(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "line %07d\n", i)
	}
	return b.String()
}

// buffer is a bytes.Buffer for two goroutines.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements io.Writer.
func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

// String returns what was written, without carriage returns.
func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.ReplaceAll(b.b.String(), "\r", "")
}

// holds waits until the buffer has a text.
func (b *buffer) holds(l *lab, text string) {
	l.Helper()
	l.await(fmt.Sprintf("%q", text), func() bool { return strings.Contains(b.String(), text) }, func() any { return fmt.Sprintf("%.2000q", b.String()) })
}

// blocked is a reader that never returns before the test's end.
func (l *lab) blocked() io.Reader {
	r, w := io.Pipe()
	l.Cleanup(func() { w.Close() })
	return r
}

func logs(l *lab) {
	const lines = 20000
	s := l.start(l.spec("out", "to stdout", "err", "to stderr", "flood", fmt.Sprint(lines), "out", "last"))
	l.ended(s.ID)
	stdout, stderr := l.logged(s)
	if want := "to stdout\n" + flood(lines) + "last\n"; stdout != want || stderr != "to stderr\n" {
		l.Errorf("stdout has %d bytes, want %d; stderr is %q", len(stdout), len(want), stderr)
	}
	discarded := l.spec("flood", fmt.Sprint(lines))
	discarded.Log.Dir = ""
	l.start(discarded)
	if c := l.ended(discarded.ID); c.ExitCode != 0 {
		l.Errorf("without a log: %+v", c)
	}
	terminal := l.spec("out", "to stdout", "err", "to stderr")
	terminal.TTY, terminal.Size = true, runtime.Size{Rows: 10, Cols: 20}
	if out, _ := l.run(terminal); out != "to stdout\nto stderr\n" {
		l.Errorf("a terminal without attachment logged %q", out)
	}
}

func logContinued(l *lab) {
	first := l.spec("out", "first")
	l.run(first)
	second := l.spec("out", "second")
	second.Log = first.Log
	l.start(second)
	l.ended(second.ID)
	if out, _ := l.logged(second); out != "first\nsecond\n" {
		l.Errorf("the log has %q", out)
	}
}

func execs(l *lab) {
	s := l.spec("wait")
	s.Env, s.WorkDir = []string{"A=container", "B=container"}, "/tmp"
	l.start(s)
	stdout, stderr, code := l.exec(s.ID, runtime.ExecSpec{
		Args: []string{"/guest", "out", "to stdout", "err", "to stderr", "env", "A", "env", "B", "env", "C", "dir", "exit", "7"},
		Env:  []string{"B=exec", "C=exec"},
	})
	if stdout != "to stdout\ncontainer\nexec\nexec\n/tmp\n" || stderr != "to stderr\n" || code != 7 {
		l.Errorf("stdout %q, stderr %q, code %d", stdout, stderr, code)
	}
	if out, _, _ := l.exec(s.ID, runtime.ExecSpec{Args: []string{"/guest", "dir"}, WorkDir: "/"}); out != "/\n" {
		l.Errorf("in /: %q", out)
	}
	if out, _, _ := l.exec(s.ID, runtime.ExecSpec{Args: []string{"/guest", "flood", "50000"}}); out != flood(50000) {
		l.Errorf("%d bytes came of %d", len(out), len(flood(50000)))
	}
	if c, _ := l.find(s.ID); c.State != runtime.ContainerRunning {
		l.Errorf("the container is now %+v", c)
	}
}

func execInput(l *lab) {
	s := l.start(l.spec("wait"))
	text := flood(20000)
	for name, c := range map[string]struct {
		words []string
		in    io.Reader
		want  string
	}{
		"no input is empty":        {[]string{"/guest", "cat"}, nil, ""},
		"empty input":              {[]string{"/guest", "cat"}, strings.NewReader(""), ""},
		"all of it":                {[]string{"/guest", "cat"}, strings.NewReader(text), text},
		"nobody reads it":          {[]string{"/guest", "out", "done"}, strings.NewReader(text), "done\n"},
		"a reader that never ends": {[]string{"/guest", "out", "done"}, l.blocked(), "done\n"},
	} {
		got, _, code := l.exec(s.ID, runtime.ExecSpec{Args: c.words, Streams: runtime.Streams{Stdin: c.in}})
		if got != c.want || code != 0 {
			l.Errorf("%s: got %d bytes, want %d; code %d", name, len(got), len(c.want), code)
		}
	}
}

func execTerminal(l *lab) {
	s := l.start(l.spec("wait"))
	var out buffer
	sizes := make(chan runtime.Size)
	type result struct {
		code int
		err  error
	}
	ended := make(chan result, 1)
	go func() {
		code, err := l.Engine.Exec(l.ctx(), s.ID, runtime.ExecSpec{
			Args: []string{"/guest", "size", "size", "exit", "5"}, TTY: true, Size: runtime.Size{Rows: 30, Cols: 90},
			Streams: runtime.Streams{Stdin: l.blocked(), Stdout: &out, Resize: sizes},
		})
		ended <- result{code, err}
	}()
	out.holds(l, "30 rows 90 cols\n")
	sizes <- runtime.Size{Rows: 31, Cols: 91}
	if r := <-ended; r.code != 5 || r.err != nil {
		l.Errorf("code %d, %v", r.code, r.err)
	}
	if got := out.String(); got != "30 rows 90 cols\n31 rows 91 cols\n" {
		l.Errorf("got %q", got)
	}
}

func execEnds(l *lab) {
	s := l.start(l.spec("wait"))
	gone := errors.New("the caller has gone")
	for _, words := range [][]string{{"stay"}, {"cat"}, {"flood", "100000000"}} {
		ctx, cancel := context.WithCancelCause(l.ctx())
		var out buffer
		ended := make(chan error, 1)
		go func() {
			_, err := l.Engine.Exec(ctx, s.ID, runtime.ExecSpec{
				Args:    append([]string{"/guest", "out", "ready"}, words...),
				Streams: runtime.Streams{Stdin: l.blocked(), Stdout: &out},
			})
			ended <- err
		}()
		out.holds(l, "ready\n")
		cancel(gone)
		select {
		case err := <-ended:
			if !errors.Is(err, gone) {
				l.Errorf("%q: got %v", words, err)
			}
		case <-time.After(limit):
			l.Fatalf("%q: did not end with its caller", words)
		}
	}
	ended := make(chan error, 1)
	var out buffer
	go func() {
		_, err := l.Engine.Exec(l.ctx(), s.ID, runtime.ExecSpec{Args: []string{"/guest", "out", "ready", "stay"}, Streams: runtime.Streams{Stdout: &out}})
		ended <- err
	}()
	out.holds(l, "ready\n")
	if err := l.Engine.Signal(l.ctx(), s.ID, syscall.SIGKILL); err != nil {
		l.Fatal(err)
	}
	select {
	case <-ended:
	case <-time.After(limit):
		l.Fatal("a further process outlived the container")
	}
}

func execRefused(l *lab) {
	try := func(id api.ProcessID, x runtime.ExecSpec) error {
		_, err := l.Engine.Exec(l.ctx(), id, x)
		return err
	}
	x := runtime.ExecSpec{Args: []string{"/guest"}}
	l.coded("in nothing", try(l.id(), x), api.CodeNotFound)
	s := l.create(l.spec("wait"))
	l.coded("before the start", try(s.ID, x), api.CodeConflict)
	l.launch(s.ID)
	l.coded("without a command", try(s.ID, runtime.ExecSpec{}), api.CodeInvalid)
	l.coded("in /proc", try(s.ID, runtime.ExecSpec{Args: x.Args, WorkDir: "/proc/self/fd"}), api.CodeInvalid)
	l.coded("as a user out of range", try(s.ID, runtime.ExecSpec{Args: x.Args, User: "4294967296"}), api.CodeInvalid)
	if err := l.Engine.Signal(l.ctx(), s.ID, syscall.SIGKILL); err != nil {
		l.Fatal(err)
	}
	l.ended(s.ID)
	l.coded("after the end", try(s.ID, x), api.CodeConflict)
}

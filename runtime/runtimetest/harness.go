package runtimetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"slipway/api"
	"slipway/runtime"
	"slipway/runtime/logfmt"
)

// Harness is an engine under test and the hands that do to it what happens in the world.
type Harness struct {
	Engine runtime.Runtime
	// Dir is for logs and mounts. It outlives every container of the test.
	Dir string
	// Push puts an image into the registry and returns its ref. Its program is the guest, at
	// /guest.
	Push func(*testing.T, Image) string
	// Fetches returns how often an image was taken from the registry.
	Fetches func(ref string) int
	// Device is a device node that containers can be given, and that they have none of otherwise.
	Device string
	// Reopen returns what a restarted agent has: a new client of the same engine.
	Reopen func(*testing.T) runtime.Runtime
	// Away takes the engine's daemon away while f runs. Containers live on.
	Away func(t *testing.T, f func())
	// Lose ends the engine's helper of a container, so that nobody sees how it ends.
	Lose func(t *testing.T, id api.ProcessID)
	// OOM makes a container that runs the guest's word "wait" use more than its memory.
	OOM func(t *testing.T, id api.ProcessID)
}

// Image is what a test wants of an image.
type Image struct {
	runtime.ImageInfo
	Labels map[string]string
	Files  []File // on top of the guest and a busybox
}

// File is an entry of a layer: a directory if the name ends with "/", a symbolic link with
// Link, a regular file otherwise.
type File struct {
	Name string
	Text string
	Link string
	Zero int64 // bytes of zeros in place of Text
}

// limit bounds every wait of the suite.
const limit = 20 * time.Second

// lab is one test of the suite.
type lab struct {
	*testing.T
	*Harness
}

// serial makes IDs that are unique in the test binary.
var serial atomic.Int64

func (l *lab) id() api.ProcessID { return api.ProcessID(fmt.Sprintf("ptest%05d", serial.Add(1))) }

// ctx is a context that ends with the limit.
func (l *lab) ctx() context.Context {
	ctx, cancel := context.WithTimeout(l.Context(), limit)
	l.Cleanup(cancel)
	return ctx
}

// pulled pushes and pulls an image.
func (l *lab) pulled(i Image) string {
	l.Helper()
	ref := l.Push(l.T, i)
	if _, err := l.Engine.Pull(l.ctx(), ref, nil); err != nil {
		l.Fatal(err)
	}
	return ref
}

// spec is a container that runs the guest with words, and its log.
func (l *lab) spec(words ...string) runtime.Spec {
	l.Helper()
	id := l.id()
	dir, err := os.MkdirTemp(l.Dir, string(id))
	if err != nil {
		l.Fatal(err)
	}
	return runtime.Spec{
		ID: id, Image: l.pulled(Image{}), Entrypoint: []string{"/guest"}, Command: words,
		Log: runtime.Log{Dir: dir + "/log"},
	}
}

// create makes a container and removes it with the test's end.
func (l *lab) create(s runtime.Spec) runtime.Spec {
	l.Helper()
	if err := l.Engine.Create(l.ctx(), s); err != nil {
		l.Fatalf("create: %v", err)
	}
	l.removeAtEnd(s.ID)
	return s
}

func (l *lab) removeAtEnd(id api.ProcessID) {
	l.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		if err := l.Engine.Remove(ctx, id); err != nil {
			l.Errorf("remove at the end: %v", err)
		}
	})
}

func (l *lab) start(s runtime.Spec) runtime.Spec {
	l.Helper()
	l.create(s)
	l.launch(s.ID)
	return s
}

func (l *lab) launch(id api.ProcessID) {
	l.Helper()
	pid, err := l.Engine.Start(l.ctx(), id)
	if err != nil || pid <= 0 {
		l.Fatalf("start: pid %d, %v", pid, err)
	}
}

// await waits for a condition.
func (l *lab) await(what string, ok func() bool, state func() any) {
	l.Helper()
	for deadline := time.Now().Add(limit); !ok(); {
		if time.Now().After(deadline) {
			l.Fatalf("no %s within %s: %v", what, limit, state())
		}
		time.Sleep(2 * time.Millisecond) // polls, does not order anything
	}
}

// find returns a container as List has it, and checks that Inspect knows it as well.
func (l *lab) find(id api.ProcessID) (runtime.Container, bool) {
	l.Helper()
	list, err := l.Engine.List(l.ctx())
	if err != nil {
		l.Fatal(err)
	}
	for _, c := range list {
		if c.ID != id {
			continue
		}
		one, err := l.Engine.Inspect(l.ctx(), id)
		if err != nil || one.Image != c.Image || !maps.Equal(one.Labels, c.Labels) {
			l.Errorf("listed %+v, inspected %+v, %v", c, one, err)
		}
		return c, true
	}
	return runtime.Container{}, false
}

// ended waits for the end of a main process.
func (l *lab) ended(id api.ProcessID) runtime.Container {
	l.Helper()
	var c runtime.Container
	l.await("end of container "+string(id), func() bool {
		c, _ = l.find(id)
		return c.State == runtime.ContainerExited || c.State == runtime.ContainerLost
	}, func() any { return c })
	return c
}

// log returns what a container wrote so far, and whether its log has its end.
func (l *lab) log(s runtime.Spec) (stdout, stderr string, whole bool) {
	l.Helper()
	r := logfmt.NewReader(s.Log.Dir)
	defer r.Close()
	var out, errs strings.Builder
	for {
		e, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out.String(), errs.String(), r.Ended()
		}
		if errors.Is(err, os.ErrNotExist) {
			return "", "", false
		}
		if err != nil {
			l.Fatal(err)
		}
		to := &out
		if e.Stream == logfmt.Stderr {
			to = &errs
		}
		to.Write(e.Text)
		if !e.Partial {
			to.WriteByte('\n')
		}
	}
}

// logged removes a container, which ends its log at the latest, and returns the log.
func (l *lab) logged(s runtime.Spec) (stdout, stderr string) {
	l.Helper()
	if err := l.Engine.Remove(l.ctx(), s.ID); err != nil {
		l.Fatalf("remove: %v", err)
	}
	var whole bool
	l.await("end of the log", func() bool {
		stdout, stderr, whole = l.log(s)
		return whole
	}, func() any { return fmt.Sprintf("stdout %.2000q, stderr %.2000q", stdout, stderr) })
	return strings.ReplaceAll(stdout, "\r", ""), stderr
}

// says waits until a log holds a text.
func (l *lab) says(s runtime.Spec, text string) {
	l.Helper()
	var stdout, stderr string
	l.await(fmt.Sprintf("%q in the log", text), func() bool {
		stdout, stderr, _ = l.log(s)
		return strings.Contains(stdout+stderr, text)
	}, func() any { return fmt.Sprintf("stdout %.2000q, stderr %.2000q", stdout, stderr) })
}

// run runs a container to its end and returns its output and how it ended.
func (l *lab) run(s runtime.Spec) (string, runtime.Container) {
	l.Helper()
	l.start(s)
	c := l.ended(s.ID)
	stdout, stderr := l.logged(s)
	return stdout + stderr, c
}

// exec runs a further process to its end.
func (l *lab) exec(id api.ProcessID, x runtime.ExecSpec) (stdout, stderr string, code int) {
	l.Helper()
	var out, errs bytes.Buffer
	x.Streams.Stdout, x.Streams.Stderr = &out, &errs
	code, err := l.Engine.Exec(l.ctx(), id, x)
	if err != nil {
		l.Fatalf("exec %q: %v (stdout %q, stderr %q)", x.Args, err, out.String(), errs.String())
	}
	return strings.ReplaceAll(out.String(), "\r", ""), errs.String(), code
}

// coded checks the code of an error.
func (l *lab) coded(what string, err error, want api.Code) {
	l.Helper()
	if api.CodeOf(err) != want {
		l.Errorf("%s: got %v (code %q), want code %q", what, err, api.CodeOf(err), want)
	}
}

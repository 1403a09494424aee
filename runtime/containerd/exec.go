package containerd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/containerd/containerd/api/types/task"
	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/opencontainers/runtime-spec/specs-go"

	"slipway/api"
	"slipway/runtime"
)

// linger is how long output may be silent, after its process has ended, before it is taken for
// that of children that live on.
const linger = time.Second

// startTime bounds the start of a further process.
const startTime = 30 * time.Second

// Exec runs a further process until it ends.
func (e *Engine) Exec(ctx context.Context, id api.ProcessID, x runtime.ExecSpec) (int, error) {
	if err := x.Check(); err != nil {
		return 0, err
	}
	p, err := e.process(ctx, id)
	if err != nil {
		return 0, err
	}
	if p.Status != task.Status_RUNNING {
		return 0, api.Errorf(api.CodeConflict, "container %s is %s, not running", id, strings.ToLower(p.Status.String()))
	}
	t, err := e.task(ctx, id)
	if err != nil {
		return 0, err
	}
	spec, err := e.execSpec(ctx, id, &x)
	if err != nil {
		return 0, err
	}
	in, out := &input{Reader: x.Streams.Stdin, eof: make(chan struct{})}, &output{}
	opts := []cio.Opt{cio.WithStreams(in, out.to(x.Streams.Stdout), out.to(x.Streams.Stderr)), cio.WithFIFODir(e.pipes())}
	if x.TTY {
		opts = append(opts, cio.WithTerminal)
	}
	proc, err := t.Exec(ctx, fmt.Sprintf("x%d", time.Now().UnixNano()), spec, cio.NewCreator(opts...))
	if err != nil {
		return 0, fmt.Errorf("exec in container %s: %w", id, classify(err))
	}
	return e.follow(ctx, id, proc, &x, in, out)
}

// execSpec is the container's process with what is asked for in its place.
func (e *Engine) execSpec(ctx context.Context, id api.ProcessID, x *runtime.ExecSpec) (*specs.Process, error) {
	ct, err := e.client.LoadContainer(ctx, string(id))
	if err != nil {
		return nil, fmt.Errorf("container %s: %w", id, classify(err))
	}
	info, err := ct.Info(ctx, client.WithoutRefreshedMetadata)
	if err != nil {
		return nil, fmt.Errorf("container %s: %w", id, classify(err))
	}
	spec, err := ct.Spec(ctx)
	if err != nil {
		return nil, fmt.Errorf("spec of container %s: %w", id, classify(err))
	}
	if x.User != "" {
		if err := withUser(x.User)(ctx, e.client, &info, spec); err != nil {
			return nil, err
		}
	}
	p := spec.Process
	p.Args, p.Terminal, p.ConsoleSize = x.Args, x.TTY, nil
	p.Env = runtime.MergeEnv(p.Env, x.Env)
	if x.TTY {
		p.ConsoleSize = &specs.Box{Width: uint(x.Size.Cols), Height: uint(x.Size.Rows)}
		p.Env = runtime.MergeEnv([]string{"TERM=xterm"}, p.Env)
	}
	if x.WorkDir != "" {
		p.Cwd = x.WorkDir
	}
	return p, nil
}

// input is the caller's reader; eof is closed when it has ended. No reader is an empty one.
type input struct {
	io.Reader
	eof  chan struct{}
	once sync.Once
}

// Read implements io.Reader.
func (r *input) Read(p []byte) (n int, err error) {
	err = io.EOF
	if r.Reader != nil {
		n, err = r.Reader.Read(p)
	}
	if err != nil {
		r.once.Do(func() { close(r.eof) })
	}
	return n, err
}

// output knows when output was last delivered.
type output struct {
	mu      sync.Mutex
	writing int // calls in progress
	last    time.Time
}

// silent reports whether nothing has come for a time. A slow reader is not silence.
func (o *output) silent(d time.Duration) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.writing == 0 && time.Since(o.last) > d
}

func (o *output) count(n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.writing, o.last = o.writing+n, time.Now()
}

func (o *output) to(w io.Writer) io.Writer {
	if w == nil {
		w = io.Discard
	}
	return counted{w, o}
}

type counted struct {
	io.Writer
	output *output
}

// Write implements io.Writer.
func (c counted) Write(p []byte) (int, error) {
	c.output.count(1)
	defer c.output.count(-1)
	return c.Writer.Write(p)
}

// follow runs a process that was made by Exec to its end, whatever happens to the caller.
func (e *Engine) follow(ctx context.Context, id api.ProcessID, proc client.Process, x *runtime.ExecSpec, in *input, out *output) (int, error) {
	detached := context.WithoutCancel(ctx)
	defer func() {
		if _, err := proc.Delete(detached, client.WithProcessKill); ignoreNotFound(err) != nil {
			e.cfg.Log.Warn("exec not removed", "process", id, "err", err)
		}
	}()
	exit, err := proc.Wait(detached)
	if err != nil {
		return 0, fmt.Errorf("exec in container %s: %w", id, classify(err))
	}
	// Not broken off half-way: a process that nobody knows to run could not be ended.
	starting, started := context.WithTimeout(detached, startTime)
	defer started()
	if err := proc.Start(starting); err != nil {
		return 0, startError(id, err)
	}
	running, stop := context.WithCancel(ctx)
	defer stop()
	go resize(running, proc, x.Streams.Resize)
	go func() {
		select {
		case <-in.eof:
			// One that has ended already needs no end of its input.
			_ = proc.CloseIO(running, client.WithStdinCloser)
		case <-running.Done():
		}
	}()
	select {
	case status := <-exit:
		if err := deliver(ctx, proc.IO(), out); err != nil {
			return 0, err
		}
		code, _, err := status.Result()
		if err != nil {
			return 0, fmt.Errorf("exec in container %s: %w", id, classify(err))
		}
		return int(code), nil
	case <-ctx.Done():
		err := proc.Kill(detached, syscall.SIGKILL)
		if err == nil {
			<-exit
		}
		return 0, errors.Join(context.Cause(ctx), ignoreNotFound(err))
	}
}

// deliver waits until all output has reached the caller. Children that live on may hold it open
// for ever: it ends when it has been silent.
func deliver(ctx context.Context, streams cio.IO, out *output) error {
	done := make(chan struct{})
	go func() {
		streams.Wait()
		close(done)
	}()
	out.count(0)
	tick := time.NewTicker(linger / 10)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return nil
		case <-ctx.Done():
			streams.Cancel()
			return context.Cause(ctx)
		case <-tick.C:
			if out.silent(linger) {
				streams.Cancel()
				return nil
			}
		}
	}
}

package fake

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"slipway/api"
	"slipway/runtime"
	"slipway/runtime/logfmt"
)

// container is one container. Its fields are guarded by Engine.mu, but for the pipes.
type container struct {
	spec     runtime.Spec
	command  runtime.Command
	image    Image
	state    runtime.ContainerState
	pid      int
	exitCode int
	exitedAt time.Time
	oom      bool
	peak     api.Bytes
	proc     *process
	started  time.Time
	done     chan struct{} // closed when the main process has ended
	log      *logfmt.Writer

	attached              bool
	closing               sync.Once
	stdin, stdout, stderr *pipe             // with Spec.Attach
	pipes                 []*pipe           // all of them
	sizes                 chan runtime.Size // with Spec.TTY; newest wins, capacity 1
}

func (c *container) ended() bool {
	return c.state == runtime.ContainerExited || c.state == runtime.ContainerLost
}

// Create makes a container.
func (e *Engine) Create(_ context.Context, s runtime.Spec) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.down != nil {
		return e.down
	}
	info, ok := e.pulled[s.Image]
	image := e.registry[s.Image]
	switch {
	case runtime.CheckID(s.ID) != nil:
		return runtime.CheckID(s.ID)
	case !ok:
		return api.Errorf(api.CodeNotFound, "image %s: not found", s.Image)
	case e.containers[s.ID] != nil:
		return api.Errorf(api.CodeConflict, "container %s exists already", s.ID)
	case image.CreateError != nil:
		return fmt.Errorf("container %s: %w", s.ID, image.CreateError)
	}
	command, err := s.Resolve(info)
	if err != nil {
		return err
	}
	if user, _, _ := strings.Cut(command.User, ":"); s.NonRoot && (user == "root" || strings.Trim(user, "0") == "") {
		return api.Errorf(api.CodeInvalid, "container %s would run as root", s.ID)
	}
	for _, path := range s.Devices {
		if !e.devices[path] {
			return api.Errorf(api.CodeNotFound, "container %s: device %s: not found", s.ID, path)
		}
	}
	c := &container{spec: s, image: image, command: command, state: runtime.ContainerCreated, done: make(chan struct{})}
	if s.Log.Dir != "" {
		c.log, _ = logfmt.NewWriter(s.Log.Dir, int64(s.Log.Max)) // writes as soon as it can
	}
	if s.Attach {
		c.stdin, c.stdout, c.stderr = newPipe(), newPipe(), newPipe()
		c.pipes = []*pipe{c.stdin, c.stdout, c.stderr}
	}
	c.sizes = make(chan runtime.Size, 1)
	c.sizes <- s.Size
	e.containers[s.ID] = c
	return nil
}

// Start runs the main process.
func (e *Engine) Start(_ context.Context, id api.ProcessID) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c, err := e.containerLocked(id)
	switch {
	case err != nil:
		return 0, err
	case c.state != runtime.ContainerCreated:
		return 0, api.Errorf(api.CodeConflict, "container %s is %s already", id, c.state)
	case c.image.StartError != nil:
		return 0, fmt.Errorf("container %s: %w", id, c.image.StartError)
	}
	e.pid++
	c.state, c.pid, c.started = runtime.ContainerRunning, e.pid, time.Now()
	c.proc = newProcess(c.command, streamsOf(c), c.pipes...)
	e.running.Go(func() {
		code := c.proc.run(c.image.Program)
		if c.stdout != nil {
			c.stdout.close()
			c.stderr.close()
		}
		e.mu.Lock()
		attached := c.attached
		e.mu.Unlock()
		if !attached {
			c.closeOutput()
		}
		e.exited(c, code)
	})
	return c.pid, nil
}

// exited records the end of a main process and tells it.
func (e *Engine) exited(c *container, code int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c.state, c.pid, c.exitCode, c.exitedAt = runtime.ContainerExited, 0, code, time.Now()
	close(c.done)
	e.tellLocked(runtime.Event{
		Kind: runtime.EventExit, ID: c.spec.ID, At: c.exitedAt, ExitCode: code,
		OOM: c.oom && code != 0, PeakMemory: c.peak,
	})
}

// Signal sends a signal to the main process.
func (e *Engine) Signal(_ context.Context, id api.ProcessID, sig syscall.Signal) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	c, err := e.containerLocked(id)
	if err != nil {
		return err
	}
	if c.state != runtime.ContainerRunning {
		return api.Errorf(api.CodeNotFound, "container %s has no live process", id)
	}
	c.proc.kill(sig)
	return nil
}

// Remove ends and forgets a container.
func (e *Engine) Remove(ctx context.Context, id api.ProcessID) error {
	e.mu.Lock()
	down := e.down
	e.mu.Unlock()
	if down != nil {
		return down
	}
	c := e.kill(id)
	if c == nil {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.containers[id] == c {
		delete(e.containers, id)
		c.closeOutput()
	}
	return nil
}

// List returns every container.
func (e *Engine) List(context.Context) ([]runtime.Container, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []runtime.Container
	for _, id := range slices.Sorted(maps.Keys(e.containers)) {
		out = append(out, e.containers[id].describe())
	}
	return out, e.down
}

// Inspect returns one container.
func (e *Engine) Inspect(_ context.Context, id api.ProcessID) (runtime.Container, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c, err := e.containerLocked(id)
	if err != nil {
		return runtime.Container{}, err
	}
	return c.describe(), nil
}

// describe says how a container is. The caller holds Engine.mu.
func (c *container) describe() runtime.Container {
	return runtime.Container{
		ID: c.spec.ID, Image: c.spec.Image, Labels: maps.Clone(c.spec.Labels), State: c.state, Pid: c.pid,
		ExitCode: c.exitCode, ExitedAt: c.exitedAt, OOM: c.oom && c.exitCode != 0, PeakMemory: c.peak,
	}
}

// Stats returns plausible numbers: the processor time is the age.
func (e *Engine) Stats(_ context.Context, id api.ProcessID) (runtime.Stats, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c, err := e.containerLocked(id)
	if err != nil {
		return runtime.Stats{}, err
	}
	if c.state != runtime.ContainerRunning {
		return runtime.Stats{}, api.Errorf(api.CodeNotFound, "container %s has no live process", id)
	}
	c.peak = max(c.peak, api.MiB)
	now := time.Now()
	return runtime.Stats{
		At: now, CPU: now.Sub(c.started), Memory: api.MiB, PeakMemory: c.peak,
		MemoryLimit: c.spec.Limits.Memory, Processes: 1,
	}, nil
}

func (e *Engine) containerLocked(id api.ProcessID) (*container, error) {
	c := e.containers[id]
	switch {
	case e.down != nil:
		return nil, e.down
	case c == nil:
		return nil, api.Errorf(api.CodeNotFound, "container %s: not found", id)
	}
	return c, nil
}

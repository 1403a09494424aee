package containerd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	tasks "github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/api/types/task"
	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"

	"slipway/api"
	"slipway/runtime"
)

// undoTime bounds the removal of what a failed Create left.
const undoTime = 20 * time.Second

// The labels that the engine needs beside those of the caller, who never sees them.
const (
	labelOurs  = "slipway.internal/"
	labelImage = labelOurs + "image"
	labelLog   = labelOurs + "log"
)

// Create makes a container with its task, ready to start.
func (e *Engine) Create(ctx context.Context, s runtime.Spec) (err error) {
	if err := runtime.CheckID(s.ID); err != nil {
		return err
	}
	img, d, err := e.image(ctx, s.Image)
	if err != nil {
		return err
	}
	opts, err := e.options(&s, d.info)
	if err != nil {
		return err
	}
	labels := map[string]string{}
	for k, v := range s.Labels {
		labels[k] = v
	}
	labels[labelImage], labels[labelLog] = s.Image, s.Log.Dir
	ct, err := e.client.NewContainer(ctx, string(s.ID),
		client.WithImage(img), client.WithSnapshotter(snapshotter), client.WithNewSnapshot(string(s.ID), img),
		client.WithContainerLabels(labels), client.WithNewSpec(opts...))
	if errdefs.IsAlreadyExists(err) {
		return api.Errorf(api.CodeConflict, "container %s exists already: %w", s.ID, err)
	}
	defer func() {
		if err != nil {
			undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
			defer cancel()
			err = errors.Join(err, e.Remove(undo, s.ID))
		}
	}()
	if err != nil {
		return fmt.Errorf("container %s: %w", s.ID, classify(err))
	}
	if err := e.writeFiles(&s); err != nil {
		return err
	}
	if _, err = ct.NewTask(ctx, e.output(&s)); err != nil {
		return startError(s.ID, err)
	}
	return nil
}

// output connects the task's streams to the log writer, or to pipes that Attach opens.
func (e *Engine) output(s *runtime.Spec) cio.Creator {
	if s.Attach {
		return e.attachable(s)
	}
	if s.Log.Dir == "" {
		return cio.NullIO
	}
	args := map[string]string{"dir": s.Log.Dir}
	if s.Log.Max > 0 {
		args["max"] = strconv.FormatInt(int64(s.Log.Max), 10)
	}
	if s.TTY {
		return cio.TerminalBinaryIO(e.cfg.Sliplog, args)
	}
	return cio.BinaryIO(e.cfg.Sliplog, args)
}

// Start runs the main process.
func (e *Engine) Start(ctx context.Context, id api.ProcessID) (int, error) {
	p, err := e.process(ctx, id)
	if err != nil {
		return 0, err
	}
	if p.Status != task.Status_CREATED {
		return 0, api.Errorf(api.CodeConflict, "container %s is %s already", id, strings.ToLower(p.Status.String()))
	}
	r, err := e.client.TaskService().Start(ctx, &tasks.StartRequest{ContainerID: string(id)})
	if err != nil {
		return 0, startError(id, errgrpc.ToNative(err))
	}
	return int(r.Pid), nil
}

// neverRuns are signs of a container that can never run as it is, in what runc and crun say.
var neverRuns = []string{
	"executable file not found", "no such file or directory", "permission denied", "exec format error", "not a directory", "is a directory", "file exists",
}

// startError says what a user can do about a process that could not be started.
func startError(id api.ProcessID, err error) error {
	text := strings.ToLower(err.Error())
	known := errdefs.IsUnavailable(err) || errdefs.IsNotFound(err) || errors.Is(err, context.Canceled)
	if !known && slices.ContainsFunc(neverRuns, func(sign string) bool { return strings.Contains(text, sign) }) {
		return api.Errorf(api.CodeInvalid, "container %s: the command cannot be run: %w", id, err)
	}
	return fmt.Errorf("container %s: %w", id, classify(err))
}

// Remove kills what runs and removes the container with all it held, but not its log. Calls
// for the same container share one removal.
func (e *Engine) Remove(ctx context.Context, id api.ProcessID) error {
	if err := runtime.CheckID(id); err != nil {
		return err
	}
	_, err := e.removals.Do(ctx, string(id), func(ctx context.Context) (struct{}, error) { return struct{}{}, e.remove(ctx, id) })
	return err
}

func (e *Engine) remove(ctx context.Context, id api.ProcessID) error {
	ct, err := e.client.LoadContainer(ctx, string(id))
	switch {
	case err == nil:
		if err := e.removeTask(ctx, ct); err != nil {
			return fmt.Errorf("remove task of container %s: %w", id, classify(err))
		}
		e.detach(id)
		err = ct.Delete(ctx, client.WithSnapshotCleanup)
	case errdefs.IsNotFound(err):
		if err := e.removeTaskless(ctx, id); err != nil {
			return fmt.Errorf("remove container %s: %w", id, err)
		}
		// What a Create left that was cut off before it had a container.
		err = e.client.SnapshotService(snapshotter).Remove(ctx, string(id))
	}
	if err := ignoreNotFound(err); err != nil {
		return fmt.Errorf("remove container %s: %w", id, classify(err))
	}
	e.mu.Lock()
	delete(e.ooms, id)
	e.mu.Unlock()
	if err := os.RemoveAll(e.dirOf(id)); err != nil {
		return fmt.Errorf("remove files of container %s: %w", id, err)
	}
	return nil
}

// removeTask ends the task of a container. A helper that dies meanwhile breaks the call; the
// daemon then cleans up, which is why there is a second try.
func (e *Engine) removeTask(ctx context.Context, ct client.Container) (err error) {
	for range 2 {
		var t client.Task
		if t, err = ct.Task(ctx, nil); err == nil {
			_, err = t.Delete(ctx, client.WithProcessKill)
		}
		if err == nil || ctx.Err() != nil {
			return err
		}
		if errdefs.IsNotFound(err) {
			return e.removeTaskless(ctx, api.ProcessID(ct.ID()))
		}
	}
	return err
}

// removeTaskless takes what is left of a task that the daemon does not know any more.
func (e *Engine) removeTaskless(ctx context.Context, id api.ProcessID) error {
	if err := e.reapShim(ctx, id); err != nil {
		return err
	}
	if err := e.group(id).remove(ctx); err != nil {
		return err
	}
	if err := os.Remove(e.shimSocket(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("socket of the shim: %w", err)
	}
	return nil
}

// Inspect returns one container.
func (e *Engine) Inspect(ctx context.Context, id api.ProcessID) (runtime.Container, error) {
	ct, err := e.client.ContainerService().Get(ctx, string(id))
	if err != nil {
		return runtime.Container{}, fmt.Errorf("container %s: %w", id, classify(err))
	}
	return e.look(ctx, ct)
}

// List returns every container of the namespace.
func (e *Engine) List(ctx context.Context) ([]runtime.Container, error) {
	list, err := e.client.ContainerService().List(ctx)
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", classify(err))
	}
	r, err := e.client.TaskService().List(ctx, &tasks.ListTasksRequest{})
	if err != nil {
		return nil, fmt.Errorf("list tasks: %w", classify(errgrpc.ToNative(err)))
	}
	processes := map[string]*task.Process{}
	for _, p := range r.Tasks {
		processes[p.ID] = p
	}
	out := make([]runtime.Container, 0, len(list))
	for _, ct := range list {
		if p := processes[ct.ID]; p != nil {
			out = append(out, e.describe(ct, p))
			continue
		}
		// The list leaves out what does not answer in time: only a clear answer counts.
		c, err := e.look(ctx, ct)
		switch {
		case err == nil:
			out = append(out, c)
		case api.CodeOf(err) != api.CodeNotFound: // removed meanwhile
			return nil, err
		}
	}
	slices.SortFunc(out, func(a, b runtime.Container) int { return strings.Compare(string(a.ID), string(b.ID)) })
	return out, nil
}

// look describes a container by what its helper says now. One without a helper is lost, unless
// it was removed meanwhile.
func (e *Engine) look(ctx context.Context, ct containers.Container) (runtime.Container, error) {
	p, err := e.process(ctx, api.ProcessID(ct.ID))
	if api.CodeOf(err) == api.CodeNotFound {
		_, err = e.client.ContainerService().Get(ctx, ct.ID)
		err = classify(err)
	}
	if err != nil {
		return runtime.Container{}, fmt.Errorf("container %s: %w", ct.ID, err)
	}
	return e.describe(ct, p), nil
}

// describe says how a container is. A container without a task was never given one, or lost
// it: its process is gone and nobody saw how.
func (e *Engine) describe(ct containers.Container, p *task.Process) runtime.Container {
	c := runtime.Container{ID: api.ProcessID(ct.ID), Image: ct.Labels[labelImage], Labels: map[string]string{}}
	for k, v := range ct.Labels {
		if !strings.HasPrefix(k, labelOurs) {
			c.Labels[k] = v
		}
	}
	if p == nil {
		c.State, c.ExitCode = runtime.ContainerLost, runtime.ExitLost
		return c
	}
	switch p.Status {
	case task.Status_CREATED:
		c.State = runtime.ContainerCreated
	case task.Status_STOPPED:
		c.State, c.ExitCode, c.ExitedAt = runtime.ContainerExited, int(p.ExitStatus), p.ExitedAt.AsTime()
		c.OOM = e.wasOOM(c.ID, c.ExitCode)
	default:
		c.State, c.Pid = runtime.ContainerRunning, int(p.Pid)
	}
	c.PeakMemory = e.group(c.ID).peak()
	return c
}

// process asks for the main process of a container.
func (e *Engine) process(ctx context.Context, id api.ProcessID) (*task.Process, error) {
	r, err := e.client.TaskService().Get(ctx, &tasks.GetRequest{ContainerID: string(id)})
	if err != nil {
		return nil, fmt.Errorf("container %s: %w", id, classify(errgrpc.ToNative(err)))
	}
	return r.Process, nil
}

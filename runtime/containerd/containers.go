package containerd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/errdefs"

	"slipway/api"
	"slipway/runtime"
)

// undoTime bounds the removal of what a failed Create left.
const undoTime = 20 * time.Second

// The labels that List needs beside those of the caller.
const (
	labelImage = "slipway.internal/image"
	labelLog   = "slipway.internal/log"
	labelTTY   = "slipway.internal/tty"
)

// Create makes a container with its task, ready to start.
func (e *Engine) Create(ctx context.Context, s runtime.Spec) (err error) {
	info, err := e.Image(ctx, s.Image)
	if err != nil {
		return err
	}
	img, err := e.client.GetImage(ctx, s.Image)
	if err != nil {
		return fmt.Errorf("image %s: %w", s.Image, classify(err))
	}
	opts, err := e.options(&s, img, info)
	if err != nil {
		return err
	}
	if err := e.writeFiles(&s); err != nil {
		return err
	}
	labels := map[string]string{labelImage: s.Image, labelLog: s.Log.Dir, labelTTY: strconv.FormatBool(s.TTY)}
	for k, v := range s.Labels {
		labels[k] = v
	}
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
	creator, err := e.output(&s)
	if err != nil {
		return err
	}
	if _, err = ct.NewTask(ctx, creator); err != nil {
		return fmt.Errorf("container %s: %w", s.ID, explain(err))
	}
	return nil
}

// explain names the usual reasons why an image cannot run.
func explain(err error) error {
	err = classify(err)
	if api.CodeOf(err) == api.CodeInternal && errors.Is(err, os.ErrNotExist) {
		return api.Errorf(api.CodeInvalid, "%w", err)
	}
	return err
}

// output connects the task's streams to the log writer, or to pipes that Attach opens.
func (e *Engine) output(s *runtime.Spec) (cio.Creator, error) {
	if s.Attach {
		return e.attachable(s)
	}
	if s.Log.Dir == "" {
		return cio.NullIO, nil
	}
	args := map[string]string{"dir": s.Log.Dir}
	if s.Log.Max > 0 {
		args["max"] = strconv.FormatInt(int64(s.Log.Max), 10)
	}
	if s.TTY {
		return cio.TerminalBinaryIO(e.cfg.Sliplog, args), nil
	}
	return cio.BinaryIO(e.cfg.Sliplog, args), nil
}

// Start runs the main process.
func (e *Engine) Start(ctx context.Context, id api.ProcessID) (int, error) {
	task, err := e.task(ctx, id)
	if err != nil {
		return 0, err
	}
	if err := task.Start(ctx); err != nil {
		return 0, startError(id, err)
	}
	return int(task.Pid()), nil
}

// startError says what a user can do about a process that could not be started.
func startError(id api.ProcessID, err error) error {
	text := err.Error()
	for _, sign := range []string{"executable file not found", "no such file or directory", "permission denied", "exec format error"} {
		if containsFold(text, sign) {
			return api.Errorf(api.CodeInvalid, "container %s: the command cannot be run: %w", id, err)
		}
	}
	return fmt.Errorf("container %s: %w", id, classify(err))
}

// Signal sends a signal to the main process, SIGKILL to all of them.
func (e *Engine) Signal(ctx context.Context, id api.ProcessID, sig syscall.Signal) error {
	task, err := e.task(ctx, id)
	if err != nil {
		return err
	}
	var opts []client.KillOpts
	if sig == syscall.SIGKILL {
		opts = append(opts, client.WithKillAll)
	}
	if err := task.Kill(ctx, sig, opts...); err != nil {
		return fmt.Errorf("signal container %s: %w", id, classify(err))
	}
	return nil
}

// Remove kills what runs and removes the container with all it held, but not its log.
func (e *Engine) Remove(ctx context.Context, id api.ProcessID) error {
	ct, err := e.client.LoadContainer(ctx, string(id))
	if err == nil {
		task, taskErr := ct.Task(ctx, nil)
		if taskErr == nil {
			_, taskErr = task.Delete(ctx, client.WithProcessKill)
		}
		e.detach(id)
		if err := ignoreNotFound(taskErr); err != nil {
			return fmt.Errorf("remove task of container %s: %w", id, classify(err))
		}
		err = ct.Delete(ctx, client.WithSnapshotCleanup)
	}
	if err := ignoreNotFound(err); err != nil {
		return fmt.Errorf("remove container %s: %w", id, classify(err))
	}
	e.mu.Lock()
	delete(e.ooms, id)
	e.mu.Unlock()
	if err := os.RemoveAll(e.files(id)); err != nil {
		return fmt.Errorf("remove files of container %s: %w", id, err)
	}
	return nil
}

// List returns every container of the namespace.
func (e *Engine) List(ctx context.Context) ([]runtime.Container, error) {
	list, err := e.client.Containers(ctx)
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", classify(err))
	}
	out := make([]runtime.Container, 0, len(list))
	for _, ct := range list {
		c, err := e.inspect(ctx, ct)
		if api.CodeOf(err) == api.CodeNotFound {
			continue // removed meanwhile
		}
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b runtime.Container) int {
		if a.ID < b.ID {
			return -1
		}
		return 1
	})
	return out, nil
}

// inspect describes one container. A container without a task was never given one, or lost
// it: its process is gone and nobody saw how.
func (e *Engine) inspect(ctx context.Context, ct client.Container) (runtime.Container, error) {
	id := api.ProcessID(ct.ID())
	labels, err := ct.Labels(ctx)
	if err != nil {
		return runtime.Container{}, fmt.Errorf("container %s: %w", id, classify(err))
	}
	c := runtime.Container{ID: id, Image: labels[labelImage], Labels: labels, State: runtime.ContainerLost, ExitCode: runtime.ExitLost}
	task, err := ct.Task(ctx, nil)
	if errdefs.IsNotFound(err) {
		return c, nil
	}
	if err != nil {
		return c, fmt.Errorf("task of container %s: %w", id, classify(err))
	}
	status, err := task.Status(ctx)
	if errdefs.IsNotFound(err) {
		return c, nil
	}
	if err != nil {
		return c, fmt.Errorf("status of container %s: %w", id, classify(err))
	}
	c.ExitCode = 0
	switch status.Status {
	case client.Created:
		c.State = runtime.ContainerCreated
	case client.Stopped:
		c.State, c.ExitCode, c.ExitedAt = runtime.ContainerExited, int(status.ExitStatus), status.ExitTime
		c.OOM = e.wasOOM(id)
	default:
		c.State, c.Pid = runtime.ContainerRunning, int(task.Pid())
	}
	c.PeakMemory = e.peak(id)
	return c, nil
}

// task loads the task of a container.
func (e *Engine) task(ctx context.Context, id api.ProcessID) (client.Task, error) {
	ct, err := e.client.LoadContainer(ctx, string(id))
	if err != nil {
		return nil, fmt.Errorf("container %s: %w", id, classify(err))
	}
	task, err := ct.Task(ctx, nil)
	if err != nil {
		return nil, fmt.Errorf("task of container %s: %w", id, classify(err))
	}
	return task, nil
}

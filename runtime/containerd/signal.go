package containerd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	tasks "github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/api/types/task"
	"github.com/containerd/errdefs/pkg/errgrpc"

	"slipway/api"
)

// Signal sends a signal to the main process, SIGKILL to all of them.
//
// Only SIGKILL takes the way of the daemon, which starts a runc for it: that finds each process
// of the container. For the main process alone a handle of the kernel does, at no cost.
func (e *Engine) Signal(ctx context.Context, id api.ProcessID, sig syscall.Signal) error {
	p, err := e.process(ctx, id)
	if err != nil {
		return err
	}
	if p.Status == task.Status_CREATED || p.Status == task.Status_STOPPED {
		return api.Errorf(api.CodeNotFound, "container %s has no live process", id)
	}
	if sig != syscall.SIGKILL {
		return signalMain(e.group(id), id, int(p.Pid), sig)
	}
	_, err = e.client.TaskService().Kill(ctx, &tasks.KillRequest{ContainerID: string(id), Signal: uint32(sig), All: true})
	if err != nil {
		return fmt.Errorf("signal container %s: %w", id, classify(errgrpc.ToNative(err)))
	}
	return nil
}

// signalMain sends a signal to a process by a handle (pidfd), and only once it is known to be in
// the group: its number may have passed to another process.
func signalMain(g group, id api.ProcessID, pid int, sig syscall.Signal) error {
	p, err := os.FindProcess(pid)
	if err == nil {
		defer p.Release()
		var member bool
		if member, err = g.holds(pid); err == nil && member {
			err = p.Signal(sig)
		} else if err == nil {
			err = os.ErrProcessDone
		}
	}
	if errors.Is(err, os.ErrProcessDone) || errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
		return api.Errorf(api.CodeNotFound, "container %s has no live process", id)
	}
	if err != nil {
		return fmt.Errorf("signal container %s: %w", id, err)
	}
	return nil
}

// holds reports whether a process is in the group or below it.
func (g group) holds(pid int) (bool, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return false, err
	}
	for line := range bytes.Lines(b) { // 7:memory:/rack/p1
		_, path, _ := bytes.Cut(line, []byte(":/"))
		if path := string(bytes.TrimSpace(path)); path == g.name || strings.HasPrefix(path, g.name+"/") {
			return true, nil
		}
	}
	return false, nil
}

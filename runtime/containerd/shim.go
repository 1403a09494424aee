package containerd

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"slipway/api"
)

// shimWait bounds the wait for a process that was killed to be gone.
const shimWait = 10 * time.Second

// reapShim ends the shim of a container that has no task: a daemon that was killed while it made
// one leaves a shim that it does not count among its tasks afterwards (containerd#10421). It
// notices the end of the shim, and takes away most of what the two had made.
func (e *Engine) reapShim(ctx context.Context, id api.ProcessID) error {
	pid, err := e.shimOf(id)
	if err != nil || pid == 0 {
		return err
	}
	shim, err := os.FindProcess(pid) // a handle: it cannot come to mean another process
	if err != nil {
		return fmt.Errorf("shim of container %s: %w", id, err)
	}
	defer shim.Release()
	if !e.isShim(pid, id) {
		return nil // it has ended meanwhile
	}
	if err := shim.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("end shim of container %s: %w", id, err)
	}
	ctx, cancel := context.WithTimeout(ctx, shimWait)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for e.isShim(pid, id) {
		select {
		case <-ctx.Done():
			return api.Errorf(api.CodeUnavailable, "the shim of container %s does not end", id)
		case <-tick.C:
		}
	}
	return nil
}

// shimSocket is where containerd lets the shim of a container listen. One that was killed leaves
// the file.
func (e *Engine) shimSocket(id api.ProcessID) string {
	name := sha256.Sum256([]byte(filepath.Join(e.cfg.Socket, e.cfg.Namespace, string(id))))
	return fmt.Sprintf("/run/containerd/s/%x", name)
}

// shimOf finds the pid of a container's shim, 0 if there is none.
func (e *Engine) shimOf(id api.ProcessID) (int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return 0, fmt.Errorf("look for the shim of container %s: %w", id, err)
	}
	for _, entry := range entries {
		if pid, err := strconv.Atoi(entry.Name()); err == nil && e.isShim(pid, id) {
			return pid, nil
		}
	}
	return 0, nil
}

// isShim reports whether a process is the shim of a container of ours, by its command line. The
// daemon starts and cleans up with the same program and one more word, "start" or "delete".
func (e *Engine) isShim(pid int, id api.ProcessID) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return false
	}
	args := strings.Split(string(bytes.TrimRight(b, "\x00")), "\x00")
	return strings.HasPrefix(filepath.Base(args[0]), "containerd-shim-") && !slices.Contains([]string{"start", "delete"}, args[len(args)-1]) &&
		valueOf(args, "-namespace") == e.cfg.Namespace && valueOf(args, "-id") == string(id)
}

func valueOf(args []string, flag string) string {
	for i, a := range args[:len(args)-1] {
		if a == flag {
			return args[i+1]
		}
	}
	return ""
}

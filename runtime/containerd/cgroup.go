package containerd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"slipway/api"
)

// dirs lists the directories of the group, one per hierarchy that has it.
func (g group) dirs() []string {
	found, _ := filepath.Glob(filepath.Join(g.root, "*", g.name)) // the pattern is well formed
	if _, err := os.Stat(filepath.Join(g.root, g.name)); err == nil {
		found = append(found, filepath.Join(g.root, g.name))
	}
	return found
}

// daemonTime is what the daemon gets to clean up after a shim that ended, before the engine does
// it: both at once get in each other's way.
const daemonTime = 5 * time.Second

// remove waits until a group that has lost its task is gone, and ends what runs in it when the
// daemon has forgotten it.
func (g group) remove(ctx context.Context) error {
	begin := time.Now()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		dirs := g.dirs()
		if len(dirs) == 0 {
			return nil
		}
		var failed error
		for _, dir := range dirs {
			if time.Since(begin) < daemonTime {
				break
			}
			err := killAll(dir)
			if err == nil {
				err = os.Remove(dir)
			}
			if !errors.Is(err, fs.ErrNotExist) {
				failed = errors.Join(failed, err)
			}
		}
		if failed != nil && time.Since(begin) > daemonTime+shimWait {
			return api.Errorf(api.CodeUnavailable, "control group %s stays: %w", g.name, failed)
		}
		select {
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), failed)
		case <-tick.C: // processes leave a moment after they were killed
		}
	}
}

// killAll kills the processes of a group. One that cannot be held by a handle has ended.
func killAll(dir string) error {
	pids, err := processesOf(dir)
	for _, pid := range pids {
		p, gone := os.FindProcess(pid)
		if gone != nil {
			continue
		}
		// The number may have passed to another before there was a handle.
		if again, _ := processesOf(dir); slices.Contains(again, pid) {
			if failed := p.Kill(); failed != nil && !errors.Is(failed, os.ErrProcessDone) {
				err = errors.Join(err, fmt.Errorf("kill process %d: %w", pid, failed))
			}
		}
		p.Release()
	}
	return err
}

func processesOf(dir string) ([]int, error) {
	b, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []int
	for field := range strings.FieldsSeq(string(b)) {
		if pid, err := strconv.Atoi(field); err == nil {
			out = append(out, pid)
		}
	}
	return out, nil
}

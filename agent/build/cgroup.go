package build

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"slipway/api"
)

const cgroupRoot = "/sys/fs/cgroup"

// busyMax bounds the wait for the last process of a cgroup, busyPause is between two looks.
const (
	busyMax   = 5 * time.Second
	busyPause = 10 * time.Millisecond
)

// cgroupV2 reports whether the machine has only the unified hierarchy.
func cgroupV2() bool {
	var s unix.Statfs_t
	return unix.Statfs(cgroupRoot, &s) == nil && s.Type == unix.CGROUP2_SUPER_MAGIC
}

// makeCgroup makes the parent of all build steps, with its memory limit.
func makeCgroup(name string, memory api.Bytes) error {
	if cgroupV2() {
		// Without the controller in the parent the limit's file does not exist.
		_ = os.WriteFile(filepath.Join(cgroupRoot, "cgroup.subtree_control"), []byte("+memory +pids +cpu"), 0o644)
		dir := filepath.Join(cgroupRoot, name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make cgroup %s: %w", name, err)
		}
		if err := os.WriteFile(filepath.Join(dir, "memory.max"), []byte(strconv.FormatInt(int64(memory), 10)), 0o644); err != nil {
			return fmt.Errorf("limit the memory of cgroup %s: %w", name, err)
		}
		return nil
	}
	dir := filepath.Join(cgroupRoot, "memory", name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make cgroup %s: %w", name, err)
	}
	for file, value := range map[string]string{"memory.use_hierarchy": "1", "memory.limit_in_bytes": strconv.FormatInt(int64(memory), 10)} {
		err := os.WriteFile(filepath.Join(dir, file), []byte(value), 0o644)
		if err != nil && file == "memory.limit_in_bytes" { // hierarchy is always on in newer kernels
			return fmt.Errorf("limit the memory of cgroup %s: %w", name, err)
		}
	}
	return nil
}

// removeCgroup removes a cgroup and those below it from every hierarchy. Their processes must
// have ended.
func removeCgroup(name string) error {
	dirs := []string{filepath.Join(cgroupRoot, name)}
	if !cgroupV2() {
		hierarchies, err := os.ReadDir(cgroupRoot)
		if err != nil {
			return err
		}
		for _, h := range hierarchies {
			if h.IsDir() { // the others are links to hierarchies that are joined
				dirs = append(dirs, filepath.Join(cgroupRoot, h.Name(), name))
			}
		}
	}
	var errs []error
	for _, d := range dirs {
		errs = append(errs, removeCgroupDir(d))
	}
	return errors.Join(errs...)
}

func removeCgroupDir(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeCgroupDir(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	// A process that was killed leaves its cgroup a moment after it has gone from sight.
	for end := time.Now().Add(busyMax); ; time.Sleep(busyPause) {
		err := os.Remove(dir)
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if !errors.Is(err, unix.EBUSY) || time.Now().After(end) {
			return fmt.Errorf("remove cgroup: %w", err)
		}
	}
}

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

// cpuShares is the weight of all builds beside everything else on the machine, which has 1024
// unless told otherwise: apps come first, and what they leave is for builds.
const cpuShares = 256

// setting is a file of a cgroup. Without an optional one a build is slower or greedier, but safe.
type setting struct {
	hierarchy, file, value string
	optional               bool
}

// engineMemory bounds the engine itself: what it reads of a Dockerfile may be made to grow
// without end. What it unpacks and compresses is cache, which gives way.
const engineMemory = 2 * api.GiB

// engineGroup is the cgroup of the engine, beside that of its steps.
func (c *Config) engineGroup() string { return c.Cgroup + "-engine" }

// makeCgroups makes those of engine and steps.
func (c *Config) makeCgroups() error {
	if err := c.removeCgroups(); err != nil {
		return fmt.Errorf("sweep old build steps: %w", err)
	}
	if err := makeCgroup(c.Cgroup, c.Memory, c.Tasks); err != nil {
		return err
	}
	return makeCgroup(c.engineGroup(), engineMemory, TasksDefault)
}

// removeCgroups removes them when their processes have ended.
func (c *Config) removeCgroups() error {
	return errors.Join(removeCgroup(c.Cgroup), removeCgroup(c.engineGroup()))
}

// joinCgroup moves a process into a cgroup.
func joinCgroup(name string, pid int) error {
	hierarchies := []string{"memory", "pids", "cpu"}
	if cgroupV2() {
		hierarchies = []string{""}
	}
	for _, h := range hierarchies {
		file := filepath.Join(cgroupRoot, h, name, "cgroup.procs")
		if err := os.WriteFile(file, []byte(strconv.Itoa(pid)), 0o644); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("limit the build engine: %w", err)
		}
	}
	return nil
}

// makeCgroup makes one with its limits.
func makeCgroup(name string, memory api.Bytes, tasks int) error {
	bytes, limit := strconv.FormatInt(int64(memory), 10), strconv.Itoa(tasks)
	settings := []setting{
		{"memory", "memory.use_hierarchy", "1", true}, // always on in newer kernels
		{"memory", "memory.limit_in_bytes", bytes, false},
		{"pids", "pids.max", limit, false},
		{"cpu", "cpu.shares", strconv.Itoa(cpuShares), true},
	}
	if cgroupV2() {
		// Without the controllers in the parent the files do not exist.
		_ = os.WriteFile(filepath.Join(cgroupRoot, "cgroup.subtree_control"), []byte("+memory +pids +cpu"), 0o644)
		settings = []setting{
			{"", "memory.max", bytes, false},
			{"", "pids.max", limit, false},
			{"", "cpu.weight", strconv.Itoa(cpuShares * 100 / 1024), true},
		}
	}
	for _, s := range settings {
		dir := filepath.Join(cgroupRoot, s.hierarchy, name)
		err := os.MkdirAll(dir, 0o755)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, s.file), []byte(s.value), 0o644)
		}
		if err != nil && !s.optional {
			return fmt.Errorf("limit builds: set %s of cgroup %s: %w", s.file, name, err)
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

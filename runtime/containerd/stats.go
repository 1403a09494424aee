package containerd

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"slipway/api"
	"slipway/runtime"
)

// cgroupRoot is where the kernel shows control groups.
const cgroupRoot = "/sys/fs/cgroup"

// unlimited is what version 1 reports for no limit, rounded down to pages.
const unlimited = 1 << 62

// unified reports whether the machine has the unified hierarchy (version 2).
func unified() bool {
	_, err := os.Stat(filepath.Join(cgroupRoot, "cgroup.controllers"))
	return err == nil
}

// cgroup is the path of a file of a container's group.
func (e *Engine) cgroup(controller string, id api.ProcessID, file string) string {
	if unified() {
		controller = ""
	}
	return filepath.Join(cgroupRoot, controller, e.cfg.Cgroup, string(id), file)
}

func readNumber(path string) int64 {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	if err != nil || n > unlimited {
		return 0
	}
	return n
}

// readField reads "name value" from a file of such lines.
func readField(path, name string) int64 {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			n, _ := strconv.ParseInt(strings.TrimSpace(value), 10, 64)
			return n
		}
	}
	return 0
}

// peak is the most memory that a container has used; 0 once its group is gone.
func (e *Engine) peak(id api.ProcessID) api.Bytes {
	if unified() {
		return api.Bytes(readNumber(e.cgroup("", id, "memory.peak")))
	}
	return api.Bytes(readNumber(e.cgroup("memory", id, "memory.max_usage_in_bytes")))
}

// oomKills counts what the kernel killed in a container for its limit.
func (e *Engine) oomKills(id api.ProcessID) int {
	if unified() {
		return int(readField(e.cgroup("", id, "memory.events"), "oom_kill"))
	}
	return int(readField(e.cgroup("memory", id, "memory.oom_control"), "oom_kill"))
}

func (e *Engine) wasOOM(id api.ProcessID) bool {
	e.mu.Lock()
	seen := e.ooms[id]
	e.mu.Unlock()
	return seen || e.oomKills(id) > 0
}

// Stats returns what a container uses, read from its control group.
func (e *Engine) Stats(ctx context.Context, id api.ProcessID) (runtime.Stats, error) {
	if _, err := e.task(ctx, id); err != nil {
		return runtime.Stats{}, err
	}
	s := runtime.Stats{At: time.Now(), PeakMemory: e.peak(id), OOMKills: e.oomKills(id)}
	if unified() {
		stat := e.cgroup("", id, "cpu.stat")
		s.CPU = time.Duration(readField(stat, "usage_usec")) * time.Microsecond
		s.Throttled = time.Duration(readField(stat, "throttled_usec")) * time.Microsecond
		s.Memory = api.Bytes(readNumber(e.cgroup("", id, "memory.current")) - readField(e.cgroup("", id, "memory.stat"), "inactive_file"))
		s.MemoryLimit = api.Bytes(readNumber(e.cgroup("", id, "memory.max")))
		s.Processes = int(readNumber(e.cgroup("", id, "pids.current")))
		return s, nil
	}
	s.CPU = time.Duration(readNumber(e.cgroup("cpuacct", id, "cpuacct.usage")))
	s.Throttled = time.Duration(readField(e.cgroup("cpu", id, "cpu.stat"), "throttled_time"))
	s.Memory = api.Bytes(readNumber(e.cgroup("memory", id, "memory.usage_in_bytes")) - readField(e.cgroup("memory", id, "memory.stat"), "total_inactive_file"))
	s.MemoryLimit = api.Bytes(readNumber(e.cgroup("memory", id, "memory.limit_in_bytes")))
	s.Processes = int(readNumber(e.cgroup("pids", id, "pids.current")))
	if s.CPU == 0 && s.Memory == 0 {
		return s, api.Errorf(api.CodeNotFound, "%s", fmt.Sprintf("container %s has no control group", id))
	}
	return s, nil
}

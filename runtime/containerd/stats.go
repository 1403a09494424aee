package containerd

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/containerd/api/types/task"

	"slipway/api"
	"slipway/runtime"
)

// cgroupRoot is where the kernel shows control groups.
const cgroupRoot = "/sys/fs/cgroup"

// unlimited is more than any machine has. Version 1 shows no limit as a number near 2^63.
const unlimited = 1 << 62

// group is the control group of a container, in either version of the interface. What cannot be
// read is 0: groups come and go with their containers.
type group struct {
	root    string // cgroupRoot
	name    string // below the root, or below each controller in version 1
	unified bool   // version 2
}

// group returns where a container is accounted.
func (e *Engine) group(id api.ProcessID) group {
	return group{root: cgroupRoot, name: filepath.Join(e.cfg.Cgroup, string(id)), unified: isUnified(cgroupRoot)}
}

// isUnified reports whether the machine has version 2 only. A hybrid one has version 2 in a
// folder of its own, without controllers, and is used as version 1.
func isUnified(root string) bool {
	_, err := os.Stat(filepath.Join(root, "cgroup.controllers"))
	return err == nil
}

// file is the path of a file; controller counts in version 1 only.
func (g group) file(controller, name string) string {
	if g.unified {
		controller = ""
	}
	return filepath.Join(g.root, controller, g.name, name)
}

// number reads a file that holds one; "max" and what stands for it are 0.
func (g group) number(controller, name string) int64 {
	b, err := os.ReadFile(g.file(controller, name))
	if err != nil {
		return 0
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	if err != nil || n > unlimited {
		return 0
	}
	return n
}

// field reads "name value" from a file of such lines.
func (g group) field(controller, name, field string) int64 {
	b, err := os.ReadFile(g.file(controller, name))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if value, ok := strings.CutPrefix(line, field+" "); ok {
			n, _ := strconv.ParseInt(strings.TrimSpace(value), 10, 64)
			return n
		}
	}
	return 0
}

// exists reports whether the kernel still has the group.
func (g group) exists() bool {
	_, err := os.Stat(g.file("memory", "cgroup.procs"))
	return err == nil
}

// usage is what the group holds now, page cache included.
func (g group) usage() int64 {
	if g.unified {
		return g.number("", "memory.current")
	}
	return g.number("memory", "memory.usage_in_bytes")
}

// peak is the most memory that the group has held; where the kernel does not keep it (version
// 2 before Linux 5.19), what it holds now.
func (g group) peak() api.Bytes {
	n := int64(0)
	if g.unified {
		n = g.number("", "memory.peak")
	} else {
		n = g.number("memory", "memory.max_usage_in_bytes")
	}
	return api.Bytes(max(n, g.usage()))
}

// oomKills counts what the kernel killed in the group for its limit.
func (g group) oomKills() int {
	if g.unified {
		return int(g.field("", "memory.events", "oom_kill"))
	}
	return int(g.field("memory", "memory.oom_control", "oom_kill"))
}

// boundsSwap reports whether the kernel accounts swap: where it does not there is no file to
// write a bound to, and runc fails.
func boundsSwap(root string) bool {
	pattern := filepath.Join(root, "memory", "memory.memsw.limit_in_bytes")
	if isUnified(root) {
		pattern = filepath.Join(root, "*", "memory.swap.max") // the root itself has none
	}
	found, _ := filepath.Glob(pattern) // the pattern is well formed
	return len(found) > 0
}

// stats reads what the group uses.
func (g group) stats() runtime.Stats {
	s := runtime.Stats{At: time.Now(), PeakMemory: g.peak(), OOMKills: g.oomKills(), Processes: int(g.number("pids", "pids.current"))}
	if g.unified {
		s.CPU = time.Duration(g.field("", "cpu.stat", "usage_usec")) * time.Microsecond
		s.Throttled = time.Duration(g.field("", "cpu.stat", "throttled_usec")) * time.Microsecond
		s.Memory = api.Bytes(max(0, g.usage()-g.field("", "memory.stat", "inactive_file")))
		s.MemoryLimit = api.Bytes(g.number("", "memory.max"))
		return s
	}
	s.CPU = time.Duration(g.number("cpuacct", "cpuacct.usage"))
	s.Throttled = time.Duration(g.field("cpu", "cpu.stat", "throttled_time"))
	s.Memory = api.Bytes(max(0, g.usage()-g.field("memory", "memory.stat", "total_inactive_file")))
	s.MemoryLimit = api.Bytes(g.number("memory", "memory.limit_in_bytes"))
	return s
}

// wasOOM reports whether a main process that ended with code ended for lack of memory: one that
// ended well outlived the kill of another.
func (e *Engine) wasOOM(id api.ProcessID, code int) bool {
	e.mu.Lock()
	seen := e.ooms[id]
	e.mu.Unlock()
	return code != 0 && (seen || e.group(id).oomKills() > 0)
}

// Stats returns what a container uses, read from its control group.
func (e *Engine) Stats(ctx context.Context, id api.ProcessID) (runtime.Stats, error) {
	p, err := e.process(ctx, id)
	if err != nil {
		return runtime.Stats{}, err
	}
	g := e.group(id)
	if p.Status == task.Status_STOPPED || !g.exists() {
		return runtime.Stats{}, api.Errorf(api.CodeNotFound, "container %s has no live process", id)
	}
	return g.stats(), nil
}

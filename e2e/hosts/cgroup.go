package hosts

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"slipway/api"
)

// cgroupRoot is where the control groups of a machine are mounted.
const cgroupRoot = "/sys/fs/cgroup"

// programs is the group, below that of its host, in which the programs of a host begin: version 2
// wants none beside other groups.
const programs = "programs"

// hierarchy is one mounted tree of control groups: all controllers in version 2, some in version 1.
type hierarchy struct {
	mount   string // where it is mounted
	v2      bool
	options string // of the mount, in version 1: memory, cpu,cpuacct, none,name=systemd
}

// controlGroup is a directory that a process can be started in.
type controlGroup struct {
	dir string
	v2  bool
}

// hierarchies reads what is mounted (proc_pid_mountinfo(5)).
func hierarchies() (out []hierarchy, err error) {
	b, err := os.ReadFile("/proc/thread-self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("hosts: %w", err)
	}
	for line := range strings.Lines(string(b)) {
		mount, super, _ := strings.Cut(line, " - ")
		left, right := strings.Fields(mount), strings.Fields(super)
		if len(left) < 5 || len(right) < 3 || left[4] != cgroupRoot && !strings.HasPrefix(left[4], cgroupRoot+"/") {
			continue
		}
		switch right[0] {
		case "cgroup2":
			out = append(out, hierarchy{mount: left[4], v2: true})
		case "cgroup":
			out = append(out, hierarchy{mount: left[4], options: mountOptions(right[2])})
		}
	}
	return out, nil
}

// mountOptions keeps of a hierarchy's options those that say which one it is.
func mountOptions(super string) string {
	var keep []string
	for option := range strings.SplitSeq(super, ",") {
		switch {
		case strings.HasPrefix(option, "name="):
			return "none," + option
		case option != "rw" && option != "ro" && option != "xattr" && option != "clone_children" && !strings.Contains(option, "="):
			keep = append(keep, option)
		}
	}
	return strings.Join(keep, ",")
}

// cgroup is the group of a host in every hierarchy, from its root.
func (s *state) cgroup(i int) string { return s.rigCgroup() + "/" + s.Hosts[i].Name }

func (s *state) rigCgroup() string { return "/slipway-hosts-" + s.Tag }

// makeCgroup makes the groups of a host, and returns them.
func (s *state) makeCgroup(i int) ([]controlGroup, error) {
	all, err := hierarchies()
	if err != nil {
		return nil, err
	}
	var out []controlGroup
	for _, h := range all {
		rig, host := h.mount+s.rigCgroup(), h.mount+s.cgroup(i)
		for _, dir := range []string{rig, host} {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return nil, fmt.Errorf("hosts: control group: %w", err)
			}
			if err := inheritCPUs(h, dir); err != nil {
				return nil, fmt.Errorf("hosts: control group %s: %w", dir, err)
			}
		}
		if h.v2 {
			if err := delegate(rig); err != nil {
				return nil, err
			}
		}
		out = append(out, controlGroup{dir: host, v2: h.v2})
	}
	return out, nil
}

// inheritCPUs fills in what a new group of version 1 lacks: no process may enter one without.
func inheritCPUs(h hierarchy, dir string) error {
	if h.v2 || !slices.Contains(strings.Split(h.options, ","), "cpuset") {
		return nil
	}
	for _, name := range []string{"cpuset.cpus", "cpuset.mems"} {
		b, err := os.ReadFile(filepath.Join(filepath.Dir(dir), name))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), b, 0o644)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// delegate lets groups below a group of version 2 use the controllers that it has.
func delegate(dir string) error {
	b, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return fmt.Errorf("hosts: control group: %w", err)
	}
	for controller := range strings.FieldsSeq(string(b)) {
		if err := os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+"+controller), 0o644); err != nil {
			return fmt.Errorf("hosts: control group: %w", err)
		}
	}
	return nil
}

// settle moves a host's first process, whose group of version 2 is the root that the host sees,
// to the one of the host's programs.
func settle(groups []controlGroup, pid int) error {
	for _, g := range groups {
		if !g.v2 {
			continue
		}
		if err := os.Mkdir(filepath.Join(g.dir, programs), 0o755); err != nil {
			return fmt.Errorf("hosts: control group: %w", err)
		}
		if err := os.WriteFile(filepath.Join(g.dir, programs, "cgroup.procs"), fmt.Append(nil, pid), 0o644); err != nil {
			return fmt.Errorf("hosts: control group: %w", err)
		}
		if err := delegate(g.dir); err != nil {
			return err
		}
	}
	return nil
}

// programGroups are the groups that programs of a host begin in.
func (s *state) programGroups(i int) ([]controlGroup, error) {
	all, err := hierarchies()
	var out []controlGroup
	for _, h := range all {
		g := controlGroup{dir: h.mount + s.cgroup(i), v2: h.v2}
		if g.v2 {
			g.dir = filepath.Join(g.dir, programs)
		}
		out = append(out, g)
	}
	return out, err
}

// attach moves the calling thread into groups of version 1, which its children inherit. Threads
// cannot be moved so in version 2: it returns the directory to start a child in, or nil.
func attach(groups []controlGroup) (*os.File, error) {
	var dir *os.File
	for _, g := range groups {
		var err error
		if g.v2 {
			dir, err = os.Open(g.dir)
		} else {
			err = os.WriteFile(filepath.Join(g.dir, "tasks"), fmt.Append(nil, unix.Gettid()), 0o644)
		}
		if err != nil {
			if dir != nil {
				dir.Close()
			}
			return nil, fmt.Errorf("hosts: control group: %w", err)
		}
	}
	return dir, nil
}

// freezer stops the processes of a group, or continues them.
type freezer struct {
	mount        string
	write, order string // file, and what to write into it
	read, obeyed string // file, and what it holds when all processes have obeyed
}

// freezerOf chooses, of what is mounted, what works for whole trees: any version 2 does.
func freezerOf(all []hierarchy, frozen bool) (freezer, error) {
	bit, state := "0", "THAWED"
	if frozen {
		bit, state = "1", "FROZEN"
	}
	for _, h := range all {
		if h.v2 {
			return freezer{mount: h.mount, write: "cgroup.freeze", order: bit, read: "cgroup.events", obeyed: "frozen " + bit}, nil
		}
	}
	for _, h := range all {
		if slices.Contains(strings.Split(h.options, ","), "freezer") {
			return freezer{mount: h.mount, write: "freezer.state", order: state, read: "freezer.state", obeyed: state}, nil
		}
	}
	return freezer{}, api.Errorf(api.CodeUnavailable, "hosts: the machine can freeze nothing; mount control groups of version 2, or the freezer of version 1")
}

// do gives the order to a group and returns when it is obeyed.
func (f freezer) do(group string) error {
	dir := f.mount + group
	if err := os.WriteFile(filepath.Join(dir, f.write), []byte(f.order), 0o644); err != nil {
		return fmt.Errorf("hosts: freezer: %w", err)
	}
	return waitFor(func() error {
		b, err := os.ReadFile(filepath.Join(dir, f.read))
		if err == nil && !strings.Contains(string(b), f.obeyed) {
			err = api.Errorf(api.CodeUnavailable, "hosts: freezer: %s of %s says %q, want %q", f.read, dir, b, f.obeyed)
		}
		return err
	})
}

// melt lets processes that the freezer of version 1 holds run, so that they can die; others can
// as they are.
func (s *state) melt(i int) {
	files, _ := filepath.Glob(cgroupRoot + "/*" + s.cgroup(i)) // the pattern is well formed
	for _, dir := range files {
		filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.Name() == "freezer.state" {
				os.WriteFile(path, []byte("THAWED"), 0o644) // one that is going away needs nothing
			}
			return nil
		})
	}
}

// removeHostCgroup removes the groups of a host and all below them.
func (s *state) removeHostCgroup(i int) error { return removeCgroups(s.cgroup(i)) }

// removeCgroup removes the groups of the rig.
func (s *state) removeCgroup() error { return removeCgroups(s.rigCgroup()) }

func removeCgroups(name string) error {
	all, err := hierarchies()
	if err != nil {
		return err
	}
	for _, h := range all {
		if err := waitFor(func() error { return removeTree(h.mount + name) }); err != nil {
			return fmt.Errorf("hosts: control group: %w", err)
		}
	}
	return nil
}

// removeTree removes a group and those below it. A process that has just ended may be in it for
// a moment.
func removeTree(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeTree(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

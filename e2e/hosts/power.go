package hosts

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"slipway/api"
)

// cgroupNamespace is beside the others of a host: it begins at the group in which the process is
// that makes it, and so cannot be made before the process is in its group.
const cgroupNamespace = unix.CLONE_NEWCGROUP

// firstProcess is what a host's first process does. Mounts of the machine appear in the host and
// go away with it, those of the host stay in the host. It leaves no zombies: the kernel reaps
// the children of whoever ignores that they end.
const firstProcess = `exec unshare --cgroup /bin/sh -c '
	mount --make-rslave / && mount -t proc -o nosuid,nodev,noexec proc /proc && echo ready &&
	exec env --ignore-signal=CHLD $PAUSE >/dev/null 2>&1'`

// powerOn boots a host that is off.
func (s *state) powerOn(i int) error {
	h := &s.Hosts[i]
	if h.Pause.alive() {
		return nil
	}
	// What was left by one that nobody has switched off.
	if err := s.powerOff(i); err != nil {
		return err
	}
	if err := s.boot(i); err != nil {
		return errors.Join(fmt.Errorf("hosts: switch on %s: %w", h.Name, err), s.powerOff(i))
	}
	return nil
}

func (s *state) boot(i int) error {
	h := &s.Hosts[i]
	if err := os.MkdirAll(filepath.Join(s.Dir, h.Name), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(s.path(h.Name+".boot_id"), []byte(uuid()+"\n"), 0o444); err != nil {
		return err
	}
	groups, err := s.makeCgroup(i)
	if err != nil {
		return err
	}
	h.Pause, err = s.startPause(h.Name, groups, hostNamespaces, firstProcess)
	if err != nil {
		return err
	}
	if err := s.save(); err != nil {
		return err
	}
	if err := s.release(h.Name, h.Pause); err != nil {
		return err
	}
	if err := settle(groups, h.Pause.PID); err != nil {
		return err
	}
	if err := s.furnish(i); err != nil {
		return err
	}
	if err := s.plug(i); err != nil {
		return err
	}
	return s.applyFaults()
}

// mount is one mount, as mount(2) takes it.
type mount struct {
	source, target, kind string
	flags                uintptr
	options              string
}

// furnish gives a host what it has of its own: host name, /run, boot ID, names of the others,
// and its view of devices and control groups.
func (s *state) furnish(i int) error {
	h := s.Hosts[i]
	const quiet = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	mounts := []mount{
		{source: s.path(h.Name + ".boot_id"), target: "/proc/sys/kernel/random/boot_id", flags: unix.MS_BIND},
		{source: s.path("hosts"), target: "/etc/hosts", flags: unix.MS_BIND},
		{source: "tmpfs", target: "/run", kind: "tmpfs", flags: unix.MS_NOSUID | unix.MS_NODEV, options: "mode=755"},
		{source: "sysfs", target: "/sys", kind: "sysfs", flags: quiet}, // shows the links of its network
	}
	all, err := hierarchies()
	if err != nil {
		return err
	}
	links, err := cgroupLinks()
	if err != nil {
		return err
	}
	if len(all) != 1 || all[0].mount != cgroupRoot {
		mounts = append(mounts, mount{source: "tmpfs", target: cgroupRoot, kind: "tmpfs", flags: quiet, options: "mode=755"})
	}
	for _, c := range all {
		m := mount{source: "cgroup", target: c.mount, kind: "cgroup", flags: quiet, options: c.options}
		if c.v2 {
			m.kind = "cgroup2"
		}
		mounts = append(mounts, m)
	}
	return onThread(func() error {
		if err := enter(h.Pause, hostNamespaces|cgroupNamespace); err != nil {
			return err
		}
		if err := unix.Sethostname([]byte(h.Name)); err != nil {
			return fmt.Errorf("host name: %w", err)
		}
		for _, m := range mounts {
			if err := m.do(); err != nil {
				return err
			}
		}
		for name, target := range links {
			if err := os.Symlink(target, filepath.Join(cgroupRoot, name)); err != nil {
				return err
			}
		}
		return nil
	})
}

func (m mount) do() error {
	if strings.HasPrefix(m.target, cgroupRoot+"/") {
		if err := os.MkdirAll(m.target, 0o755); err != nil {
			return err
		}
	}
	err := unix.Mount(m.source, m.target, m.kind, m.flags, m.options)
	if errors.Is(err, unix.ENOENT) && m.target == "/etc/hosts" {
		return nil // a machine without the file needs none
	}
	if err != nil {
		return fmt.Errorf("mount %s: %w", m.target, err)
	}
	return nil
}

// cgroupLinks reads the second names of hierarchies: cpu → cpu,cpuacct.
func cgroupLinks() (map[string]string, error) {
	entries, err := os.ReadDir(cgroupRoot)
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for _, e := range entries {
		if e.Type() != fs.ModeSymlink {
			continue
		}
		if out[e.Name()], err = os.Readlink(filepath.Join(cgroupRoot, e.Name())); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// powerOff removes a host's processes and link; one that is half there, or not, is no error.
func (s *state) powerOff(i int) error {
	h := &s.Hosts[i]
	h.Frozen = false
	if err := s.silence(i); err != nil {
		return fmt.Errorf("hosts: switch off %s: %w", h.Name, err)
	}
	if err := s.killAll(i); err != nil {
		return err
	}
	if err := s.unplug(i); err != nil {
		return fmt.Errorf("hosts: switch off %s: %w", h.Name, err)
	}
	return s.removeHostCgroup(i)
}

// killAll kills the first process of a host, and the kernel all others with it, whoever their
// parents are. It returns when none runs.
func (s *state) killAll(i int) error {
	h := &s.Hosts[i]
	ns, err := h.Pause.namespace("pid")
	if errors.Is(err, fs.ErrNotExist) {
		h.Pause = pause{}
		return nil
	}
	if err != nil {
		return err
	}
	defer ns.Close() // keeps the number of the namespace from others
	if err := h.Pause.kill(); err != nil {
		return err
	}
	err = waitFor(func() error {
		s.melt(i)
		all, err := members(ns)
		if err != nil {
			return err
		}
		if p, ok := unfinished(all, h.Pause.PID); ok {
			return api.Errorf(api.CodeInternal, "hosts: switch off %s: process %d %q does not end", h.Name, p.PID, p.Args)
		}
		return nil
	})
	if err == nil {
		h.Pause = pause{}
	}
	return err
}

// unfinished finds, of the processes of a host whose first process was killed, one that will
// leave without anybody's help but has not yet. Those that wait for a parent outside are not
// ours to end, and the first process stays for as long as there are such.
func unfinished(all []Process, first int) (Process, bool) {
	inside := map[int]bool{}
	for _, p := range all {
		inside[p.PID] = true
	}
	orphans := 0
	for _, p := range all {
		if p.zombie && !inside[p.parent] {
			orphans++
		} else if p.PID != first {
			return p, true
		}
	}
	for _, p := range all {
		if p.PID == first && orphans == 0 {
			return p, true
		}
	}
	return Process{}, false
}

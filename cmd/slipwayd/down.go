package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"slipway/agent"
	"slipway/api"
	"slipway/runtime/containerd"
)

// runcRoot is where shims let runc keep its records, by namespace, whatever the daemon's own
// directory is.
const runcRoot = "/run/containerd/runc"

func downCommand() *cobra.Command {
	var dir, which string
	cmd := &cobra.Command{
		Use: "down", Short: "Stop everything that dev started; data stays", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := locate(dir)
			if err != nil {
				return err
			}
			return down(cmd.Context(), p, which)
		},
	}
	cmd.Flags().StringVar(&dir, "dir", ".slipway", "data directory")
	cmd.Flags().StringVar(&which, "containerd", containerdAuto, `as given to dev`)
	return cmd
}

// down stops the daemon first, so that nothing is started again, then what outlived it. Each
// part is tried whatever became of the others.
func down(ctx context.Context, p paths, which string) error {
	slipwayd := &daemon{name: "slipwayd", pidFile: p.run("slipwayd.pid")}
	err := slipwayd.stop(ctx, 20*time.Second)
	router := &daemon{name: "router", pidFile: p.run("router.pid")}
	err = errors.Join(err, router.stop(ctx, 5*time.Second))
	err = errors.Join(err, purge(ctx, p, which))
	err = errors.Join(err, agent.Teardown(ctx, p.data("node"), p.run("net")))
	own := containerdDaemon(p, "")
	err = errors.Join(err, own.stop(ctx, 20*time.Second))
	// A shim may have been about to end when its daemon did, and waits for a word of it.
	err = errors.Join(err, killOrphans(ctx, p))
	unmountBelow(p.data("containerd"))
	unmountBelow(p.Run)
	err = errors.Join(err, os.RemoveAll(p.Run), os.RemoveAll(filepath.Join(runcRoot, p.namespace())))
	removeCgroups(p.namespace())
	// Gone only if no other rack uses it.
	_ = os.Remove(runRoot)
	if err != nil {
		return fmt.Errorf("down: %w", err)
	}
	return nil
}

// purge removes the containers; images stay in the daemon's data.
func purge(ctx context.Context, p paths, which string) error {
	socket := p.containerdSocket()
	if which != containerdAuto && which != containerdOwn {
		socket = which
	} else if which == containerdAuto && !answers(ctx, socket) {
		socket = systemSocket
	}
	if !answers(ctx, socket) {
		return killOrphans(ctx, p)
	}
	engine, err := containerd.New(ctx, containerd.Config{Socket: socket, Namespace: p.namespace(), Dir: p.run("containers"), Cgroup: p.namespace()})
	if err != nil {
		return err
	}
	defer engine.Close()
	list, err := engine.List(ctx)
	if err != nil {
		return err
	}
	var failed error
	for _, c := range list {
		failed = errors.Join(failed, engine.Remove(ctx, c.ID))
	}
	return failed
}

// killOrphans ends what outlived the daemon that it belonged to: shims, known by the socket of
// the daemon in their command line, and what runs in the rack's control groups.
func killOrphans(ctx context.Context, p paths) error {
	var failed error
	gone := waitFor(ctx, 10*time.Second, func() bool {
		left := append(shims(p), members(p.namespace())...)
		for _, o := range left {
			if !o.spare {
				failed = errors.Join(failed, o.kill())
			}
		}
		return len(left) == 0
	})
	if !gone {
		return errors.Join(api.Errorf(api.CodeInternal, "processes of containers do not end; see: ps -ef"), failed)
	}
	return failed
}

// orphan is a process to end, as long as it is the one that was found.
type orphan struct {
	pid   int
	still func() bool
	spare bool // ends by itself, and cleans up before it does
}

func (o orphan) kill() error {
	handle, err := os.FindProcess(o.pid) // refers to the process itself, not to its number
	if err != nil {
		return nil
	}
	defer handle.Release()
	if !o.still() {
		return nil
	}
	if err := handle.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return api.Errorf(api.CodeInternal, "end orphaned process %d: %w", o.pid, err)
	}
	return nil
}

// shims lists those of our own containerd.
func shims(p paths) (out []orphan) {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline") // the pattern is well formed
	for _, file := range files {
		ours := func() bool {
			b, err := os.ReadFile(file)
			return err == nil && containsArg(b, p.containerdSocket()) && containsArg(b, p.namespace())
		}
		var pid int
		if _, err := fmt.Sscanf(file, "/proc/%d/cmdline", &pid); err == nil && ours() {
			b, err := os.ReadFile(file)
			out = append(out, orphan{pid, ours, err == nil && containsArg(b, "delete")})
		}
	}
	return out
}

// members lists the processes of the containers of a control group.
func members(group string) (out []orphan) {
	var files []string
	for _, root := range []string{"/sys/fs/cgroup/", "/sys/fs/cgroup/*/"} {
		found, _ := filepath.Glob(root + group + "/*/cgroup.procs") // the pattern is well formed
		files = append(files, found...)
	}
	seen := map[int]bool{}
	for _, file := range files {
		for _, pid := range pids(file) {
			if !seen[pid] {
				seen[pid] = true
				out = append(out, orphan{pid, func() bool { return slices.Contains(pids(file), pid) }, false})
			}
		}
	}
	return out
}

// pids reads a list of processes; a file that is gone has none.
func pids(file string) (out []int) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil
	}
	for _, field := range strings.Fields(string(b)) {
		if pid, err := strconv.Atoi(field); err == nil && pid > 0 {
			out = append(out, pid)
		}
	}
	return out
}

func containsArg(cmdline []byte, arg string) bool {
	for len(cmdline) > 0 {
		end := 0
		for end < len(cmdline) && cmdline[end] != 0 {
			end++
		}
		if string(cmdline[:end]) == arg {
			return true
		}
		cmdline = cmdline[min(len(cmdline), end+1):]
	}
	return false
}

// unmountBelow lets go of every mount below dir, deepest first.
func unmountBelow(dir string) {
	out, err := exec.Command("findmnt", "-rn", "-o", "TARGET").Output()
	if err != nil {
		return
	}
	var targets []string
	for _, line := range splitLines(string(out)) {
		if rel, err := filepath.Rel(dir, line); err == nil && filepath.IsLocal(rel) {
			targets = append(targets, line)
		}
	}
	for i := len(targets) - 1; i >= 0; i-- {
		// What is gone already need not be unmounted.
		_ = unix.Unmount(targets[i], unix.MNT_DETACH)
	}
}

func splitLines(s string) (out []string) {
	for len(s) > 0 {
		i := 0
		for i < len(s) && s[i] != '\n' {
			i++
		}
		out = append(out, s[:i])
		s = s[min(len(s), i+1):]
	}
	return out
}

// removeCgroups removes the control groups whose names begin with that of the rack, in every
// hierarchy: the containers' and those of builds. A process that was killed, as the build engine
// is with its agent, leaves its group a moment later.
func removeCgroups(name string) {
	for end := time.Now().Add(cgroupsMax); !removedCgroups(name) && time.Now().Before(end); {
		time.Sleep(cgroupsPause)
	}
}

const (
	cgroupsMax   = 5 * time.Second
	cgroupsPause = 10 * time.Millisecond
)

// removedCgroups removes those that are empty, and reports whether that were all.
func removedCgroups(name string) bool {
	all := true
	for _, root := range []string{"/sys/fs/cgroup/", "/sys/fs/cgroup/*/"} {
		groups, _ := filepath.Glob(root + name + "*") // the pattern is well formed
		for _, g := range groups {
			sub, _ := filepath.Glob(g + "/*/cgroup.procs")
			for _, s := range sub {
				_ = os.Remove(filepath.Dir(s)) // one that is in use keeps its parent
			}
			if err := os.Remove(g); err != nil && !errors.Is(err, fs.ErrNotExist) {
				all = false
			}
		}
	}
	return all
}

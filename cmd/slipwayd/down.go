package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"slipway/agent"
	"slipway/api"
	"slipway/runtime/containerd"
)

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
	unmountBelow(p.data("containerd"))
	unmountBelow(p.Run)
	err = errors.Join(err, os.RemoveAll(p.Run))
	removeCgroups(p.namespace())
	removeCgroups(p.namespace() + "-build")
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
		return killOrphans(p)
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

// killOrphans ends shims whose daemon is gone: they are known by the socket of the daemon in
// their command line.
func killOrphans(p paths) error {
	entries, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return err
	}
	for _, file := range entries {
		b, err := os.ReadFile(file)
		if err != nil || !containsArg(b, p.containerdSocket()) || !containsArg(b, p.namespace()) {
			continue
		}
		var pid int
		if _, err := fmt.Sscanf(file, "/proc/%d/cmdline", &pid); err != nil {
			continue
		}
		handle, err := os.FindProcess(pid)
		if err != nil {
			continue
		}
		if again, err := os.ReadFile(file); err == nil && string(again) == string(b) {
			if err := handle.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
				return api.Errorf(api.CodeInternal, "end orphaned shim %d: %w", pid, err)
			}
		}
	}
	return nil
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

// removeCgroups removes an empty control group in every hierarchy.
func removeCgroups(name string) {
	groups, _ := filepath.Glob("/sys/fs/cgroup/*/" + name) // the pattern is well formed
	for _, g := range append(groups, "/sys/fs/cgroup/"+name) {
		sub, _ := filepath.Glob(g + "/*/cgroup.procs")
		for _, s := range sub {
			_ = os.Remove(filepath.Dir(s)) // one that is in use stays
		}
		_ = os.Remove(g)
	}
}

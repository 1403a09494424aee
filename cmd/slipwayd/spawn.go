package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"slipway/api"
)

// daemon is a process that outlives the one that started it. Its pid file holds pid and start
// time, so that a pid that was given to somebody else is never mistaken for it. Further lines are
// those that it took over from.
type daemon struct {
	name    string
	pidFile string
	logFile string
	args    []string
	// takesOver: started beside one that runs, it takes its place without a gap, and that one ends
	// when it has nothing left to do.
	takesOver bool
}

// start starts the daemon in a session of its own.
func (d *daemon) start() error {
	log, err := os.OpenFile(d.logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return fmt.Errorf("start %s: %w", d.name, err)
	}
	defer log.Close()
	cmd := exec.Command(d.args[0], d.args[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", d.name, err)
	}
	pid := cmd.Process.Pid
	go cmd.Wait() // reaps it, should it end before this process
	at, err := startTime(pid)
	if err != nil {
		return fmt.Errorf("start %s: it ended at once, see %s: %w", d.name, d.logFile, err)
	}
	before, err := d.read()
	if err != nil {
		return err
	}
	lines := fmt.Appendf(nil, "%d %d\n", pid, at)
	for _, b := range before {
		if b.runs() {
			lines = fmt.Appendf(lines, "%d %d\n", b.pid, b.at)
		}
	}
	if err := os.WriteFile(d.pidFile, lines, 0o600); err != nil {
		return fmt.Errorf("start %s: %w", d.name, err)
	}
	return nil
}

// started is a line of a pid file: a process by its number and when it started.
type started struct {
	pid int
	at  uint64
}

func (s started) runs() bool {
	at, err := startTime(s.pid)
	return err == nil && at == s.at
}

// read reads the pid file, the newest first; what is torn names nobody.
func (d *daemon) read() (list []started, err error) {
	b, err := os.ReadFile(d.pidFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("find %s: %w", d.name, err)
	}
	for line := range strings.Lines(string(b)) {
		var s started
		if _, err := fmt.Sscan(line, &s.pid, &s.at); err == nil {
			list = append(list, s)
		}
	}
	return list, nil
}

// runs reports whether the daemon runs.
func (d *daemon) runs() (bool, error) {
	list, err := d.read()
	return len(list) > 0 && list[0].runs(), err
}

// outdated reports whether the daemon runs another program than this process, though both should
// be the same: one of them was upgraded.
func (d *daemon) outdated() (bool, error) {
	list, err := d.read()
	if err != nil || len(list) == 0 || !list[0].runs() {
		return false, err
	}
	theirs, err := os.Stat(fmt.Sprintf("/proc/%d/exe", list[0].pid))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil // it has just ended
	}
	if err != nil {
		return false, fmt.Errorf("find the program of %s: %w", d.name, err)
	}
	ours, err := os.Stat("/proc/self/exe")
	if err != nil {
		return false, fmt.Errorf("find the program of this process: %w", err)
	}
	return !os.SameFile(theirs, ours), nil
}

// stop ends the daemon, and those that it took over from: SIGTERM, and SIGKILL after grace.
func (d *daemon) stop(ctx context.Context, grace time.Duration) error {
	list, err := d.read()
	if err != nil || len(list) == 0 {
		return err
	}
	var failed error
	for _, s := range list {
		failed = errors.Join(failed, d.end(ctx, s, grace))
	}
	if failed != nil {
		return failed
	}
	return removeFile(d.pidFile)
}

// end ends one process.
func (d *daemon) end(ctx context.Context, s started, grace time.Duration) error {
	p, err := os.FindProcess(s.pid) // refers to the process itself (a pidfd), not to its number
	if err != nil {
		return nil
	}
	defer p.Release()
	if !s.runs() {
		return nil
	}
	for _, sig := range []os.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		if err := p.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return fmt.Errorf("stop %s: %w", d.name, err)
		}
		if waitFor(ctx, grace, func() bool { return !s.runs() }) {
			return nil
		}
	}
	return api.Errorf(api.CodeInternal, "%s (pid %d) does not end", d.name, s.pid)
}

// superviseEvery is how often a daemon is asked whether it is there.
const superviseEvery = 500 * time.Millisecond

// supervise keeps a daemon running, beside this process and not below it, until ctx ends.
func supervise(ctx context.Context, d *daemon, log *slog.Logger) error {
	tick := time.NewTicker(superviseEvery)
	defer tick.Stop()
	if err := d.renew(log); err != nil {
		return err
	}
	for {
		runs, err := d.runs()
		if err != nil {
			return err
		}
		if !runs {
			log.Info("daemon started", "name", d.name)
			if err := d.start(); err != nil {
				log.Error("daemon not started", "name", d.name, "err", err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// renew starts the daemon anew where it runs another version than this process.
func (d *daemon) renew(log *slog.Logger) error {
	if !d.takesOver {
		return nil
	}
	outdated, err := d.outdated()
	if err != nil || !outdated {
		return err
	}
	log.Info("daemon of another version replaced", "name", d.name)
	if err := d.start(); err != nil {
		log.Error("daemon not replaced", "name", d.name, "err", err)
	}
	return nil
}

// waitFor polls until ok, at most for limit.
func waitFor(ctx context.Context, limit time.Duration, ok func() bool) bool {
	deadline := time.Now().Add(limit)
	for !ok() {
		if time.Now().After(deadline) || ctx.Err() != nil {
			return false
		}
		time.Sleep(10 * time.Millisecond)
	}
	return true
}

// startTime reads when a process started, in ticks since boot (proc(5), field 22 of stat). A
// zombie does not count as running.
func startTime(pid int) (uint64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := bytes.Cut(b, []byte(") "))
	fields := strings.Fields(string(rest))
	if len(fields) < 20 || fields[0] == "Z" {
		return 0, fs.ErrNotExist
	}
	return strconv.ParseUint(fields[19], 10, 64)
}

func removeFile(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove %s: %w", path, err)
	}
	return nil
}

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
// time, so that a pid that was given to somebody else is never mistaken for it.
type daemon struct {
	name    string
	pidFile string
	logFile string
	args    []string
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
	if err := os.WriteFile(d.pidFile, fmt.Appendf(nil, "%d %d\n", pid, at), 0o600); err != nil {
		return fmt.Errorf("start %s: %w", d.name, err)
	}
	return nil
}

// find returns a handle on the running daemon, nil if it does not run. The handle refers to
// the process itself (a pidfd), not to its number; the caller releases it.
func (d *daemon) find() (*os.Process, error) {
	b, err := os.ReadFile(d.pidFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("find %s: %w", d.name, err)
	}
	var pid int
	var at uint64
	if _, err := fmt.Sscan(string(b), &pid, &at); err != nil {
		return nil, nil // a torn file names nobody
	}
	p, err := os.FindProcess(pid)
	if err != nil {
		return nil, nil
	}
	if now, err := startTime(pid); err != nil || now != at {
		p.Release()
		return nil, nil
	}
	return p, nil
}

// runs reports whether the daemon runs.
func (d *daemon) runs() (bool, error) {
	p, err := d.find()
	if p != nil {
		p.Release()
	}
	return p != nil, err
}

// stop ends the daemon: SIGTERM, and SIGKILL after grace.
func (d *daemon) stop(ctx context.Context, grace time.Duration) error {
	p, err := d.find()
	if err != nil || p == nil {
		return err
	}
	defer p.Release()
	for _, sig := range []os.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		if err := p.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return fmt.Errorf("stop %s: %w", d.name, err)
		}
		if waitFor(ctx, grace, func() bool { runs, _ := d.runs(); return !runs }) {
			return removeFile(d.pidFile)
		}
	}
	return api.Errorf(api.CodeInternal, "%s (pid %d) does not end", d.name, p.Pid)
}

// superviseEvery is how often a daemon is asked whether it is there.
const superviseEvery = 500 * time.Millisecond

// supervise keeps a daemon running, beside this process and not below it, until ctx ends.
func supervise(ctx context.Context, d *daemon, log *slog.Logger) error {
	tick := time.NewTicker(superviseEvery)
	defer tick.Stop()
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

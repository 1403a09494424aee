package hosts

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"slipway/api"
)

// pause is the process that keeps the namespaces of a host, or of the switch, alive. It does
// nothing. Pid and start time together name it for good: a pid alone passes to others.
type pause struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // in ticks since the machine's boot

	goAhead io.WriteCloser // closing it without a word ends the process; so it does later in a bound rig
	output  io.ReadCloser
}

// startPause starts a pause process in new namespaces. It waits before it does anything, so that
// it ends with this process until release: nobody would know of it if this process were killed
// before it has written down the pid.
func (s *state) startPause(name string, groups []controlGroup, namespaces uintptr, script string) (p pause, err error) {
	waits, goAhead, err := os.Pipe()
	if err != nil {
		return p, fmt.Errorf("hosts: %w", err)
	}
	defer waits.Close()
	output, says, err := os.Pipe()
	if err != nil {
		goAhead.Close()
		return p, fmt.Errorf("hosts: %w", err)
	}
	defer says.Close()
	cmd := exec.Command("/bin/sh", "-c", "read go || exit 1; "+script)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=" + os.Getenv("PATH") + ":/usr/sbin:/usr/bin:/sbin:/bin", "SLIPWAY_RIG=" + s.Dir, "SLIPWAY_HOST=" + name, "PAUSE=sleep infinity"}
	if s.Bound {
		cmd.Env = append(cmd.Env, "PAUSE=cat") // until the other end of the pipe is closed
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = waits, says, says
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Cloneflags: namespaces}
	err = startIn(cmd, groups, pause{}, 0)
	if err == nil {
		go cmd.Wait() // reaps it, should it end before this process
		p = pause{PID: cmd.Process.Pid, goAhead: goAhead, output: output}
		p.Start, err = startTime(p.PID)
	}
	if err != nil {
		goAhead.Close()
		output.Close()
		return pause{}, fmt.Errorf("hosts: start %s: %w", name, err)
	}
	return p, nil
}

// release lets a process go on, and waits until it has made its namespaces ready.
func (s *state) release(name string, p pause) error {
	_, err := p.goAhead.Write([]byte("\n"))
	if s.Bound && err == nil {
		s.leash(name, p.goAhead)
	} else {
		p.goAhead.Close()
	}
	said, again := io.ReadAll(p.output)
	p.output.Close()
	if err := errors.Join(err, again); err != nil {
		return err
	}
	if string(said) != "ready\n" {
		return api.Errorf(api.CodeInternal, "namespaces: %s", strings.TrimSpace(string(said)))
	}
	return nil
}

// open returns a handle on the process (a pidfd); it fails with fs.ErrNotExist where it has ended.
func (p pause) open() (*os.File, error) {
	if p.PID == 0 {
		return nil, fs.ErrNotExist
	}
	fd, err := unix.PidfdOpen(p.PID, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil, fs.ErrNotExist
	}
	if err != nil {
		return nil, fmt.Errorf("hosts: process %d: %w", p.PID, err)
	}
	f := os.NewFile(uintptr(fd), "pidfd")
	if !p.alive() { // asked after the handle was there, so that it is the right one
		f.Close()
		return nil, fs.ErrNotExist
	}
	return f, nil
}

// alive reports whether the process is there, and its namespaces with it.
func (p pause) alive() bool {
	at, err := startTime(p.PID)
	if err != nil || at != p.Start {
		return false
	}
	// The first process of a host stays for as long as others are not reaped, without these.
	_, err = os.Readlink(fmt.Sprintf("/proc/%d/ns/net", p.PID))
	return err == nil
}

// namespace opens one of the process's namespaces: net, pid, …
func (p pause) namespace(kind string) (*os.File, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/ns/%s", p.PID, kind))
	if err != nil {
		return nil, fmt.Errorf("hosts: %w", err)
	}
	if !p.alive() {
		f.Close()
		return nil, fmt.Errorf("hosts: namespace %s of process %d: %w", kind, p.PID, fs.ErrNotExist)
	}
	return f, nil
}

// kill sends SIGKILL. A process that has ended is no error.
func (p pause) kill() error {
	handle, err := p.open()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer handle.Close()
	if err := unix.PidfdSendSignal(int(handle.Fd()), unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("hosts: kill process %d: %w", p.PID, err)
	}
	return nil
}

// wait waits until the process and its namespaces are gone.
func (p pause) wait() error {
	return waitFor(func() error {
		if p.alive() {
			return api.Errorf(api.CodeInternal, "hosts: process %d does not end", p.PID)
		}
		return nil
	})
}

// stat reads state, parent and start time of a process (proc(5), fields 3, 4 and 22 of stat).
func stat(pid int) (condition byte, parent int, start uint64, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, 0, err
	}
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(fields) < 20 {
		return 0, 0, 0, fs.ErrNotExist
	}
	parent, err = strconv.Atoi(fields[1])
	if err == nil {
		start, err = strconv.ParseUint(fields[19], 10, 64)
	}
	return fields[0][0], parent, start, err
}

// startTime reads when a process started. A zombie does not count as running.
func startTime(pid int) (uint64, error) {
	condition, _, start, err := stat(pid)
	if err == nil && condition == 'Z' {
		err = fs.ErrNotExist
	}
	return start, err
}

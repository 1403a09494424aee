package hosts

import (
	"fmt"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// hostNamespaces are those that a host has of its own.
const hostNamespaces = unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWPID

// onThread runs f on a thread that ends with it, so that f may move the thread to other
// namespaces and control groups. What f starts begins its life where the thread is: no helper
// stands between this program and the one that it starts.
//
// The main thread cannot end, and /proc/self is what it is: f never gets that one.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked, but for the main thread
		if unix.Gettid() == unix.Getpid() {
			done <- onThread(f)
			runtime.UnlockOSThread()
			return
		}
		done <- f()
	}()
	return <-done
}

// enter moves the calling thread into namespaces of a process; with a mount namespace comes the
// root directory of that.
func enter(p pause, namespaces int) error {
	handle, err := p.open()
	if err != nil {
		return err
	}
	defer handle.Close()
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("hosts: prepare to enter namespaces: %w", err)
	}
	if err := unix.Setns(int(handle.Fd()), namespaces); err != nil {
		return fmt.Errorf("hosts: enter namespaces of process %d: %w", p.PID, err)
	}
	return nil
}

// startIn starts a command in control groups and in namespaces of a process; where the process is
// the zero value, in those of this program.
func startIn(cmd *exec.Cmd, groups []controlGroup, p pause, namespaces int) error {
	return onThread(func() error {
		dir, err := attach(groups)
		if err != nil {
			return err
		}
		if dir != nil {
			defer dir.Close()
			attr := syscall.SysProcAttr{}
			if cmd.SysProcAttr != nil {
				attr = *cmd.SysProcAttr
			}
			attr.UseCgroupFD, attr.CgroupFD = true, int(dir.Fd())
			cmd.SysProcAttr = &attr
		}
		if p.PID != 0 {
			if err := enter(p, namespaces); err != nil {
				return err
			}
		}
		return cmd.Start()
	})
}

// waitMax is how long anything of a rig may take to be made or to end.
const waitMax = 20 * time.Second

// waitFor polls until there is no error; after waitMax it returns the last one.
func waitFor(look func() error) error {
	deadline := time.Now().Add(waitMax)
	for {
		err := look()
		if err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(2 * time.Millisecond)
	}
}

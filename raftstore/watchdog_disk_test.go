package raftstore

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"slipway/api"
	"slipway/raftstore/state"
)

// smallDisk mounts a file system of 64 MiB.
func smallDisk(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can mount a small disk")
	}
	dir := t.TempDir()
	if err := syscall.Mount("slipway-test", dir, "tmpfs", 0, "size=64m"); err != nil {
		t.Skipf("mount a small disk: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// ballast takes all room of a disk with one file and returns its path.
func ballast(t *testing.T, dir string) (path string) {
	t.Helper()
	path = filepath.Join(dir, "ballast")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 64<<10)
	for len(b) > 0 {
		if _, err := f.Write(b); errors.Is(err, syscall.ENOSPC) {
			b = b[:len(b)/2]
		} else if err != nil {
			t.Fatal(err)
		}
	}
	return path
}

// TestAFullFileSystem fills a real file system below a server that others write to. What adds to
// the rack is refused in time, what helps goes on from the reserve, and when there is room again
// everything goes on, with no restart.
func TestAFullFileSystem(t *testing.T) {
	disk := smallDisk(t)
	s, err := Open(Config{Dir: filepath.Join(disk, "raft"), ID: "s1", Addr: "127.0.0.1:0", Bootstrap: true, Tune: fast})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	wait(t, "leadership", s.IsLeader)
	app := func(name string) error {
		e := createApp(name)
		e.Actor = strings.Repeat("a", 64<<10) // soon more than the journal has room for
		r, err := s.Propose(t.Context(), e)
		if err != nil {
			return err
		}
		return errOrNil(r.Err)
	}
	if err := app("a0"); err != nil {
		t.Fatal(err)
	}
	heavy := ballast(t, disk)
	stored := 0
	for err == nil && stored < 1000 {
		if err = app("b" + strings.Repeat("x", stored%50) + string(rune('a'+stored/50))); err == nil {
			stored++
		}
	}
	if api.CodeOf(err) != api.CodeExhausted || !strings.Contains(err.Error(), "free space") {
		t.Fatalf("after %d changes: %v", stored, err)
	}
	for i := range 200 { // stops, deletions: what makes room
		r, err := s.Propose(t.Context(), state.Entry{At: time.Unix(1, 0), Command: state.LockApp{App: "a0", Locked: i%2 == 0}})
		if err != nil || r.Err != nil {
			t.Fatalf("change %d from the reserve: %v, %v", i, err, r.Err)
		}
	}
	if err := os.Remove(heavy); err != nil {
		t.Fatal(err)
	}
	wait(t, "a change with room again", func() bool { return app("c") == nil })
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := Open(Config{Dir: filepath.Join(disk, "raft"), ID: "s1", Addr: "127.0.0.1:0", Tune: fast})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	wait(t, "everything after a restart", func() bool { return len(apps(again)) == stored+2 })
}

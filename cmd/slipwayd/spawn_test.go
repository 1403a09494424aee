package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// asDaemon is set where this test is the daemon.
const asDaemon = "SLIPWAY_TEST_AS_DAEMON"

// TestAsDaemon is the program of a daemon that is of the version of the test.
func TestAsDaemon(t *testing.T) {
	if os.Getenv(asDaemon) == "" {
		t.Skip("for other tests")
	}
	time.Sleep(time.Minute) // it runs until it is stopped
}

// TestDaemonOfAnotherVersionIsReplaced: what runs another program than its supervisor gets a
// successor once, and ends by itself; what runs the same program is left alone.
func TestDaemonOfAnotherVersionIsReplaced(t *testing.T) {
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Skip("needs sleep")
	}
	t.Setenv(asDaemon, "1")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	old := &daemon{name: "router", pidFile: filepath.Join(dir, "pid"), logFile: filepath.Join(dir, "log"), args: []string{sleep, "60"}}
	if err := old.start(); err != nil {
		t.Fatal(err)
	}
	next := *old
	next.args, next.takesOver = []string{self, "-test.run", "^TestAsDaemon$"}, true
	t.Cleanup(func() {
		if err := next.stop(context.Background(), limit); err != nil {
			t.Error(err)
		}
	})
	first := pidsOf(t, old)
	stays := *old
	once(t, &stays)
	if got := pidsOf(t, old); fmt.Sprint(got) != fmt.Sprint(first) {
		t.Fatalf("what cannot take over was replaced: %v, %v before", got, first)
	}
	once(t, &next)
	second := pidsOf(t, &next)
	if len(second) != 2 || second[1] != first[0] {
		t.Fatalf("%v is running, want a successor and %v", second, first)
	}
	once(t, &next)
	if got := pidsOf(t, &next); fmt.Sprint(got) != fmt.Sprint(second) {
		t.Fatalf("%v is running, want %v still", got, second)
	}
	if err := next.stop(t.Context(), limit); err != nil {
		t.Fatal(err)
	}
	if got := pidsOf(t, &next); len(got) != 0 {
		t.Errorf("%v is running after it was stopped", got)
	}
}

// once supervises for one round.
func once(t *testing.T, d *daemon) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := supervise(ctx, d, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
}

// pidsOf lists what runs of a daemon.
func pidsOf(t *testing.T, d *daemon) (pids []int) {
	t.Helper()
	list, err := d.read()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range list {
		if s.runs() {
			pids = append(pids, s.pid)
		}
	}
	return pids
}

package containerd

import (
	"os/exec"
	"syscall"
	"testing"
	"time"

	"slipway/api"
)

// A number that has passed to a process outside the container gets no signal.
func TestSignalOnlyToMembers(t *testing.T) {
	other := exec.Command("sleep", "60")
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- other.Wait() }()
	g := group{root: cgroupRoot, name: "rack-of-nobody/p1"}
	if err := signalMain(g, "p1", other.Process.Pid, syscall.SIGTERM); api.CodeOf(err) != api.CodeNotFound {
		t.Errorf("signal to a process of no container: %v, want not found", err)
	}
	select {
	case err := <-ended:
		t.Fatalf("the process of nobody ended: %v", err)
	case <-time.After(50 * time.Millisecond): // nothing is to happen
	}
	other.Process.Kill()
	<-ended
	if err := signalMain(g, "p1", other.Process.Pid, syscall.SIGTERM); api.CodeOf(err) != api.CodeNotFound {
		t.Errorf("signal to a process that has ended: %v, want not found", err)
	}
}

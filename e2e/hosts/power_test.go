package hosts

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"slipway/api"
)

const bootIDFile = "/proc/sys/kernel/random/boot_id"

func TestPowerOff(t *testing.T) {
	r := newRig(t, 2)
	h, other := r.Host(1), r.Host(0)
	bystander := exec.CommandContext(t.Context(), "sleep", "1000")
	must(t, bystander.Start())
	defer func() {
		bystander.Process.Kill()
		bystander.Wait()
	}()
	_, _, _, otherAddr := server(t, other)
	srv, _, _, addr := server(t, h)
	c := dial(t, other, addr)
	// An orphan in a session of its own, a container's way of hiding, and a frozen process.
	output(t, h, "sh", "-c", `set -e
		setsid sleep 1001 >/dev/null 2>&1 &
		setsid unshare --pid --fork --mount --net --uts sleep 1002 >/dev/null 2>&1 &
		sleep 1003 >/dev/null 2>&1 & pid=$!
		until [ $(pgrep -c -x sleep) = 3 ]; do :; done
		if [ -d /sys/fs/cgroup/freezer ]; then
			mkdir /sys/fs/cgroup/freezer/ice
			echo $pid >/sys/fs/cgroup/freezer/ice/cgroup.procs
			echo FROZEN >/sys/fs/cgroup/freezer/ice/freezer.state
		fi`)
	all, err := h.Processes()
	if err != nil || len(all) != 5 { // and unshare and the server
		t.Errorf("before: %+v, %v", all, err)
	}
	boot := output(t, h, "cat", bootIDFile)
	output(t, h, "sh", "-c", "echo 1 >/run/gone; echo 1 >"+filepath.Join(h.Dir(), "kept"))

	must(t, h.PowerOff())
	must(t, h.PowerOff()) // it is off
	if h.On() || !other.On() {
		t.Error("the wrong host is off")
	}
	for _, p := range all {
		if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.PID)); err == nil && len(b) > 0 {
			t.Errorf("process %d %q lives on", p.PID, p.Args)
		}
	}
	if err := srv.Wait(); err == nil || srv.ProcessState.String() != "signal: killed" {
		t.Errorf("the server: %v", err)
	}
	if err := bystander.Process.Signal(nil); errors.Is(err, os.ErrProcessDone) {
		t.Error("a process outside of the hosts has ended")
	}
	dial(t, other, otherAddr)
	c.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	if n, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a peer hears of the power failure: %d bytes, %v", n, err)
	}
	if err := h.Command(t.Context(), "true").Run(); api.CodeOf(err) != api.CodeConflict {
		t.Errorf("a command in a host that is off: %v", err)
	}

	must(t, h.PowerOn())
	must(t, h.PowerOn()) // it is on
	if all, err := h.Processes(); err != nil || len(all) != 0 {
		t.Errorf("after the boot: %+v, %v", all, err)
	}
	if again, machine := output(t, h, "cat", bootIDFile), output(t, other, "cat", bootIDFile); again == boot || again == machine || len(again) != 36 {
		t.Errorf("boot ID %q, before %q, of another host %q", again, boot, machine)
	}
	if out := output(t, h, "sh", "-c", "hostname; ls /run; ls "+h.Dir()+"; ls /sys/fs/cgroup/freezer | grep ice || true"); out != "h1\nkept" {
		t.Errorf("the host has %q", out)
	}
	_, _, _, addr = server(t, h)
	if !strings.HasPrefix(addr, h.Addr().String()) {
		t.Errorf("it is at %s, before %s", addr, h.Addr())
	}
	dial(t, other, addr)
}

// A host that is cut off stays so when it boots.
func TestFaultsOutliveThePower(t *testing.T) {
	r := newRig(t, 3)
	must(t, r.Cut(1))
	must(t, r.Partition([]int{2}, []int{0, 1}))
	for _, i := range []int{1, 2} {
		must(t, r.Host(i).PowerOff())
		must(t, r.Host(i).PowerOn())
	}
	air := radios(t, r)
	air[0].deafTo(air[1], "cut")
	air[0].deafTo(air[2], "parted")
	must(t, r.HealAll())
	air[0].hears(air[1], "healed")
	air[0].hears(air[2], "healed")
}

// After a power failure of the whole machine there is only what the rig wrote down.
func TestMachineFailure(t *testing.T) {
	r := newRig(t, 2)
	_, err := r.Uplink()
	must(t, err)
	must(t, os.WriteFile(filepath.Join(r.Host(0).Dir(), "kept"), nil, 0o644))
	s, err := load(r.dir)
	must(t, err)
	for _, p := range []pause{s.Switch, s.Hosts[0].Pause, s.Hosts[1].Pause} {
		must(t, p.kill())
		must(t, p.wait())
	}
	if _, err := New(Config{Dir: r.dir, Hosts: 245}); api.CodeOf(err) != api.CodeInvalid {
		t.Errorf("too many hosts: %v", err)
	}
	again, err := New(Config{Dir: r.dir, Hosts: 3})
	must(t, err)
	air := radios(t, again)
	air[0].hears(air[2], "again")
	if out := output(t, again.Host(0), "ls", again.Host(0).Dir()); out != "kept" {
		t.Errorf("the disk has %q", out)
	}
	if _, err := again.Uplink(); err != nil {
		t.Error(err)
	}
}

// Whoever kills a host's first process has switched it off, whatever the rig knows of it.
func TestPowerFailureUnasked(t *testing.T) {
	r := newRig(t, 2)
	s, err := load(r.dir)
	must(t, err)
	first, err := os.FindProcess(s.Hosts[0].Pause.PID)
	must(t, err)
	_, _, _, addr := server(t, r.Host(0))
	must(t, first.Kill())
	must(t, waitFor(func() error {
		if r.Host(0).On() {
			return errors.New("it is on")
		}
		return nil
	}))
	if err := r.Host(0).Command(t.Context(), "true").Run(); api.CodeOf(err) != api.CodeConflict {
		t.Errorf("a command in a host that is off: %v", err)
	}
	must(t, r.Host(0).PowerOn())
	_, _, _, addr = server(t, r.Host(0))
	dial(t, r.Host(1), addr)
}

func TestFreeze(t *testing.T) {
	r := newRig(t, 2)
	h, other := r.Host(1), r.Host(0)
	_, _, _, otherAddr := server(t, other)
	_, _, _, addr := server(t, h)
	c := dial(t, other, addr)
	must(t, h.Freeze())
	c.SetDeadline(time.Now().Add(100 * time.Millisecond))
	if _, err := c.Write([]byte("late")); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a frozen host answers: %d bytes, %v", n, err)
	}
	dial(t, other, otherAddr)
	if err := h.Command(t.Context(), "true").Run(); api.CodeOf(err) != api.CodeConflict {
		t.Errorf("a command in a frozen host: %v", err)
	}
	must(t, h.Thaw())
	c.SetDeadline(time.Now().Add(10 * time.Second))
	b := make([]byte, 4)
	if _, err := io.ReadFull(c, b); err != nil || string(b) != "late" {
		t.Errorf("after the thaw: %q, %v", b, err)
	}
	must(t, h.Freeze())
	must(t, h.PowerOff())
	if err := h.Freeze(); api.CodeOf(err) != api.CodeConflict {
		t.Errorf("freeze a host that is off: %v", err)
	}
	must(t, h.PowerOn())
	_, _, _, addr = server(t, h)
	dial(t, other, addr)
}

// Where there is no version 2 of control groups the freezer of version 1 does the same.
func TestOldFreezer(t *testing.T) {
	if _, err := freezerOf(nil, true); api.CodeOf(err) != api.CodeUnavailable {
		t.Errorf("a freezer of nothing: %v", err)
	}
	old := []hierarchy{{mount: cgroupRoot + "/freezer", options: "freezer"}}
	if _, err := os.Stat(old[0].mount); err != nil {
		t.Skip("needs the freezer of version 1")
	}
	r := newRig(t, 1)
	srv, _, _, _ := server(t, r.Host(0))
	for _, frozen := range []bool{true, false, true} {
		f, err := freezerOf(old, frozen)
		must(t, err)
		must(t, f.do(r.Host(0).Cgroup()))
		condition, _, _, err := stat(srv.Process.Pid)
		if err != nil || (condition == 'D') != frozen {
			t.Errorf("frozen %v, but it is %c, %v", frozen, condition, err)
		}
	}
	must(t, r.Host(0).PowerOff())
}

func TestAllOffAllOn(t *testing.T) {
	r := newRig(t, 3)
	for range 3 {
		for _, h := range r.Hosts() {
			must(t, h.PowerOff())
		}
		for _, h := range r.Hosts() {
			must(t, h.PowerOn())
		}
	}
	air := radios(t, r)
	air[0].hears(air[1], "on")
	air[1].hears(air[2], "on")
}

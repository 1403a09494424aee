package hosts

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"slipway/api"
)

// The story: three hosts, a program in one of them, others that talk to it.
func TestHostsAreMachines(t *testing.T) {
	r := newRig(t, 3)
	cmd, name, inner, addr := server(t, r.Host(1))
	if name != "h1" || r.Host(1).Name() != name {
		t.Errorf("the host calls itself %q", name)
	}
	for _, i := range []int{0, 1, 2} {
		dial(t, r.Host(i), addr)
	}
	if _, err := net.Dial("tcp", addr); err == nil {
		t.Error("the machine reaches a host without an uplink")
	}
	// Its pid is that of the program itself, inside and outside.
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
	if err != nil || !strings.Contains(string(status), fmt.Sprintf("NSpid:\t%d\t%d\n", cmd.Process.Pid, inner)) {
		t.Errorf("pid %d, %d inside: %v\n%s", cmd.Process.Pid, inner, err, status)
	}
	all, err := r.Host(1).Processes()
	if err != nil || len(all) != 1 || all[0].PID != cmd.Process.Pid || all[0].Args[1] != r.Host(1).Addr().String()+":0" {
		t.Errorf("processes %+v, %v", all, err)
	}
	cmd.Process.Kill()
	cmd.Wait()
	if all, err := r.Host(1).Processes(); err != nil || len(all) != 0 {
		t.Errorf("processes after the kill: %+v, %v", all, err)
	}
}

func TestWhatAHostSees(t *testing.T) {
	r := newRig(t, 2)
	h := r.Host(0)
	if dir := output(t, h, "pwd"); !filepath.IsAbs(dir) || filepath.Base(dir) != "hosts" {
		t.Errorf("a command runs in %s", dir)
	}
	c := h.Command(t.Context(), "pwd")
	c.Dir = h.Dir()
	if out, err := c.Output(); err != nil || strings.TrimSpace(string(out)) != h.Dir() {
		t.Errorf("with a directory, a command runs in %q, %v", out, err)
	}
	for what, want := range map[string]string{
		"ls /run":                     "",
		"ls /sys/class/net":           "eth0\nlo",
		"cat /proc/1/comm":            "cat",
		"hostname -I || true":         h.Addr().String(),
		"getent hosts h1 | tr -s ' '": r.Host(1).Addr().String() + " h1",
		"grep -v ':/$\\|:/programs$' /proc/self/cgroup || true": "",
	} {
		if got := strings.TrimSpace(output(t, h, "sh", "-c", what)); got != want {
			t.Errorf("%s prints %q, want %q", what, got, want)
		}
	}
	// What it makes stays within it.
	output(t, h, "sh", "-c", "echo 1 >/run/mine; mount -t tmpfs mine /mnt; ip link add mine type bridge; for d in /sys/fs/cgroup/*/; do mkdir $d/mine; done")
	if out := output(t, r.Host(1), "sh", "-c", "ls /run; grep ^mine /proc/self/mounts; ip -br link show type bridge; ls -d /sys/fs/cgroup/*/mine 2>/dev/null || true"); out != "" {
		t.Errorf("the other host sees %s", out)
	}
	if found, _ := filepath.Glob(cgroupRoot + "/*" + h.Cgroup() + "/mine"); len(found) == 0 {
		t.Errorf("no control group below %s", h.Cgroup())
	}
	if _, err := os.Stat("/run/mine"); err == nil {
		t.Error("the machine has got a file in /run")
	}
	// An orphan that ends leaves no zombie: whoever adopts it, the host's first process, reaps it.
	output(t, h, "sh", "-c", `
		orphan=$(sh -c 'sleep 0.01 >/dev/null 2>&1 & echo $!')
		while [ -e /proc/$orphan ]; do :; done`)
}

func TestCommandsFailAsOthersDo(t *testing.T) {
	r := newRig(t, 1)
	h := r.Host(0)
	if err := h.Command(t.Context(), "no-such-program").Run(); !errors.Is(err, exec.ErrNotFound) {
		t.Errorf("a program that is not there: %v", err)
	}
	out, err := h.Command(t.Context(), "sh", "-c", "echo out; echo err >&2; exit 7").Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 7 || string(exit.Stderr) != "err\n" || string(out) != "out\n" {
		t.Errorf("exit code 7: %q, %v", out, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	c := h.Command(ctx, "sleep", "1000")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := c.Wait(); !errors.Is(err, context.Canceled) && c.ProcessState.String() != "signal: killed" {
		t.Errorf("a cancelled command: %v", err)
	}
	c = h.Command(t.Context(), "true")
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := c.Run(); api.CodeOf(err) != api.CodeInvalid {
		t.Errorf("a Pdeathsig: %v", err)
	}
	c = h.Command(t.Context(), "sh", "-c", "ps -o pid=,pgid= -p $$")
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	b, err := c.CombinedOutput()
	if f := strings.Fields(string(b)); err != nil || len(f) != 2 || f[0] != f[1] {
		t.Errorf("a process group of its own: %q, %v", b, err)
	}
}

// Many at once, from many goroutines: the program itself must not end up in a host.
func TestManyCommandsAtOnce(t *testing.T) {
	r := newRig(t, 3)
	before := own(t)
	var g errgroup.Group
	for n := range 200 {
		h := r.Host(n % 3)
		g.Go(func() error {
			out, err := h.Command(t.Context(), "cat", "/proc/sys/kernel/hostname").CombinedOutput()
			if err != nil || strings.TrimSpace(string(out)) != h.Name() {
				return fmt.Errorf("%s: %q, %w", h.Name(), out, err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
	if after := own(t); after != before {
		t.Errorf("this program was in\n%sand is in\n%s", before, after)
	}
}

// The main thread never ends: it would stay where it was sent.
func TestOnThread(t *testing.T) {
	const n = 100
	var entered, done sync.WaitGroup
	entered.Add(n)
	for range n {
		done.Go(func() {
			onThread(func() error {
				if unix.Gettid() == unix.Getpid() {
					t.Error("the main thread is taken")
				}
				entered.Done()
				entered.Wait() // all threads are taken now
				return nil
			})
		})
	}
	done.Wait()
}

func TestUplink(t *testing.T) {
	r := newRig(t, 2)
	addr, err := r.Uplink()
	if err != nil {
		t.Fatal(err)
	}
	if again, err := r.Uplink(); again != addr || err != nil {
		t.Errorf("the second uplink has %s, %v, the first %s", again, err, addr)
	}
	_, _, _, server0 := server(t, r.Host(0))
	dial(t, nil, server0)
	l, err := net.Listen("tcp", addr.String()+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := inHost(t, r.Host(1), func() (net.Conn, error) { return net.Dial("tcp", l.Addr().String()) })
	c.Close()
	if err := r.Partition([]int{0}, []int{1}); err != nil {
		t.Fatal(err)
	}
	dial(t, nil, server0)
	if err := r.HealAll(); err != nil {
		t.Fatal(err)
	}
}

func TestTwoRigsDoNotMeet(t *testing.T) {
	a, b := newRig(t, 2), newRig(t, 2)
	for _, r := range []*Rig{a, b} {
		if _, err := r.Uplink(); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Cut(0); err != nil {
		t.Fatal(err)
	}
	_, _, _, addr := server(t, b.Host(0))
	dial(t, b.Host(1), addr)
	if c, err := net.Dial("tcp", addr); err != nil {
		t.Error(err)
	} else {
		c.Close()
	}
	out, err := a.Host(1).Command(t.Context(), "ip", "route", "get", b.Host(0).Addr().String()).CombinedOutput()
	if err == nil {
		t.Errorf("a host has a way to the other rig: %s", out)
	}
	if _, err := New(Config{Dir: a.dir, Hosts: 1}); api.CodeOf(err) != api.CodeConflict {
		t.Errorf("a second rig in one directory: %v", err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	dial(t, b.Host(1), addr)
}

func TestConfig(t *testing.T) {
	for what, c := range map[string]Config{
		"no directory": {Hosts: 1}, "no hosts": {Dir: "x"}, "too many": {Dir: "x", Hosts: 245},
		"a name too few": {Dir: "x", Hosts: 2, Names: []string{"a"}}, "a name twice": {Dir: "x", Names: []string{"a", "a"}},
		"a bad name": {Dir: "x", Names: []string{"a/b"}}, "directory in /run": {Dir: "/run/x", Hosts: 1},
	} {
		if s, err := c.plan(); api.CodeOf(err) != api.CodeInvalid {
			t.Errorf("%s: %+v, %v", what, s, err)
		}
	}
	s, err := Config{Dir: "x", Names: []string{"server", "node"}}.plan()
	if err != nil || s.Hosts[1].Name != "node" || s.Hosts[1].Addr != s.addr(11) || !s.Subnet.Contains(s.Hosts[1].Addr) {
		t.Errorf("%+v, %v", s, err)
	}
}

// makeRig is a program that makes a rig and ends.
func makeRig(args []string) error {
	bound := len(args) > 1
	r, err := New(Config{Dir: args[0], Names: []string{"one", "two"}, Bound: bound})
	if err != nil {
		return err
	}
	c := r.Host(0).Command(context.Background(), "sleep", "1000")
	if err := c.Start(); err != nil {
		return err
	}
	fmt.Println(c.Process.Pid)
	if bound {
		io.Copy(io.Discard, os.Stdin) // never ends
	}
	goruntime.KeepAlive(r)
	return nil
}

// changeRig is a program that finds a rig of another, and changes it.
func changeRig(args []string) error {
	r, err := Open(args[0])
	if err != nil {
		return err
	}
	if err := r.Cut(1); err != nil {
		return err
	}
	return r.Host(0).PowerOff()
}

func TestOneProgramMakesAnotherCloses(t *testing.T) {
	needsRoot(t)
	dir := t.TempDir()
	if _, err := Open(dir); api.CodeOf(err) != api.CodeNotFound {
		t.Errorf("there is no rig, but: %v", err)
	}
	out, err := self(t.Context(), nil, "make", dir).Cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(out)))
	if err != nil {
		t.Fatal(err)
	}
	r, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	ids := namespaces(t, r)
	t.Cleanup(func() { r.Close() })
	all, err := r.Host(0).Processes()
	if err != nil || len(all) != 1 || all[0].PID != pid || !r.Host(0).On() {
		t.Errorf("processes %+v, %v; want %d", all, err, pid)
	}
	air := radios(t, r)
	air[0].hears(air[1], "before")
	if err := self(t.Context(), nil, "change", dir).Cmd.Run(); err != nil {
		t.Fatal(err)
	}
	if r.Host(0).On() || !r.Host(1).On() {
		t.Error("not the host that another program has switched off is off")
	}
	if err := r.Host(0).PowerOn(); err != nil {
		t.Fatal(err)
	}
	air[0] = newRadio(t, r.Host(0))
	air[1].deafTo(air[0], "cut by another program")
	if err := r.Heal(1); err != nil {
		t.Fatal(err)
	}
	air[1].hears(air[0], "healed")
	if err := os.WriteFile(filepath.Join(r.Host(1).Dir(), "kept"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time there is nothing to close
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
	nothingLeft(t, dir, ids)
	if _, err := os.Stat(filepath.Join(r.Host(1).Dir(), "kept")); err != nil {
		t.Error("the disk of a host went away with the rig")
	}
	if err := r.Cut(0); api.CodeOf(err) != api.CodeNotFound {
		t.Errorf("cut in a closed rig: %v", err)
	}
}

func TestBoundRig(t *testing.T) {
	needsRoot(t)
	dir := t.TempDir()
	c := self(t.Context(), nil, "make", dir, "bound")
	in, err := c.StdinPipe()
	must(t, err)
	defer in.Close()
	out, err := c.StdoutPipe()
	must(t, err)
	must(t, c.Cmd.Start())
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	r, err := Open(dir)
	must(t, err)
	defer r.Close()
	_, err = r.Uplink()
	must(t, err)
	ids := namespaces(t, r)
	all, err := r.Host(0).Processes()
	if err != nil || len(all) != 1 {
		t.Fatalf("processes %+v, %v", all, err)
	}
	// A host that another program switches on lives by that one.
	must(t, r.Host(1).PowerOff())
	must(t, r.Host(1).PowerOn())
	must(t, c.Process.Kill())
	c.Wait()
	must(t, waitFor(func() error {
		if r.Host(0).On() {
			return errors.New("a bound host outlives its program")
		}
		return nil
	}))
	if !r.Host(1).On() {
		t.Error("a host ended with a program that had not switched it on")
	}
	must(t, r.Close())
	if r.Host(1).On() {
		t.Error("a host outlives its rig")
	}
	nothingLeft(t, dir, ids)
}

// A bound rig is like any other while its program runs.
func TestBoundHostsReboot(t *testing.T) {
	needsRoot(t)
	r, err := New(Config{Dir: t.TempDir(), Hosts: 2, Bound: true})
	must(t, err)
	defer r.Close()
	for range 3 {
		must(t, r.Host(1).PowerOff())
		must(t, r.Host(1).PowerOn())
		goruntime.GC() // what is let go by mistake is closed
		goruntime.GC()
	}
	air := radios(t, r)
	air[0].hears(air[1], "still there")
	must(t, r.Close())
}

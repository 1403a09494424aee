package rack

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"slipway/api"
)

// run is where the rack keeps what does not outlive a reboot.
func (r *rack) run(name string) string {
	sum := sha256.Sum256([]byte(r.dir + "/rack"))
	return "/run/slipway/" + hex.EncodeToString(sum[:4]) + "/" + name
}

// killed ends a daemon of the rack that has a pid file, and waits for its end.
func (r *rack) killed(name string) {
	r.t.Helper()
	var pid int
	if _, err := fmt.Sscan(readFile(r.t, r.run(name+".pid")), &pid); err != nil {
		r.t.Fatal(err)
	}
	kill(r.t, pid)
}

func kill(t *testing.T, pid int) {
	t.Helper()
	p, err := os.FindProcess(pid) // a handle, not only a number
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Kill(); err != nil && err != os.ErrProcessDone {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; {
		state, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if _, rest, _ := strings.Cut(string(state), ") "); err != nil || strings.HasPrefix(rest, "Z") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("process %d does not end: %s", pid, state)
		}
		time.Sleep(5 * time.Millisecond) // polls
	}
}

// settled waits until an app has that many ready copies and nothing else, and returns them.
func (r *rack) settled(app string, copies int) (list []api.ProcessInfo) {
	r.t.Helper()
	r.awaitState(fmt.Sprint(copies, " ready copies of ", app), 40*time.Second, func() (string, bool) {
		list = r.live(app)
		ready := 0
		for _, p := range list {
			if p.Ready && p.Health == api.HealthHealthy {
				ready++
			}
		}
		return r.must("", "ps", "--all", "-a", app), ready == copies && len(list) == copies
	})
	return list
}

func ids(list []api.ProcessInfo) string {
	var out []string
	for _, p := range list {
		out = append(out, fmt.Sprintf("%s since %s", p.ID, p.Started))
	}
	return strings.Join(out, "\n")
}

// TestNothingRestartsThatNeedNot kills the daemons of a rack, one after the other.
func TestNothingRestartsThatNeedNot(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.must("", "deploy", r.source("shop", 2, live), "-a", "shop")
	r.adopts()
	r.losesContainerd()
	r.losesRouter()
	r.comesBack()
	r.losesPower()
	// `down` finds what nobody leads any more.
	r.kill()
	r.killed("containerd")
}

// adopts kills the daemon: what runs lives on, and what happened meanwhile is known later.
func (r *rack) adopts() {
	before := r.settled("shop", 2)
	r.kill()
	if got := r.get("shop"); got != "one GET 0\n" {
		r.t.Errorf("without the daemon the app answers %q", got)
	}
	r.ask("shop", "/say?text=meanwhile")
	r.ask("shop", "/end?code=7")
	r.launch()
	ended := r.ended("shop", 7)
	after := r.settled("shop", 2)
	stayed := 0
	for _, p := range before {
		if strings.Contains(ids(after), ids([]api.ProcessInfo{p})) {
			stayed++
		}
	}
	if stayed != 1 {
		r.t.Errorf("%d copies stayed, not 1; before:\n%s\nafter:\n%s", stayed, ids(before), ids(after))
	}
	contains(r.t, "why", r.must("", "why", string(ended), "-a", "shop"), "exited with code 7")
	contains(r.t, "the log", r.must("", "logs", "--no-follow", "-a", "shop"), "meanwhile")

	// The probes of an adopted copy go on.
	r.ask("shop", "/sick")
	r.awaitState("end of the sick copy", 30*time.Second, func() (string, bool) {
		out := r.must("", "logs", "--no-follow", "-a", "shop")
		return out, strings.Contains(out, "liveness check failed")
	})
	r.settled("shop", 2)
}

// fresh waits until an app has as many ready copies as before, and none of those.
func (r *rack) fresh(app string, before []api.ProcessInfo) {
	r.t.Helper()
	r.awaitState("new copies of "+app, 40*time.Second, func() (string, bool) {
		list, ready := r.live(app), 0
		for _, p := range list {
			if p.Ready && !strings.Contains(ids(before), string(p.ID)) {
				ready++
			}
		}
		return r.must("", "ps", "--all", "-a", app), ready == len(before) && len(list) == ready
	})
}

// ended waits until a process of an app has ended with a code, and returns it.
func (r *rack) ended(app string, code int) (id api.ProcessID) {
	r.t.Helper()
	r.awaitState(fmt.Sprint("end with code ", code), 30*time.Second, func() (string, bool) {
		for _, p := range r.processes(app) {
			if p.Exit != nil && *p.Exit == code {
				id = p.ID
			}
		}
		return r.must("", "ps", "--all", "-a", app), id != ""
	})
	return id
}

// losesContainerd kills the container engine: it comes back by itself, and nothing else ends.
func (r *rack) losesContainerd() {
	before := r.settled("shop", 2)
	old := readFile(r.t, r.run("containerd.pid"))
	r.killed("containerd")
	if got := r.get("shop"); got != "one GET 0\n" {
		r.t.Errorf("without containerd the app answers %q", got)
	}
	r.awaitState("another containerd", 20*time.Second, func() (string, bool) {
		pid, err := os.ReadFile(r.run("containerd.pid"))
		return string(pid), err == nil && string(pid) != old
	})
	r.awaitState("command in a process", 20*time.Second, func() (string, bool) {
		out, code := r.slipway("", "exec", string(before[0].ID), "-a", "shop", "--", "/testapp", "env", "VERSION")
		return out, code == 0 && out == "one\n"
	})
	if after := r.settled("shop", 2); ids(after) != ids(before) {
		r.t.Errorf("containerd was killed; before:\n%s\nafter:\n%s", ids(before), ids(after))
	}
	// Ends are noticed as before.
	r.ask("shop", "/end?code=5")
	r.ended("shop", 5)
	r.settled("shop", 2)
}

// losesRouter kills the router: another one serves what the last one did.
func (r *rack) losesRouter() {
	before := r.settled("shop", 2)
	r.killed("router")
	r.awaitState("answer of another router", 10*time.Second, func() (string, bool) {
		got := r.get("shop")
		return got, got == "one GET 0\n"
	})
	if after := r.settled("shop", 2); ids(after) != ids(before) {
		r.t.Errorf("the router was killed; before:\n%s\nafter:\n%s", ids(before), ids(after))
	}
}

// comesBack stops the whole rack and starts it again.
func (r *rack) comesBack() {
	r.must("", "env", "set", "VERSION=two", "--promote", "-a", "shop")
	before := r.settled("shop", 2)
	r.down()
	if after := machine(r.t, r.dir+"/rack"); after != r.before {
		r.t.Errorf("after down the machine has:\n%s", after)
	}
	r.launch()
	r.fresh("shop", before)
	if got := r.get("shop"); got != "two GET 0\n" {
		r.t.Errorf("after down and up the app answers %q", got)
	}
}

// losesPower kills every process of the rack at once, containers first.
func (r *rack) losesPower() {
	before := r.settled("shop", 2)
	r.kill()
	r.killed("router")
	r.killed("containerd")
	for _, p := range before {
		for _, file := range globs("/sys/fs/cgroup/pids/slipway-*/" + string(p.ID) + "/cgroup.procs") {
			for _, line := range strings.Fields(readFile(r.t, file)) {
				if pid, err := strconv.Atoi(line); err == nil {
					kill(r.t, pid)
				}
			}
		}
	}
	for _, file := range globs("/proc/[0-9]*/cmdline") {
		cmdline, err := os.ReadFile(file)
		if pid, bad := strconv.Atoi(strings.Split(file, "/")[2]); err == nil && bad == nil && strings.Contains(string(cmdline), r.run("")) {
			kill(r.t, pid) // the shims, and with them the log writers
		}
	}
	r.launch()
	r.fresh("shop", before)
	if got := r.get("shop"); got != "two GET 0\n" {
		r.t.Errorf("after the power came back the app answers %q", got)
	}
}

package bubble

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"slipway/api"
	"slipway/api/client"
)

// manifest describes an app with one web service of so many copies; extra is added to it.
func manifest(copies int, extra string) string {
	return fmt.Sprintf(`environment:
  - VERSION=one
  - MODE=
  - BOOT=
services:
  web:
    image: app
    port: 3000
    scale: %d
    health:
      grace: 5
      interval: 5
      timeout: 4
    deployment:
      minimum: 50
      maximum: 200
%s`, copies, extra)
}

// succeeded fails the test unless a deployment went well and proves it.
func succeeded(r *rack, d api.Deployment) {
	r.t.Helper()
	if d.Status != api.DeploySucceeded || d.Receipt == nil || !d.Receipt.Verified {
		r.t.Fatalf("deployment %s: %s, %s, receipt %+v; processes:\n%s", d.ID, d.Status, d.Cause, d.Receipt, r.picture())
	}
}

// serving returns the processes that the router of a machine leads to.
func (m *machine) serving() []api.ProcessID {
	m.router.mu.Lock()
	defer m.router.mu.Unlock()
	var out []api.ProcessID
	for id := range targets(m.router.table) {
		out = append(out, id)
	}
	slices.Sort(out)
	return out
}

// TestDeployAddsNoWaitOfItsOwn: in virtual time nothing but waits takes time. A deploy takes
// the pull (200 ms), the boot (300 ms), one interval of an eager probe and the group commit of
// the agent's store, and not a poll or a delay more.
func TestDeployAddsNoWaitOfItsOwn(t *testing.T) {
	inBubble(t, []string{"n1"}, func(r *rack) {
		began := time.Now()
		succeeded(r, r.deploy("shop", manifest(2, "")))
		if took := time.Since(began); took > 600*time.Millisecond {
			t.Errorf("the first deploy took %s of virtual time, of which the image takes 200 ms and the program 300 ms", took)
		}
		began = time.Now()
		succeeded(r, r.set("shop", map[string]string{"VERSION": "two"}))
		if took := time.Since(began); took > 400*time.Millisecond {
			t.Errorf("a promote with the image in place took %s, of which the program takes 300 ms", took)
		}
	})
}

func TestRequestsInFlightEndBeforeTheProcess(t *testing.T) {
	inBubble(t, []string{"n1", "n2"}, func(r *rack) {
		succeeded(r, r.deploy("shop", manifest(3, "    drain: 30\n")))
		for _, m := range r.machines {
			m.router.inFlight = 12 * time.Second
		}
		old := r.processes("shop")
		began := time.Now()
		d := r.set("shop", map[string]string{"VERSION": "two"})
		succeeded(r, d)
		if took := time.Since(began); took < 12*time.Second || took > 40*time.Second {
			t.Errorf("requests of 12 s were in flight, the deployment took %s", took)
		}
		for _, p := range old {
			if now, err := r.Process(r.ctx, "shop", p.ID); err != nil || now.Exit == nil || *now.Exit != 0 {
				t.Errorf("process %s: %+v, %v", p.ID, now, err)
			}
		}
		for _, s := range d.Receipt.Services[0].Stopped {
			if s.Forced || s.Drained.IsZero() {
				t.Errorf("receipt of %s: %+v", s.Process, s)
			}
		}
	})
}

func TestDrainHasALimit(t *testing.T) {
	inBubble(t, []string{"n1"}, func(r *rack) {
		succeeded(r, r.deploy("shop", manifest(1, "    drain: 10\n")))
		r.machines["n1"].router.inFlight = time.Hour
		began := time.Now()
		d := r.set("shop", map[string]string{"VERSION": "two"})
		succeeded(r, d)
		if took := time.Since(began); took < 10*time.Second || took > 15*time.Second {
			t.Errorf("the drain limit is 10 s, the deployment took %s", took)
		}
		if stopped := d.Receipt.Services[0].Stopped; len(stopped) != 1 || !stopped[0].Forced {
			t.Errorf("the receipt does not say that requests were cut off: %+v", stopped)
		}
	})
}

func TestBadReleasesGoBackWithEvidence(t *testing.T) {
	for mode, c := range map[string]struct {
		says  string
		limit time.Duration
	}{
		"crash": {"keeps ending: exited with code 3", 10 * time.Second},
		"sick":  {"500 Internal Server Error", 30 * time.Second},
	} {
		t.Run(mode, func(t *testing.T) {
			inBubble(t, []string{"n1"}, func(r *rack) {
				succeeded(r, r.deploy("shop", manifest(2, "")))
				before := r.machines["n1"].serving()
				began := time.Now()
				d := r.set("shop", map[string]string{"MODE": mode})
				if d.Status != api.DeployFailed || d.Failure == nil || !strings.Contains(d.Failure.Reason, c.says) || len(d.Failure.Lines) == 0 {
					t.Fatalf("%s: %s, failure %+v\n%s", mode, d.Status, d.Failure, r.picture())
				}
				if took := time.Since(began); took > c.limit {
					t.Errorf("the verdict took %s", took)
				}
				// One copy may have been replaced; as many as before serve, all of them of the old release.
				r.await("old release at full strength", time.Minute, func() bool { return len(r.machines["n1"].serving()) == len(before) })
				for _, p := range r.processes("shop") {
					if p.Release == d.Release {
						t.Errorf("process %s of the bad release lives on", p.ID)
					}
				}
			})
		})
	}
}

func TestNewestPromoteWins(t *testing.T) {
	inBubble(t, []string{"n1"}, func(r *rack) {
		succeeded(r, r.deploy("shop", manifest(2, "")))
		slow, err := r.SetEnv(r.ctx, "shop", client.EnvChange{Set: map[string]string{"VERSION": "two", "BOOT": "20s"}})
		r.must(nil, err)
		first, err := r.Promote(r.ctx, "shop", string(slow.ID))
		r.must(nil, err)
		time.Sleep(time.Second) // virtual: the first promotion is on its way
		succeeded(r, r.set("shop", map[string]string{"VERSION": "three", "BOOT": "100ms"}))
		if d := r.end("shop", first.ID); d.Status != api.DeploySuperseded {
			t.Errorf("the first deployment is %s: %s", d.Status, d.Cause)
		}
	})
}

func TestCrashLoopsBackOff(t *testing.T) {
	inBubble(t, []string{"n1"}, func(r *rack) {
		succeeded(r, r.deploy("shop", manifest(1, "")))
		// A release that is in force begins to crash: its copies are started again, ever more slowly.
		started := func() int {
			list, err := r.Processes(r.ctx, client.ProcessFilter{App: "shop", All: true})
			r.must(nil, err)
			return len(list)
		}
		kill := func() {
			for _, p := range r.processes("shop") {
				r.machines["n1"].engine.OOM(p.ID)
			}
		}
		before := started()
		end := time.Now().Add(10 * time.Minute)
		for time.Now().Before(end) {
			kill()
			time.Sleep(100 * time.Millisecond) // virtual
		}
		if n := started() - before; n < 8 || n > 30 {
			t.Errorf("%d copies were started in ten minutes of crashes, want 8 to 30", n)
		}
		why, err := r.Why(r.ctx, "shop", "web")
		r.must(nil, err)
		if text := fmt.Sprintf("%+v", why); !strings.Contains(text, "killed for memory") {
			t.Errorf("why does not say that the copies are killed for memory: %s", text)
		}
		r.await("a copy that serves again", 3*time.Minute, func() bool { return len(r.machines["n1"].serving()) == 1 })
	})
}

func TestAgentRestartTouchesNothing(t *testing.T) {
	inBubble(t, []string{"n1"}, func(r *rack) {
		succeeded(r, r.deploy("shop", manifest(2, "")))
		m := r.machines["n1"]
		before := m.serving()
		m.stop()
		time.Sleep(3 * time.Second) // virtual: shorter than the grace of a silent node
		m.startAgent()
		time.Sleep(time.Minute) // virtual
		if now := m.serving(); !slices.Equal(now, before) {
			t.Errorf("served by %q before, by %q after", before, now)
		}
		for _, p := range r.processes("shop") {
			if p.Status != "running" || p.Health != api.HealthHealthy {
				t.Errorf("process %s is %s, %s", p.ID, p.Status, p.Health)
			}
		}
		succeeded(r, r.set("shop", map[string]string{"VERSION": "two"}))
	})
}

func TestExitsWhileNoAgentRunsAreKnown(t *testing.T) {
	inBubble(t, []string{"n1"}, func(r *rack) {
		succeeded(r, r.deploy("shop", manifest(1, "")))
		p, err := r.Run(r.ctx, "shop", client.Run{Service: "web", Command: []string{"exit", "7"}, Detach: true})
		r.must(nil, err)
		r.await("end of the one-off", time.Minute, func() bool {
			now, err := r.Process(r.ctx, "shop", p.ID)
			return err == nil && now.Exit != nil && *now.Exit == 7
		})
		m := r.machines["n1"]
		old := m.serving()
		m.stop()
		m.engine.OOM(old[0])
		m.startAgent()
		r.await("replacement", time.Minute, func() bool {
			now := m.serving()
			return len(now) == 1 && now[0] != old[0]
		})
		dead, err := r.Process(r.ctx, "shop", old[0])
		r.must(nil, err)
		if dead.Exit == nil || *dead.Exit != 137 || !strings.Contains(dead.Message, "killed for memory") {
			t.Errorf("%+v", dead)
		}
	})
}

func TestServerRestartTouchesNothing(t *testing.T) {
	inBubble(t, []string{"n1"}, func(r *rack) {
		succeeded(r, r.deploy("shop", manifest(2, "")))
		release, err := r.SetEnv(r.ctx, "shop", client.EnvChange{Set: map[string]string{"VERSION": "two", "BOOT": "10s"}})
		r.must(nil, err)
		d, err := r.Promote(r.ctx, "shop", string(release.ID))
		r.must(nil, err)
		time.Sleep(2 * time.Second) // virtual: the new copies are booting
		before := r.machines["n1"].serving()
		r.stopServer()
		time.Sleep(time.Minute) // virtual
		if now := r.machines["n1"].serving(); !slices.Equal(now, before) {
			t.Errorf("served by %q before, by %q without a server", before, now)
		}
		// While nobody led, the new copies have used up all the time that they may take.
		r.startServer()
		r.await("end of the deployment", time.Minute, func() bool {
			now, err := r.Deployment(r.ctx, "shop", string(d.ID))
			return err == nil && now.Status.Ended()
		})
		succeeded(r, r.end("shop", d.ID))
	})
}

func TestPowerFailure(t *testing.T) {
	inBubble(t, []string{"n1", "n2"}, func(r *rack) {
		succeeded(r, r.deploy("shop", manifest(4, "")))
		r.machines["n1"].powerCycle(2 * time.Second)
		r.await("four copies that serve", 2*time.Minute, func() bool {
			return len(r.machines["n1"].serving()) == 4 && len(r.machines["n2"].serving()) == 4
		})
		for _, p := range r.processes("shop") {
			if p.Status != "running" {
				t.Errorf("process %s is %s", p.ID, p.Status)
			}
		}
		// Everything at once, servers included; no command is given.
		r.machines["n1"].powerOff()
		r.machines["n2"].powerOff()
		r.stopServer()
		time.Sleep(time.Hour) // virtual
		r.startServer()
		r.machines["n2"].powerOn()
		r.machines["n1"].powerOn()
		r.await("four copies that serve", 2*time.Minute, func() bool {
			return len(r.machines["n1"].serving()) == 4 && len(r.machines["n2"].serving()) == 4
		})
	})
}

func TestSilentNodeIsReplaced(t *testing.T) {
	inBubble(t, []string{"n1", "n2"}, func(r *rack) {
		succeeded(r, r.deploy("shop", manifest(2, "")))
		r.machines["n1"].powerOff()
		began := time.Now()
		r.await("two copies on the node that is left", 3*time.Minute, func() bool {
			n := 0
			for _, p := range r.processes("shop") {
				if p.Node == "n2" && p.Status == "running" {
					n++
				}
			}
			return n == 2 && len(r.machines["n2"].serving()) == 2
		})
		t.Logf("replaced after %s", time.Since(began))
		r.machines["n1"].powerOn()
		r.await("node that takes part again", time.Minute, func() bool {
			nodes, err := r.Nodes(r.ctx)
			return err == nil && len(nodes) == 2 && nodes[0].Status == api.NodeReady && nodes[1].Status == api.NodeReady
		})
	})
}

// TestPausedNodeTakesPartAgain: a node that was silent for long enough to be given up, and whose
// session is whole, finds its way back.
func TestPausedNodeTakesPartAgain(t *testing.T) {
	inBubble(t, []string{"n1", "n2"}, func(r *rack) {
		succeeded(r, r.deploy("shop", manifest(2, "")))
		r.machines["n1"].line.pause(8 * time.Second)
		down := ""
		r.must(nil, r.Events(r.ctx, client.EventQuery{Past: true}, func(e api.Event) error {
			if e.Type == "node.down" {
				down = e.Object
			}
			return nil
		}))
		if down != "n1" {
			t.Fatalf("the node that was silent was not given up: %q is", down)
		}
		r.await("node that takes part again, two copies", time.Minute, func() bool {
			nodes, err := r.Nodes(r.ctx)
			n := 0
			for _, p := range r.processes("shop") {
				if p.Status == "running" {
					n++
				}
			}
			return err == nil && n == 2 && nodes[0].Status == api.NodeReady && nodes[1].Status == api.NodeReady
		})
	})
}

func TestDeafProcessesAreKilledAfterTheirGrace(t *testing.T) {
	inBubble(t, []string{"n1"}, func(r *rack) {
		d := r.deploy("shop", manifest(1, "    termination:\n      grace: 7\n"))
		succeeded(r, d)
		succeeded(r, r.set("shop", map[string]string{"MODE": "deaf"}))
		deaf := r.processes("shop")
		began := time.Now()
		succeeded(r, r.set("shop", map[string]string{"MODE": ""}))
		if took := time.Since(began); took < 7*time.Second || took > 12*time.Second {
			t.Errorf("the grace is 7 s, the deployment took %s", took)
		}
		p, err := r.Process(r.ctx, "shop", deaf[0].ID)
		r.must(nil, err)
		if !strings.Contains(p.Message, "ignored SIGTERM for 7s") {
			t.Errorf("%+v", p)
		}
	})
}

func TestDeletedAppsLeaveNothing(t *testing.T) {
	inBubble(t, []string{"n1"}, func(r *rack) {
		succeeded(r, r.deploy("shop", manifest(3, "")))
		if err := r.DeleteApp(r.ctx, "shop"); err != nil {
			t.Fatal(err)
		}
		r.await("empty node", 2*time.Minute, func() bool {
			list, err := r.machines["n1"].engine.List(r.ctx)
			_, gone := r.App(r.ctx, "shop")
			return err == nil && len(list) == 0 && len(r.machines["n1"].serving()) == 0 && api.CodeOf(gone) == api.CodeNotFound
		})
	})
}

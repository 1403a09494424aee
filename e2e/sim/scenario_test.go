package sim

import (
	"strings"
	"testing"
	"time"

	"slipway/api"
	"slipway/raftstore/state"
)

func check(t *testing.T, w *World, d *api.Deployment, want api.DeploymentStatus) {
	t.Helper()
	if d.Status != want || len(w.Broken()) > 0 {
		t.Fatalf("deployment %s is %s (%s), want %s\nbroken: %q\n%s", d.ID, d.Status, d.Cause, want, w.Broken(), w.Trace())
	}
}

func converge(t *testing.T, w *World, limit time.Duration) {
	t.Helper()
	if !w.RunUntil(limit, Converged) {
		t.Fatalf("no convergence within %s\nbroken: %q\n%s", limit, w.Broken(), w.Trace())
	}
}

// first deploys an app with count copies and returns its release.
func first(t *testing.T, w *World, spec api.ServiceSpec) api.ReleaseID {
	t.Helper()
	w.App("shop")
	r := w.Release("shop", good, spec)
	check(t, w, w.Await(w.Promote("shop", r), time.Minute), api.DeploySucceeded)
	converge(t, w, time.Minute)
	return r
}

func TestFirstDeploy(t *testing.T) {
	w := NewWorld(1, 3)
	first(t, w, Web(4, 50, 200))
	perNode := map[api.NodeID]int{}
	for p := range w.State.View().LiveProcesses() {
		perNode[p.Node]++
	}
	if len(perNode) != 3 {
		t.Errorf("4 copies on 3 nodes are spread as %v", perNode)
	}
}

func TestRollingDeployKeepsTheMinimum(t *testing.T) {
	for _, c := range []struct{ count, minimum, maximum, least int }{
		{1, 50, 200, 1}, {2, 50, 200, 1}, {4, 50, 200, 2}, {10, 100, 110, 10}, {10, 80, 100, 8}, {3, 100, 100, 3}, {1, 0, 100, 0},
	} {
		w := NewWorld(2, 3)
		first(t, w, Web(c.count, c.minimum, c.maximum))
		w.minimum[api.ServiceKey{App: "shop", Service: "web"}] = c.least
		r := w.Release("shop", good, Web(c.count, c.minimum, c.maximum))
		d := w.Await(w.Promote("shop", r), 5*time.Minute)
		check(t, w, d, api.DeploySucceeded)
		converge(t, w, time.Minute)
		if !d.Receipt.Verified || d.Receipt.Services[0].Ready != c.count || len(d.Receipt.Services[0].Started) != c.count || len(d.Receipt.Services[0].Stopped) != c.count {
			t.Errorf("%+v: receipt %+v", c, d.Receipt)
		}
	}
}

func TestSingletonNeverHasTwoCopies(t *testing.T) {
	spec := Web(1, 0, 100)
	spec.Singleton = true
	w := NewWorld(3, 3)
	first(t, w, spec)
	id := w.Promote("shop", w.Release("shop", good, spec))
	done := w.RunUntil(5*time.Minute, func(v *state.View) bool {
		live := 0
		for range v.LiveOf(api.ServiceKey{App: "shop", Service: "web"}) {
			live++
		}
		if live > 1 {
			t.Fatalf("%d copies of a singleton\n%s", live, w.Trace())
		}
		d, _ := v.Deployment(id)
		return d.Status.Ended()
	})
	d, _ := w.State.View().Deployment(id)
	if !done || d.Status != api.DeploySucceeded {
		t.Fatalf("%s: %s\n%s", d.Status, d.Cause, w.Trace())
	}
}

func TestBadReleasesFailFastAndGoBack(t *testing.T) {
	for name, c := range map[string]struct {
		b      Behaviour
		within time.Duration
		says   string
	}{
		"crashes":        {Behaviour{Boot: time.Second, Crash: 100 * time.Millisecond, Linger: time.Millisecond}, 10 * time.Second, "keeps ending"},
		"never healthy":  {Behaviour{Boot: time.Second, Never: true, Linger: time.Millisecond}, 40 * time.Second, "not healthy"},
		"unknown image":  {Behaviour{BadName: true}, 5 * time.Second, "not found"},
		"ignores term":   {Behaviour{Boot: time.Second, Never: true, Linger: time.Hour}, 60 * time.Second, "not healthy"},
		"never, no word": {Behaviour{Boot: time.Hour, Linger: time.Millisecond}, 90 * time.Second, "did not become healthy"},
	} {
		t.Run(name, func(t *testing.T) {
			w := NewWorld(4, 2)
			old := first(t, w, Web(2, 50, 200))
			w.minimum[api.ServiceKey{App: "shop", Service: "web"}] = 1
			d := w.Await(w.Promote("shop", w.Release("shop", c.b, Web(2, 50, 200))), c.within)
			check(t, w, d, api.DeployFailed)
			if d.Failure == nil || !strings.Contains(d.Failure.Reason, c.says) {
				t.Errorf("failure %+v, want one that says %q", d.Failure, c.says)
			}
			converge(t, w, 30*time.Second)
			if a, _ := w.State.View().App("shop"); a.Release != old {
				t.Errorf("release %s is in force, want the old one %s", a.Release, old)
			}
		})
	}
}

func TestFirstDeployThatFailsLeavesNothing(t *testing.T) {
	w := NewWorld(5, 1)
	w.App("shop")
	r := w.Release("shop", Behaviour{Boot: time.Second, Crash: 50 * time.Millisecond}, Web(2, 50, 200))
	check(t, w, w.Await(w.Promote("shop", r), time.Minute), api.DeployFailed)
	w.Run(time.Minute)
	for p := range w.State.View().LiveProcesses() {
		t.Errorf("process %s is left: %s", p.ID, p.Observed.State)
	}
}

func TestWorkerThatEndsAtOnceFails(t *testing.T) {
	w := NewWorld(15, 1)
	w.App("shop")
	worker := Web(1, 50, 200)
	worker.Port = api.Port{}
	r := w.Release("shop", Behaviour{Crash: 300 * time.Millisecond}, worker)
	check(t, w, w.Await(w.Promote("shop", r), 10*time.Second), api.DeployFailed)
}

func TestNewestPromotionWins(t *testing.T) {
	w := NewWorld(6, 2)
	first(t, w, Web(2, 50, 200))
	w.minimum[api.ServiceKey{App: "shop", Service: "web"}] = 1
	stuck := w.Promote("shop", w.Release("shop", Behaviour{Boot: time.Hour, Linger: time.Millisecond}, Web(2, 50, 200)))
	w.Run(3 * time.Second)
	r := w.Release("shop", good, Web(2, 50, 200))
	check(t, w, w.Await(w.Promote("shop", r), time.Minute), api.DeploySucceeded)
	converge(t, w, time.Minute)
	if d, _ := w.State.View().Deployment(stuck); d.Status != api.DeploySuperseded {
		t.Errorf("the first deployment is %s, want superseded", d.Status)
	}
}

func TestCancel(t *testing.T) {
	w := NewWorld(7, 2)
	old := first(t, w, Web(2, 50, 200))
	id := w.Promote("shop", w.Release("shop", Behaviour{Boot: time.Hour, Linger: time.Millisecond}, Web(2, 50, 200)))
	w.Run(2 * time.Second)
	w.Apply("ann", state.CancelDeployment{App: "shop"})
	check(t, w, w.Await(id, time.Minute), api.DeployCancelled)
	converge(t, w, time.Minute)
	if a, _ := w.State.View().App("shop"); a.Release != old {
		t.Errorf("release %s is in force, want %s", a.Release, old)
	}
}

func TestScaleAndRestart(t *testing.T) {
	w := NewWorld(8, 3)
	first(t, w, Web(2, 50, 200))
	key := api.ServiceKey{App: "shop", Service: "web"}
	for _, n := range []int{5, 1, 0, 3} {
		w.Apply("ann", state.SetScale{Key: key, Override: &api.ScaleOverride{Count: &n}})
		converge(t, w, time.Minute)
	}
	w.minimum[key] = 2
	at := w.Now
	w.Apply("ann", state.RestartService{Key: key})
	if !w.RunUntil(time.Minute, func(v *state.View) bool {
		for p := range v.LiveOf(key) {
			if p.Created.Before(at) {
				return false
			}
		}
		return Converged(v)
	}) {
		t.Fatalf("no restart\n%q\n%s", w.Broken(), w.Trace())
	}
}

func TestCrashedCopyIsReplaced(t *testing.T) {
	w := NewWorld(9, 2)
	w.App("shop")
	b := good
	b.Crash = 30 * time.Second
	check(t, w, w.Await(w.Promote("shop", w.Release("shop", b, Web(2, 50, 200))), time.Minute), api.DeploySucceeded)
	w.Run(10 * time.Minute)
	attempts := 0
	for p := range w.State.View().Processes() {
		attempts = max(attempts, p.Attempt)
	}
	if attempts < 3 || len(w.Broken()) > 0 {
		t.Errorf("%d attempts in ten minutes of crashes\n%q", attempts, w.Broken())
	}
}

func TestNodeLossMovesCopies(t *testing.T) {
	w := NewWorld(10, 3)
	first(t, w, Web(6, 50, 200))
	w.faulty = true
	lost := w.nodes[0]
	lost.kill()
	if !w.RunUntil(time.Minute, func(v *state.View) bool {
		for range v.ProcessesOn(lost.id) {
			return false
		}
		return Converged(v)
	}) {
		t.Fatalf("the copies of a lost node are not replaced\n%q\n%s", w.Broken(), w.Trace())
	}
	lost.reboot()
	w.Run(time.Minute)
	converge(t, w, time.Minute)
}

func TestServiceLeavesTheManifest(t *testing.T) {
	w := NewWorld(11, 2)
	worker := Web(1, 50, 200)
	worker.Name, worker.Port = "worker", api.Port{}
	w.App("shop")
	check(t, w, w.Await(w.Promote("shop", w.Release("shop", good, Web(1, 50, 200), worker)), time.Minute), api.DeploySucceeded)
	check(t, w, w.Await(w.Promote("shop", w.Release("shop", good, Web(1, 50, 200))), time.Minute), api.DeploySucceeded)
	w.Run(30 * time.Second)
	for p := range w.State.View().LiveOf(api.ServiceKey{App: "shop", Service: "worker"}) {
		t.Errorf("process %s of a service that is gone: %s", p.ID, p.Observed.State)
	}
}

func TestDeletedAppGoesAway(t *testing.T) {
	w := NewWorld(12, 2)
	first(t, w, Web(2, 50, 200))
	w.Apply("ann", state.DeleteApp{App: "shop"})
	if !w.RunUntil(time.Minute, func(v *state.View) bool { _, ok := v.App("shop"); return !ok }) {
		t.Fatalf("the app is still there\n%s", w.Trace())
	}
	if n := len(w.State.View().RouteTable().Routes); n != 0 {
		t.Errorf("%d routes are left", n)
	}
}

func TestNoRoomIsSaid(t *testing.T) {
	w := NewWorld(13, 1)
	w.App("shop")
	big := Web(3, 50, 200)
	big.Scale.Ask.Memory = 5 * api.GiB
	w.Promote("shop", w.Release("shop", good, big))
	w.Run(20 * time.Second)
	s, _ := w.State.View().Service(api.ServiceKey{App: "shop", Service: "web"})
	if want := "2 waiting: not enough memory on 1 node (needs 5 GiB, largest free 3 GiB)"; s.Waiting != want {
		t.Errorf("waiting %q, want %q", s.Waiting, want)
	}
}

func TestDrainKeepsTheMinimum(t *testing.T) {
	w := NewWorld(16, 3)
	first(t, w, Web(4, 75, 200))
	w.minimum[api.ServiceKey{App: "shop", Service: "web"}] = 3
	drain := true
	for _, n := range []api.NodeID{"n1", "n2"} {
		w.Apply("ann", state.UpdateNode{Node: n, Draining: &drain})
	}
	if !w.RunUntil(5*time.Minute, func(v *state.View) bool {
		for p := range v.LiveProcesses() {
			if p.Node != "n3" {
				return false
			}
		}
		return Converged(v)
	}) {
		t.Fatalf("two nodes are not drained\n%q\n%s", w.Broken(), w.Trace())
	}
}

func TestLeaderLossTouchesNoProcess(t *testing.T) {
	w := NewCluster(17, 3, 3)
	first(t, w, Web(4, 50, 200))
	for range 3 {
		s := w.Leader()
		s.crash()
		w.Run(time.Minute)
		s.restart()
		w.Run(10 * time.Second)
	}
	for p := range w.State.View().Processes() {
		if p.Attempt > 0 || !p.Live() {
			t.Errorf("process %s is %s after changes of the leader: %s", p.ID, p.Observed.State, p.Observed.Message)
		}
	}
	if len(w.Broken()) > 0 {
		t.Errorf("%q\n%s", w.Broken(), w.Trace())
	}
}

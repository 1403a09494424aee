package ingress

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"slipway/api"
	"slipway/raftstore/state"
	"slipway/server/steps"
)

// world is a state whose commands are applied at a virtual time.
type world struct {
	t     *testing.T
	state *state.State
	index uint64
	now   time.Time
}

// newWorld has one app with the given services, released and wanted once each, and a router.
func newWorld(t *testing.T, services ...api.ServiceSpec) *world {
	w := &world{t: t, state: state.New(), now: time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)}
	w.apply(state.ConfigureRack{Rack: state.Rack{Domain: "rack.test"}})
	w.apply(state.CreateApp{App: api.App{Name: "shop"}})
	w.apply(state.CreateRelease{Release: api.Release{ID: "R1", App: "shop", Services: services}})
	w.router("n1")
	for _, s := range services {
		w.apply(state.SetWant{Key: api.ServiceKey{App: "shop", Service: s.Name}, Want: []api.Want{{Release: "R1", Count: 9}}})
	}
	return w
}

func (w *world) apply(c state.Command) {
	w.t.Helper()
	w.index++
	if r := w.state.Apply(w.index, state.Entry{At: w.now, Command: c}); r.Err != nil || len(r.Dropped) > 0 {
		w.t.Fatalf("%s: %v %q", c.Type(), r.Err, r.Dropped)
	}
}

func (w *world) router(id api.NodeID) {
	w.apply(state.RegisterNode{Node: api.Node{ID: id, Name: string(id), Router: true, Capacity: api.Amount{CPU: 4000, Memory: api.GiB}}})
}

// process adds a running process.
func (w *world) process(id api.ProcessID, service api.ServiceName, health api.HealthState) {
	w.apply(state.CreateProcess{Process: api.Process{ID: id, App: "shop", Service: service, Kind: api.KindService, Release: "R1", Slot: int(id[0])}})
	w.apply(state.ApplyPlan{Assign: []api.Assign{{Process: id, Node: "n1"}}})
	w.report(id, health)
}

func (w *world) report(id api.ProcessID, health api.HealthState) {
	o := api.ProcessStatus{State: api.StateRunning, Health: health, Addr: "10.0.0.1", Started: w.now}
	if health == api.HealthHealthy {
		o.Healthy = w.now
	}
	w.apply(state.UpdateProcesses{Node: "n1", Statuses: map[api.ProcessID]api.ProcessStatus{id: o}})
}

// step takes one step and applies it.
func (w *world) step() (cmds []state.Command, wake time.Time) {
	w.t.Helper()
	cmds, wake = Step(w.state.View(), state.Everything(), steps.Input{Now: w.now})
	for _, c := range cmds {
		w.apply(c)
	}
	return cmds, wake
}

// quiet checks that the step has nothing to do.
func (w *world) quiet(why string) time.Time {
	w.t.Helper()
	cmds, wake := w.step()
	if len(cmds) > 0 {
		w.t.Fatalf("%s: %+v", why, cmds)
	}
	return wake
}

func (w *world) ack(node api.NodeID, draining ...api.ProcessID) {
	w.apply(state.AckRoutes{Node: node, Version: w.state.View().RoutesVersion(), Draining: draining})
}

func (w *world) get(id api.ProcessID) *api.Process {
	p, ok := w.state.View().Process(id)
	if !ok {
		w.t.Fatalf("process %s is gone", id)
	}
	return p
}

func web() api.ServiceSpec {
	return api.ServiceSpec{Name: "web", Port: api.Port{Number: 80, Scheme: api.SchemeHTTP}, Drain: 30 * time.Second}
}

func TestAProcessIsReadyWhenEveryRouterKnowsIt(t *testing.T) {
	w := newWorld(t, web())
	w.router("n2")
	w.step()
	w.process("a", "web", api.HealthUnknown)
	w.quiet("not healthy yet")
	w.report("a", api.HealthHealthy)
	w.step()
	if n := len(w.state.View().Routes("shop")[0].Targets); n != 1 {
		t.Fatalf("%d targets, want 1", n)
	}
	w.quiet("no router has it")
	w.ack("n1")
	w.quiet("one of two routers has it")
	w.ack("n2")
	w.step()
	if !w.get("a").Ready {
		t.Fatal("both routers have it, it is not ready")
	}
	w.router("n3")
	w.quiet("a router that joins takes nothing back")
	w.report("a", api.HealthUnhealthy)
	w.step()
	if w.get("a").Ready || len(w.state.View().Routes("shop")[0].Targets) != 0 {
		t.Error("an unhealthy process is ready or a target")
	}
	w.quiet("settled")
}

func TestARouterThatIsDownIsNotWaitedFor(t *testing.T) {
	w := newWorld(t, web())
	w.router("n2")
	w.process("a", "web", api.HealthHealthy)
	w.step()
	w.ack("n1")
	w.quiet("n2 is silent")
	w.apply(state.SetNodeStatus{Node: "n2", Status: api.NodeDown, Reason: "silent"})
	w.step()
	if !w.get("a").Ready {
		t.Error("a router that is down holds the process back")
	}
}

func TestAProcessWithoutACheckHasToStay(t *testing.T) {
	w := newWorld(t, api.ServiceSpec{Name: "worker"})
	w.process("a", "worker", api.HealthHealthy)
	if wake := w.quiet("it has just started"); !wake.Equal(w.now.Add(settle)) {
		t.Errorf("wakes at %s, want %s", wake, w.now.Add(settle))
	}
	w.now = w.now.Add(settle)
	w.step()
	if !w.get("a").Ready {
		t.Error("it stayed, it is not ready")
	}
}

func TestAStopWaitsForRequestsInFlight(t *testing.T) {
	w := newWorld(t, web())
	w.process("a", "web", api.HealthHealthy)
	w.process("b", "web", api.HealthHealthy)
	w.process("c", "web", api.HealthUnknown) // never was a target
	w.step()
	w.ack("n1")
	w.step()
	for _, id := range []api.ProcessID{"a", "b", "c"} {
		w.apply(state.StopProcess{Process: id, Reason: "scaled down"})
	}
	w.step() // drops the targets; nothing holds c
	if got := w.get("c").Desired; got != api.DesiredStop {
		t.Errorf("the process without requests is to %s", got)
	}
	limit := w.now.Add(30 * time.Second)
	last := limit.Add(drainSlack)
	if wake := w.quiet("the router serves the old table"); !wake.Equal(last) {
		t.Errorf("wakes at %s, want the end of the slack %s", wake, last)
	}
	w.ack("n1", "b")
	w.step()
	if a, b := w.get("a"), w.get("b"); a.Desired != api.DesiredStop || a.Forced || b.Desired != api.DesiredDrain {
		t.Errorf("a is to %s (forced %v), b to %s", a.Desired, a.Forced, b.Desired)
	}
	w.now = limit
	w.quiet("the router may still say good-bye")
	w.now = last
	w.step()
	if b := w.get("b"); b.Desired != api.DesiredStop || !b.Forced {
		t.Errorf("after the limit b is to %s, forced %v", b.Desired, b.Forced)
	}
	w.quiet("all are on their way")
}

// TestARouterEndsWhatIsLeftAtTheLimit: it counts from when the table reached it, later than the
// servers, and must not find the process gone.
func TestARouterEndsWhatIsLeftAtTheLimit(t *testing.T) {
	w := newWorld(t, web())
	w.process("a", "web", api.HealthHealthy)
	w.step()
	w.ack("n1")
	w.step()
	w.apply(state.StopProcess{Process: "a", Reason: "scaled down"})
	w.step()
	w.ack("n1", "a")
	w.step()
	w.now = w.now.Add(web().Drain + time.Second)
	w.quiet("the router has a little time")
	w.ack("n1")
	w.step()
	if a := w.get("a"); a.Desired != api.DesiredStop || !a.Forced {
		t.Errorf("a is to %s, forced %v", a.Desired, a.Forced)
	}
}

// TestOtherAppsDoNotHoldUpAStop: what a router has to acknowledge is the table that dropped the
// target. In a busy rack there is always a newer one.
func TestOtherAppsDoNotHoldUpAStop(t *testing.T) {
	w := newWorld(t, web())
	w.process("a", "web", api.HealthHealthy)
	w.step()
	w.ack("n1")
	w.step()
	w.apply(state.StopProcess{Process: "a", Reason: "scaled down"})
	w.step()
	w.ack("n1")
	w.apply(state.CreateApp{App: api.App{Name: "blog"}})
	w.apply(state.SetRoutes{App: "blog", Routes: []api.Route{{Key: api.ServiceKey{App: "blog", Service: "web"}, Hosts: []string{"blog.test"}}}})
	if v := w.state.View(); v.RoutesVersion() == v.RoutesChanged("shop") {
		t.Fatal("the other app has changed no table")
	}
	w.step()
	if a := w.get("a"); a.Desired != api.DesiredStop || a.Forced {
		t.Errorf("a is to %s, forced %v", a.Desired, a.Forced)
	}
}

func TestHosts(t *testing.T) {
	api8, admin := web(), web()
	api8.Name, admin.Name = "api", "admin"
	admin.Domains = []string{"Admin.Example.com", "admin.shop.rack.test"}
	inside := api.ServiceSpec{Name: "inside", Port: api.Port{Number: 90}, Internal: true}
	for name, c := range map[string]struct {
		services []api.ServiceSpec
		want     [][]string
	}{
		"the only one":  {[]api.ServiceSpec{api8, inside}, [][]string{{"api.shop.rack.test", "shop.rack.test"}}},
		"web and other": {[]api.ServiceSpec{api8, web()}, [][]string{{"api.shop.rack.test"}, {"web.shop.rack.test", "shop.rack.test"}}},
		"own domains":   {[]api.ServiceSpec{api8, admin}, [][]string{{"admin.shop.rack.test", "admin.example.com"}, {"api.shop.rack.test"}}},
		"none":          {[]api.ServiceSpec{inside}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, c.services...)
			w.step()
			var got [][]string
			for _, r := range w.state.View().Routes("shop") {
				got = append(got, slices.Clone(r.Hosts))
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
			w.apply(state.DeleteApp{App: "shop"})
			w.step()
			if n := len(w.state.View().Routes("shop")); n != 0 {
				t.Errorf("%d routes of an app that is deleted", n)
			}
		})
	}
}

package reap

import (
	"fmt"
	"testing"
	"time"

	"slipway/api"
	"slipway/raftstore/state"
	"slipway/server/steps"
)

var t0 = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// world is a state with an app that has release R1 in force.
type world struct {
	t     *testing.T
	state *state.State
	index uint64
	now   time.Time
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, state: state.New(), now: t0}
	w.apply(state.CreateApp{App: api.App{Name: "shop"}})
	w.apply(state.RegisterNode{Node: api.Node{ID: "n1", Name: "n1", Capacity: api.Amount{CPU: 4000, Memory: api.GiB}}})
	w.deploy("R1")
	return w
}

func (w *world) apply(c state.Command) {
	w.t.Helper()
	w.index++
	if r := w.state.Apply(w.index, state.Entry{At: w.now, Command: c, Request: api.RequestID(fmt.Sprint("q", w.index))}); r.Err != nil || len(r.Dropped) > 0 {
		w.t.Fatalf("%s: %v %q", c.Type(), r.Err, r.Dropped)
	}
}

func (w *world) deploy(release api.ReleaseID) {
	w.apply(state.CreateRelease{Release: api.Release{ID: release, App: "shop", Services: []api.ServiceSpec{{Name: "web"}}}})
	d := api.Deployment{ID: api.DeploymentID("D" + release), App: "shop", Release: release}
	w.apply(state.CreateDeployment{Deployment: d})
	d.Status = api.DeploySucceeded
	w.apply(state.UpdateDeployment{Deployment: d})
}

// ended adds a process that has ended.
func (w *world) ended(id string, slot int, ran bool) {
	p := api.ProcessID(id)
	w.apply(state.CreateProcess{Process: api.Process{ID: p, App: "shop", Service: "web", Kind: api.KindService, Release: "R1", Slot: slot}})
	w.apply(state.ApplyPlan{Assign: []api.Assign{{Process: p, Node: "n1"}}})
	o := api.ProcessStatus{State: api.StateFailed, Finished: w.now}
	if ran {
		o.Started = w.now
	}
	w.apply(state.UpdateProcesses{Node: "n1", Statuses: map[api.ProcessID]api.ProcessStatus{p: o}})
}

// step takes one step over everything, applies it, and checks that the next finds nothing.
func (w *world) step() {
	w.t.Helper()
	for i := range 3 {
		cmds, wake := Step(w.state.View(), state.Everything(), steps.Input{Now: w.now})
		if i == 2 && len(cmds) > 0 {
			w.t.Fatalf("it does not come to rest: %+v", cmds)
		}
		if wake.IsZero() {
			w.t.Fatal("it never looks again")
		}
		for _, c := range cmds {
			w.index++
			w.state.Apply(w.index, state.Entry{At: w.now, Command: c})
		}
	}
}

func (w *world) processes() int {
	n := 0
	for range w.state.View().Processes() {
		n++
	}
	return n
}

func TestOldProcessesGo(t *testing.T) {
	w := newWorld(t)
	w.ended("ran", 1, true) // it knows where the volumes are
	for i := range 30 {
		w.now = w.now.Add(time.Second)
		w.ended(fmt.Sprintf("p%02d", i), 1, false)
	}
	w.step()
	if n := w.processes(); n != 31 {
		t.Errorf("%d processes of a new deployment are kept, want all 31", n)
	}
	w.now = w.now.Add(RecentAge)
	w.step()
	if n := w.processes(); n != EndedPerService+1 {
		t.Errorf("%d processes are kept, want %d", n, EndedPerService+1)
	}
	for _, id := range []api.ProcessID{"ran", "p29"} {
		if _, ok := w.state.View().Process(id); !ok {
			t.Errorf("process %s is gone", id)
		}
	}
}

// The back-off of a slot is computed from its last processes, however many other slots fail.
func TestSlotsThatAreWantedKeepTheirHistory(t *testing.T) {
	w := newWorld(t)
	w.apply(state.SetWant{Key: api.ServiceKey{App: "shop", Service: "web"}, Want: []api.Want{{Release: "R1", Count: 30}}})
	for i := range 30 * 5 {
		w.now = w.now.Add(time.Second)
		w.ended(fmt.Sprintf("p%03d", i), 1+i%30, true)
	}
	w.now = w.now.Add(RecentAge)
	w.step()
	if n := w.processes(); n != 30*EndedPerSlot {
		t.Errorf("%d processes are kept, want %d", n, 30*EndedPerSlot)
	}
}

func TestOldRecordsGo(t *testing.T) {
	w := newWorld(t)
	for i := range ReleasesPerApp + 10 {
		w.now = w.now.Add(time.Minute)
		w.deploy(api.ReleaseID(fmt.Sprintf("S%03d", i)))
	}
	w.apply(state.CreateProcess{Process: api.Process{ID: "one-off", App: "shop", Service: "web", Kind: api.KindRun, Release: "R1"}})
	w.step()
	releases, deployments, requests := 0, 0, 0
	for range w.state.View().Releases("shop") {
		releases++
	}
	for range w.state.View().Deployments("shop") {
		deployments++
	}
	for _, at := range w.state.View().Requests() {
		if requests++; w.now.Sub(at) >= RequestAge {
			t.Errorf("a request of %s is kept", w.now.Sub(at))
		}
	}
	if _, ok := w.state.View().Release("R1"); !ok || releases != ReleasesPerApp+1 {
		t.Errorf("%d releases are kept, want the newest %d and R1, which runs", releases, ReleasesPerApp)
	}
	if deployments != DeploymentsPerApp || requests == 0 {
		t.Errorf("%d deployments and %d requests are kept", deployments, requests)
	}
}

func TestADeletedAppGoesWhenNothingLives(t *testing.T) {
	w := newWorld(t)
	w.apply(state.CreateProcess{Process: api.Process{ID: "p1", App: "shop", Service: "web", Kind: api.KindRun, Release: "R1"}})
	w.apply(state.ApplyPlan{Assign: []api.Assign{{Process: "p1", Node: "n1"}}})
	w.apply(state.DeleteApp{App: "shop"})
	w.step()
	if p, ok := w.state.View().Process("p1"); !ok || p.Desired == api.DesiredRun {
		t.Fatalf("process %+v, want one that is to stop", p)
	}
	w.apply(state.UpdateProcesses{Node: "n1", Statuses: map[api.ProcessID]api.ProcessStatus{"p1": {State: api.StateExited}}})
	w.step()
	if _, ok := w.state.View().App("shop"); ok || w.processes() != 0 {
		t.Errorf("the app is still there, with %d processes", w.processes())
	}
}

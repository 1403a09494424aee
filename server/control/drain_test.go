package control_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"slipway/api"
	"slipway/raftstore/state"
	"slipway/server"
	"slipway/server/control"
)

var now = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

// fixture is a state that tests write to.
type fixture struct {
	t     *testing.T
	state *state.State
	index uint64
}

func newFixture(t *testing.T) *fixture {
	f := &fixture{t: t, state: state.New()}
	for _, id := range []api.NodeID{"n1", "n2", "n3"} {
		f.apply(state.RegisterNode{Node: api.Node{ID: id, Name: "host" + string(id[1:]), Capacity: api.Amount{CPU: 8000, Memory: 4 * api.GiB}}})
	}
	f.apply(state.CreateApp{App: api.App{Name: "shop"}})
	return f
}

func (f *fixture) apply(cmd state.Command) {
	f.t.Helper()
	f.index++
	if r := f.state.Apply(f.index, state.Entry{At: now, Actor: "ann", Command: cmd}); r.Err != nil || len(r.Dropped) > 0 {
		f.t.Fatalf("%s: %v %q", cmd.Type(), r.Err, r.Dropped)
	}
}

// run puts ready copies of a service on nodes. They took 4 s to become ready.
func (f *fixture) run(spec api.ServiceSpec, nodes ...api.NodeID) {
	f.t.Helper()
	if spec.Scale.Ask.CPU == 0 {
		spec.Scale.Ask = api.Amount{CPU: 100, Memory: 128 * api.MiB}
	}
	spec.Scale.Count = len(nodes)
	release := api.ReleaseID("R-" + spec.Name)
	f.apply(state.CreateRelease{Release: api.Release{ID: release, App: "shop", Services: []api.ServiceSpec{spec}}})
	g := api.Group{Key: api.ServiceKey{App: "shop", Service: spec.Name}, Release: release, Ask: spec.Scale.Ask}
	var ready state.SetReady
	for i, n := range nodes {
		id := api.ProcessID(fmt.Sprint(spec.Name, i+1))
		g.Copies = append(g.Copies, api.Copy{ID: id, Slot: i + 1, Node: n})
		ready.Ready = append(ready.Ready, id)
	}
	f.apply(state.CreateDeployment{Deployment: api.Deployment{ID: api.DeploymentID("D-" + spec.Name), App: "shop", Release: release}})
	f.apply(state.SetWant{Key: g.Key, Want: []api.Want{{Release: release, Count: len(nodes)}}})
	f.apply(state.ApplyPlan{Place: []api.Group{g}})
	for i, n := range nodes {
		status := api.ProcessStatus{State: api.StateRunning, Health: api.HealthHealthy, Started: now}
		f.apply(state.UpdateProcesses{Node: n, Statuses: map[api.ProcessID]api.ProcessStatus{g.Copies[i].ID: status}})
	}
	f.index++
	f.state.Apply(f.index, state.Entry{At: now.Add(4 * time.Second), Command: ready})
}

// What a drain says beforehand, for every kind of process that a node can have.
func TestPlanDrain(t *testing.T) {
	f := newFixture(t)
	pace := func(name api.ServiceName, minimum, maximum int) api.ServiceSpec {
		return api.ServiceSpec{Name: name, Minimum: minimum, Maximum: maximum, Grace: 10 * time.Second, Drain: 20 * time.Second}
	}
	f.run(pace("web", 50, 200), "n1", "n2")
	f.run(pace("first", 50, 200), "n1")
	f.run(pace("last", 0, 100), "n1")
	one := pace("one", 100, 200)
	one.Singleton, one.Port = true, api.Port{Number: 80, Scheme: api.SchemeHTTP}
	f.run(one, "n1")
	data := pace("data", 100, 200)
	data.Volumes = []api.Volume{{Name: "db", Path: "/data"}}
	f.run(data, "n1")
	big := pace("big", 100, 200)
	big.Scale.Ask = api.Amount{CPU: 100, Memory: 2 * api.GiB}
	f.run(big, "n1", "n2", "n3")
	wide := pace("wide", 50, 100)
	wide.Scale.Ask = api.Amount{CPU: 5000, Memory: 100 * api.MiB}
	f.run(wide, "n1", "n2", "n3")
	logs := pace("logs", 50, 100)
	logs.Agent = true
	f.run(logs, "n1", "n2", "n3")
	f.apply(state.CreateProcess{Process: api.Process{ID: "run1", App: "shop", Service: "web", Release: "R-web", Kind: api.KindRun}})
	f.apply(state.ApplyPlan{Assign: []api.Assign{{Process: "run1", Node: "n1"}}})
	f.run(pace("going", 50, 200), "n1")
	f.apply(state.StopProcess{Process: "going1", Reason: "stopped by ann"})

	q := &control.Inquiry{View: f.state.View(), Scheduler: server.Planner{}, Now: now, IDs: api.NewIDs(1)}
	plan, err := q.PlanDrain("n1")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range plan.Moves {
		to := "elsewhere"
		if m.To == "" {
			to = "nowhere"
		}
		got = append(got, fmt.Sprintf("%s %s, downtime %v %s: %s; %s", m.Process, to, m.Downtime, m.Expected, m.Reason, m.Wait))
	}
	want := []string{
		"big1 nowhere, downtime false 0s: it runs on here until there is room elsewhere; 1 waiting: not enough memory on 2 nodes (needs 2 GiB, largest free 1.7 GiB); 1 node is draining",
		"data1 nowhere, downtime false 0s: its volume is on this node; it runs on here until it is stopped; 1 waiting: its volume is on node n1: 1 node is draining",
		"first1 elsewhere, downtime false 0s: ; ",
		"going1 nowhere, downtime false 0s: it is on its way out already; ",
		"last1 elsewhere, downtime true 14s: deployment.minimum lets it stop before its successor starts, and no other copy serves; ",
		"logs1 nowhere, downtime false 0s: it runs once on every node, and is not needed here any more; ",
		"one1 elsewhere, downtime true 34s: it is a singleton: it stops before its successor starts; ",
		"run1 nowhere, downtime false 0s: it runs to its end, which the drain waits for; ",
		"web1 elsewhere, downtime false 0s: ; ",
		"wide1 nowhere, downtime false 0s: it may stop before there is room elsewhere, as far as deployment.minimum allows; 1 waiting: not enough cpu on 2 nodes (needs 5 cpu, largest free 2.7 cpu); 1 node is draining",
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", lines(got), lines(want))
	}
	if n, _ := f.state.View().Node("n1"); n.Draining {
		t.Error("the question drains the node")
	}
}

func lines(all []string) (text string) {
	for _, line := range all {
		text += line + "\n"
	}
	return text
}

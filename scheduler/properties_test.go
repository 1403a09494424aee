package scheduler

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"slipway/api"
)

var zones = []string{"a", "b", "c"}

// drawRack makes a rack in any state that a life could have led to.
func drawRack(t *rapid.T) *rack {
	r := newRack()
	for i := range rapid.IntRange(0, 8).Draw(t, "nodes") {
		n := r.node(fmt.Sprintf("n%d", i), api.Amount{
			CPU:    api.MilliCPU(rapid.IntRange(100, 4000).Draw(t, "cpu")),
			Memory: api.Bytes(rapid.IntRange(64, 4096).Draw(t, "mem")) * api.MiB, Disk: 10 * api.GiB,
		})
		n.Labels["zone"] = rapid.SampledFrom(zones).Draw(t, "zone")
		n.Reserved = api.Amount{CPU: api.MilliCPU(rapid.IntRange(0, 99).Draw(t, "reserved")), Memory: 10 * api.MiB}
		n.Draining = rapid.IntRange(0, 7).Draw(t, "draining") == 0
		n.Cordoned = rapid.IntRange(0, 5).Draw(t, "cordoned") == 0
		if rapid.IntRange(0, 5).Draw(t, "down") == 0 {
			n.Status = api.NodeDown
		}
	}
	if rapid.Bool().Draw(t, "spreading pool") {
		r.pools = map[api.PoolName]*api.Pool{api.DefaultPool: {Name: api.DefaultPool, Strategy: api.EvenOut}}
	}
	for i := range rapid.IntRange(1, 4).Draw(t, "services") {
		name := fmt.Sprintf("s%d", i)
		want := []api.Want{}
		for _, release := range []string{"R2", "R1"} {
			r.spec(release, drawSpec(t, name))
			if count := rapid.IntRange(0, 6).Draw(t, "count"); count > 0 {
				want = append(want, api.Want{Release: api.ReleaseID(release), Count: count})
			}
		}
		r.wholly(t, name)
		r.want(name, want...)
		if rapid.Bool().Draw(t, "restarted") {
			r.services[key(name)].RestartAt = r.now.Add(-time.Minute)
		}
	}
	return r
}

func drawSpec(t *rapid.T, name string) *api.ServiceSpec {
	s := &api.ServiceSpec{Name: api.ServiceName(name), Singleton: rapid.IntRange(0, 4).Draw(t, "singleton") == 0, Priority: rapid.SampledFrom([]int{0, 5, 10, 50}).Draw(t, "priority")}
	s.Scale.Ask = api.Amount{
		CPU: api.MilliCPU(rapid.IntRange(0, 500).Draw(t, "ask cpu")), Memory: api.Bytes(rapid.IntRange(1, 900).Draw(t, "ask mem")) * api.MiB,
	}
	if rapid.Bool().Draw(t, "constrained") {
		s.Constraints = []api.Constraint{{
			Attribute: "node.label.zone", Operator: rapid.SampledFrom([]string{"=", "!="}).Draw(t, "operator"),
			Value: rapid.SampledFrom(zones).Draw(t, "value"),
		}}
	}
	switch rapid.IntRange(0, 5).Draw(t, "distinct") {
	case 0:
		s.Constraints = append(s.Constraints, api.Constraint{Operator: api.DistinctHosts})
	case 1:
		s.Constraints = append(s.Constraints, api.Constraint{
			Attribute: "node.label.zone", Operator: api.DistinctProperty, Value: rapid.SampledFrom([]string{"", "1", "2"}).Draw(t, "most"),
		})
	}
	switch rapid.IntRange(0, 3).Draw(t, "spread") {
	case 0:
		s.Spreads = []api.Spread{{Attribute: "node.label.zone", Weight: 50}}
	case 1:
		s.Spreads = []api.Spread{{Attribute: "node.label.zone", Weight: 50, Targets: map[string]int{"a": 60}}, {Attribute: "node.name", Weight: 10}}
	}
	if rapid.Bool().Draw(t, "prefers") {
		s.Affinities = []api.Affinity{
			{Attribute: "node.label.zone", Operator: "=", Value: rapid.SampledFrom(zones).Draw(t, "preferred"), Weight: rapid.IntRange(-100, 100).Draw(t, "weight")},
			{Attribute: "node.name", Operator: "=", Value: "n1", Weight: 10},
		}
	}
	switch rapid.IntRange(0, 5).Draw(t, "ports") {
	case 0:
		s.HostPorts = []api.HostPort{{Host: 80, Port: 80, Protocol: api.TCP}}
	case 1:
		s.HostPorts = []api.HostPort{{Port: 80, Protocol: api.TCP}, {Port: 81, Protocol: api.UDP}}
	}
	return s
}

// wholly makes all releases of a service agents, or none.
func (r *rack) wholly(t *rapid.T, service string) {
	agent := rapid.IntRange(0, 4).Draw(t, "agent") == 0
	for _, services := range r.specs {
		s := services[api.ServiceName(service)]
		s.Agent, s.Singleton = agent, s.Singleton && !agent
	}
}

// live lets things happen to the processes.
func (r *rack) live(t *rapid.T) {
	for _, p := range r.processes {
		if !p.Live() {
			continue
		}
		switch rapid.IntRange(0, 5).Draw(t, "fate") {
		case 0:
			p.Observed.State, p.Observed.Finished, p.Ready = api.StateExited, r.now, false
		case 1:
			p.Observed.State, p.Observed.Started, p.Ready = api.StateRunning, r.now, p.Desired == api.DesiredRun
		case 2:
			if p.Desired != api.DesiredRun {
				p.Observed.State, p.Observed.Finished = api.StateExited, r.now
			}
		}
	}
	r.now = r.now.Add(time.Duration(rapid.IntRange(0, 90).Draw(t, "seconds")) * time.Second)
}

// TestPlansAreSafe checks every plan of a random life.
func TestPlansAreSafe(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := drawRack(t)
		for range rapid.IntRange(1, 6).Draw(t, "steps") {
			before := len(r.processes)
			plan, _ := r.schedule()
			if again, _ := r.schedule(); !reflect.DeepEqual(plan, again) {
				t.Fatalf("the same question has two answers:\n%+v\n%+v", plan, again)
			}
			r.apply(plan)
			r.checkSafe(t, r.processes[before:])
			r.checkConserved(t, plan)
			// The clock and the reports stand still: there is nothing left to do.
			if again, _ := r.schedule(); !again.Empty() {
				t.Fatalf("the plan was applied, but there is more:\n%+v\nafter\n%+v", again, plan)
			}
			r.live(t)
		}
	})
}

// checkSafe: no node over capacity, no constraint violated, slots and singletons unique.
func (r *rack) checkSafe(t *rapid.T, placed []*api.Process) {
	byID := map[api.NodeID]*api.Node{}
	for _, n := range r.nodes {
		byID[n.ID] = n
		if used := r.Used(n.ID); len(used.HostPorts) > 0 {
			for i, p := range used.HostPorts {
				if (api.Usage{Grant: api.Grant{HostPorts: used.HostPorts[:i]}}).HoldsPort(p.Host, p.Protocol) {
					t.Fatalf("%s of node %s is given twice", p.Name(), n.ID)
				}
			}
		}
		if !r.Used(n.ID).Fits(n.Available()) {
			t.Fatalf("node %s is over capacity: %+v of %+v", n.ID, r.Used(n.ID), n.Available())
		}
	}
	for _, p := range placed {
		spec, _ := r.Spec(p.Release, p.Service)
		if n := byID[p.Node]; !n.Eligible() || !spec.Suits(n) {
			t.Fatalf("%s is placed on node %+v, its constraints are %+v", p.ID, n, spec.Constraints)
		}
	}
	type slot struct {
		key     api.ServiceKey
		release api.ReleaseID
		slot    int
	}
	slots, newest := map[slot]int{}, map[api.ServiceKey]int{}
	for _, p := range r.processes {
		if p.Live() && p.Desired == api.DesiredRun {
			if slots[slot{p.Key(), p.Release, p.Slot}]++; slots[slot{p.Key(), p.Release, p.Slot}] > 1 {
				t.Fatalf("slot %d of %s in %s is held twice", p.Slot, p.Key(), p.Release)
			}
		}
		if p.Live() {
			newest[p.Key()]++
		}
	}
	for _, p := range placed {
		if spec, _ := r.Spec(p.Release, p.Service); spec.Singleton && !spec.Agent && newest[p.Key()] > 1 {
			t.Fatalf("singleton %s has %d live copies", p.Key(), newest[p.Key()])
		}
	}
}

// checkConserved: never more copies than wanted, and whoever is missing has a sentence.
func (r *rack) checkConserved(t *rapid.T, plan api.Plan) {
	for _, k := range r.keys() {
		svc := r.services[k]
		have, wanted := map[api.ReleaseID]int{}, 0
		for _, p := range r.processes {
			if p.Key() == k && p.Live() && p.Desired == api.DesiredRun {
				have[p.Release]++
			}
		}
		missing := 0
		for _, w := range svc.Want {
			wanted += w.Count
			if have[w.Release] > w.Count {
				t.Fatalf("%s has %d copies of %s, wanted are %d", k, have[w.Release], w.Release, w.Count)
			}
			missing += w.Count - have[w.Release]
			delete(have, w.Release)
		}
		if len(have) > 0 {
			t.Fatalf("%s has copies that nobody wants: %v", k, have)
		}
		if (missing > 0) != (plan.Waiting[k] != "") {
			t.Fatalf("%s misses %d of %d copies and says %q", k, missing, wanted, plan.Waiting[k])
		}
	}
}

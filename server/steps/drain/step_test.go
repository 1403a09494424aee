package drain

import (
	"fmt"
	"testing"
	"time"

	"slipway/api"
	"slipway/raftstore/state"
	"slipway/server/steps"
)

// Copies that run once on every node leave a draining one, and nothing else does here: the rollout
// replaces the others, and one-offs get to their end.
func TestOnlyAgentsLeave(t *testing.T) {
	s, index := state.New(), uint64(0)
	apply := func(cmd state.Command) {
		t.Helper()
		index++
		if r := s.Apply(index, state.Entry{At: time.Unix(int64(index), 0), Command: cmd}); r.Err != nil || len(r.Dropped) > 0 {
			t.Fatalf("%s: %v %q", cmd.Type(), r.Err, r.Dropped)
		}
	}
	apply(state.CreateApp{App: api.App{Name: "shop"}})
	apply(state.CreateRelease{Release: api.Release{ID: "R1", App: "shop", Services: []api.ServiceSpec{{Name: "web"}, {Name: "logs", Agent: true}}}})
	for _, id := range []api.NodeID{"n1", "n2"} {
		apply(state.RegisterNode{Node: api.Node{ID: id, Name: string(id), Capacity: api.Amount{CPU: 1, Memory: 1}}})
		for _, p := range []api.Process{
			{Service: "web", Kind: api.KindService}, {Service: "logs", Kind: api.KindService}, {Service: "logs", Kind: api.KindRun},
		} {
			p.ID = api.ProcessID(fmt.Sprint(id, "-", p.Service, "-", p.Kind))
			p.App, p.Release, p.Slot = "shop", "R1", 1
			if id == "n2" {
				p.Slot = 2
			}
			apply(state.CreateProcess{Process: p})
			apply(state.ApplyPlan{Assign: []api.Assign{{Process: p.ID, Node: id}}})
		}
	}
	if cmds, _ := Step(s.View(), state.Everything(), steps.Input{}); len(cmds) > 0 {
		t.Fatalf("no node drains: %+v", cmds)
	}
	yes := true
	apply(state.UpdateNode{Node: "n1", Draining: &yes})
	cmds, _ := Step(s.View(), state.Everything(), steps.Input{})
	want := state.StopProcess{Process: "n1-logs-service", Reason: "node n1 is draining"}
	if len(cmds) != 1 || cmds[0] != want {
		t.Fatalf("decided %+v, want %+v", cmds, want)
	}
	apply(cmds[0])
	if cmds, _ := Step(s.View(), state.Everything(), steps.Input{}); len(cmds) > 0 {
		t.Fatalf("decided again: %+v", cmds)
	}
}

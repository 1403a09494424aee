package drain

import (
	"fmt"
	"testing"
	"time"

	"slipway/api"
	"slipway/raftstore/state"
	"slipway/server/steps"
)

// TestLeaving: on the draining node n1 are copies that serve ("r") or do not ("i"), on n2 too.
func TestLeaving(t *testing.T) {
	for name, c := range map[string]struct {
		wanted, minimum int
		here, there     string
		singleton       bool
		want            int
	}{
		"as many as may be missing":     {wanted: 4, minimum: 50, here: "rrr", there: "r", want: 2},
		"one at a time at least":        {wanted: 2, minimum: 100, here: "rr", want: 1},
		"the replacement is not ready":  {wanted: 2, minimum: 100, here: "r", there: "i", want: 0},
		"the replacement is ready":      {wanted: 2, minimum: 100, here: "r", there: "r", want: 1},
		"what does not serve may go":    {wanted: 2, minimum: 100, here: "ii", want: 2},
		"a single copy":                 {wanted: 1, minimum: 50, here: "r", want: 1},
		"a singleton":                   {wanted: 1, minimum: 100, here: "r", singleton: true, want: 1},
		"nothing is here":               {wanted: 2, minimum: 50, there: "rr", want: 0},
		"some are missing anyway, wait": {wanted: 4, minimum: 75, here: "rr", there: "r", want: 0},
	} {
		t.Run(name, func(t *testing.T) {
			s, index := state.New(), uint64(0)
			apply := func(cmd state.Command) {
				index++
				if r := s.Apply(index, state.Entry{At: time.Unix(int64(index), 0), Command: cmd}); r.Err != nil || len(r.Dropped) > 0 {
					t.Fatalf("%s: %v %q", cmd.Type(), r.Err, r.Dropped)
				}
			}
			spec := api.ServiceSpec{Name: "web", Minimum: c.minimum, Singleton: c.singleton}
			apply(state.CreateApp{App: api.App{Name: "shop"}})
			apply(state.CreateRelease{Release: api.Release{ID: "R1", App: "shop", Services: []api.ServiceSpec{spec}}})
			apply(state.SetWant{Key: api.ServiceKey{App: "shop", Service: "web"}, Want: []api.Want{{Release: "R1", Count: c.wanted}}})
			slot := 0
			for node, copies := range []string{c.here, c.there} {
				id := api.NodeID(fmt.Sprintf("n%d", node+1))
				apply(state.RegisterNode{Node: api.Node{ID: id, Name: string(id), Capacity: api.Amount{CPU: 1, Memory: 1}}})
				for _, kind := range copies {
					slot++
					p := api.ProcessID(fmt.Sprintf("p%d", slot))
					apply(state.CreateProcess{Process: api.Process{ID: p, App: "shop", Service: "web", Kind: api.KindService, Release: "R1", Slot: slot}})
					apply(state.ApplyPlan{Assign: []api.Assign{{Process: p, Node: id}}})
					if kind == 'r' {
						apply(state.SetReady{Ready: []api.ProcessID{p}})
					}
				}
			}
			if cmds, _ := Step(s.View(), state.Everything(), steps.Input{}); len(cmds) > 0 {
				t.Fatalf("no node drains: %+v", cmds)
			}
			yes := true
			apply(state.UpdateNode{Node: "n1", Draining: &yes})
			cmds, _ := Step(s.View(), state.Everything(), steps.Input{})
			if len(cmds) != c.want {
				t.Errorf("%d leave, want %d: %+v", len(cmds), c.want, cmds)
			}
			for _, cmd := range cmds {
				if p, _ := s.View().Process(cmd.(state.StopProcess).Process); p.Node != "n1" {
					t.Errorf("process %s of node %s leaves", p.ID, p.Node)
				}
			}
		})
	}
}

package liveness

import (
	"fmt"
	"testing"
	"time"

	"slipway/api"
	"slipway/raftstore/state"
	"slipway/server/steps"
)

var t0 = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func TestStep(t *testing.T) {
	s := func(n int) time.Duration { return time.Duration(n) * time.Second }
	for name, c := range map[string]struct {
		beats  []time.Duration // of n1, n2 …, from t0; negative for never
		leader time.Duration
		now    time.Duration
		limit  time.Duration
		silent bool // all are attached
		down   string
		wake   time.Duration // 0 for none
	}{
		"all speak":                     {beats: []time.Duration{s(98), s(99)}, now: s(100), wake: s(108)},
		"one is silent":                 {beats: []time.Duration{s(90), s(99)}, now: s(100), down: "n1 ", wake: s(109)},
		"not yet":                       {beats: []time.Duration{s(90), s(99)}, now: s(100) - 1, wake: s(100)},
		"a new leader gives a grace":    {beats: []time.Duration{-1, -1}, leader: s(95), now: s(100), wake: s(105) + 2*greetCost},
		"and no more than that":         {beats: []time.Duration{-1, s(99)}, leader: s(95), now: s(105) + 2*greetCost, down: "n1 ", wake: s(109)},
		"of others it has heard":        {beats: []time.Duration{s(96), s(99)}, leader: s(96), now: s(100), silent: true, down: "n1 ", wake: s(103)},
		"another limit":                 {beats: []time.Duration{s(90), s(99)}, now: s(100), limit: s(30), wake: s(120)},
		"a small rack is not held back": {beats: []time.Duration{s(1), s(1)}, now: s(100), down: "n1 n2 "},
		"attached and silent":           {beats: []time.Duration{s(96), s(97)}, now: s(100), silent: true, down: "n1 ", wake: s(101)},
		"half of a rack at once":        {beats: []time.Duration{s(90), s(90), s(99), s(99)}, now: s(100), wake: s(109)},
		"a quarter is real":             {beats: []time.Duration{s(90), s(99), s(99), s(99)}, now: s(100), down: "n1 ", wake: s(109)},
		"so is half for two minutes":    {beats: []time.Duration{s(90), s(90), s(219), s(219)}, now: s(220), down: "n1 n2 ", wake: s(229)},
	} {
		t.Run(name, func(t *testing.T) {
			st, in := state.New(), steps.Input{
				Now: t0.Add(c.now), Leader: t0.Add(c.leader), Heartbeats: map[api.NodeID]time.Time{}, Silence: c.limit,
			}
			for i, beat := range c.beats {
				id := api.NodeID(fmt.Sprintf("n%d", i+1))
				st.Apply(uint64(i+1), state.Entry{At: t0, Command: state.RegisterNode{Node: api.Node{
					ID: id, Name: string(id), Capacity: api.Amount{CPU: 1, Memory: 1},
				}}})
				in.Attached = map[api.NodeID]bool{"n1": c.silent, "n2": c.silent}
				if beat >= 0 {
					in.Heartbeats[id] = t0.Add(beat)
				}
			}
			cmds, wake := Step(st.View(), state.Everything(), in)
			down := ""
			for _, cmd := range cmds {
				down += string(cmd.(state.SetNodeStatus).Node) + " "
			}
			if down != c.down {
				t.Errorf("down are %q, want %q", down, c.down)
			}
			if want := t0.Add(c.wake); c.wake == 0 && !wake.IsZero() || c.wake != 0 && !wake.Equal(want) {
				t.Errorf("wakes at %s, want %s", wake, want)
			}
		})
	}
}

// TestLooks: a change of a node has all nodes looked at; what else changes costs nothing, and leaves the
// wake-up that was asked for as it is.
func TestLooks(t *testing.T) {
	st, node := state.New(), api.NodeID("n1")
	st.Apply(1, state.Entry{At: t0, Command: state.RegisterNode{Node: api.Node{ID: node, Name: "n1", Capacity: api.Amount{CPU: 1, Memory: 1}}}})
	in := steps.Input{Now: t0.Add(time.Hour), Leader: t0}
	for _, c := range []struct {
		what string
		ch   state.Changes
		down int
	}{
		{"everything", state.Everything(), 1},
		{"a node", state.Changes{Nodes: map[api.NodeID]bool{"n2": true}}, 1},
		{"an app", state.Changes{Apps: map[api.AppName]bool{"shop": true}}, 0},
	} {
		cmds, wake := Step(st.View(), c.ch, in)
		if len(cmds) != c.down || !wake.IsZero() || Looks(c.ch) != (c.down > 0) {
			t.Errorf("after a change of %s: %v, wakes at %s, looks %t", c.what, cmds, wake, Looks(c.ch))
		}
	}
}

package liveness

import (
	"fmt"
	"time"

	"slipway/api"
	"slipway/raftstore/state"
	"slipway/server/steps"
)

// SilenceMax is how long a node may say nothing before its processes are replaced, unless the
// rack is configured otherwise.
const SilenceMax = 10 * time.Second

// brokenMax is how long a node may say nothing whose session has not ended. An agent that stops,
// crashes or is upgraded ends its session, and a machine that lives tells so: what is attached and
// silent has lost its power or its network. Agents speak each second, or every other.
const brokenMax = 4 * time.Second

// greetCost is what a leader may take to let a node in: those of a large rack come to a new leader one
// after the other, and one that waits for its turn is not silent.
const greetCost = 5 * time.Millisecond

// When many nodes fall silent at once, the fault is more likely here than there, and replacing
// everything at once makes things worse: nothing is replaced for holdMax longer. A fault that
// lasts is a real one.
const (
	holdFrom    = 4  // nodes
	holdPercent = 30 // of the nodes that were ready
	holdMax     = 2 * time.Minute
)

// silent is a node that passed its deadline.
type silent struct {
	node  api.NodeID
	since time.Time // when it was last heard of, or might have been
	limit time.Duration
}

// Looks reports whether Step looks at the nodes, and so at their heartbeats, when this has changed. Between
// changes of nodes only time moves, for which it has asked to be woken.
func Looks(ch state.Changes) bool { return ch.All || len(ch.Nodes) > 0 }

// Step finds the nodes that went silent.
func Step(v *state.View, ch state.Changes, in steps.Input) (cmds []state.Command, wake time.Time) {
	if !Looks(ch) {
		return nil, time.Time{}
	}
	limit := in.Silence
	if limit == 0 {
		limit = SilenceMax
	}
	var gone []silent
	ready := 0
	for n := range v.Nodes() {
		if n.Status == api.NodeReady {
			ready++
		}
	}
	for n := range v.Nodes() {
		if n.Status != api.NodeReady {
			continue
		}
		s := silent{n.ID, heard(n, in, time.Duration(ready)*greetCost), limit}
		if in.Attached[n.ID] {
			s.limit = min(limit, brokenMax)
		}
		if deadline := s.since.Add(s.limit); in.Now.Before(deadline) {
			wake = steps.Sooner(wake, deadline)
			continue
		}
		gone = append(gone, s)
	}
	hold := ready >= holdFrom && 100*len(gone) > holdPercent*ready
	for _, s := range gone {
		if until := s.since.Add(s.limit + holdMax); hold && in.Now.Before(until) {
			wake = steps.Sooner(wake, until)
			continue
		}
		cmds = append(cmds, state.SetNodeStatus{
			Node: s.node, Status: api.NodeDown, Reason: fmt.Sprintf("silent for %s", in.Now.Sub(s.since).Round(time.Second)),
		})
	}
	return cmds, wake
}

// heard is when a node last gave a sign of life, or may have waited to give one: this leader has heard
// nothing from before its election, and a node that has just become ready may not have sent its first
// heartbeat. greet is how long the leader may take to let all nodes in.
func heard(n *api.Node, in steps.Input, greet time.Duration) time.Time {
	at := in.Leader
	if beat, ok := in.Heartbeats[n.ID]; ok && !beat.Before(at) {
		at = beat
	} else {
		at = at.Add(greet)
	}
	if n.Since.After(at) {
		at = n.Since
	}
	return at
}

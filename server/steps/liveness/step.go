package liveness

import (
	"fmt"
	"time"

	"slipway/api"
	"slipway/raftstore/state"
	"slipway/server/steps"
)

// SilenceMax is how long a node may say nothing before its processes are replaced.
const SilenceMax = 15 * time.Second

// When more than a third of at least holdFrom nodes are silent at once, the fault is more
// likely here than there: nothing is replaced.
const holdFrom = 4

// Step finds the nodes that went silent.
func Step(v *state.View, _ state.Changes, in steps.Input) (cmds []state.Command, wake time.Time) {
	total := 0
	for n := range v.Nodes() {
		if n.Status != api.NodeReady {
			continue
		}
		total++
		heard := in.Leader
		if at, ok := in.Heartbeats[n.ID]; ok && at.After(heard) {
			heard = at
		}
		deadline := heard.Add(SilenceMax)
		if in.Now.Before(deadline) {
			wake = steps.Sooner(wake, deadline)
			continue
		}
		cmds = append(cmds, state.SetNodeStatus{
			Node: n.ID, Status: api.NodeDown,
			Reason: fmt.Sprintf("silent for %s", in.Now.Sub(heard).Round(time.Second)),
		})
	}
	if total >= holdFrom && 3*len(cmds) > total {
		return nil, in.Now.Add(SilenceMax)
	}
	return cmds, wake
}

package drain

import (
	"time"

	"slipway/api"
	"slipway/raftstore/state"
	"slipway/server/steps"
)

// Step ends the copies on draining nodes that run once on every node: nothing takes their place,
// so that there is no pace to keep.
func Step(v *state.View, _ state.Changes, _ steps.Input) (cmds []state.Command, wake time.Time) {
	for n := range v.Nodes() {
		if !n.Draining {
			continue
		}
		for p := range v.ProcessesOn(n.ID) {
			if p.Kind != api.KindService || p.Desired != api.DesiredRun {
				continue
			}
			if spec, ok := v.Spec(p.Release, p.Service); ok && spec.Agent {
				cmds = append(cmds, state.StopProcess{Process: p.ID, Reason: "node " + n.Name + " is draining"})
			}
		}
	}
	return cmds, time.Time{}
}

package builds

import (
	"time"

	"slipway/api"
	"slipway/raftstore/state"
	"slipway/server/steps"
)

// Ask is what a build reserves on its node.
func Ask() api.Amount { return api.Amount{CPU: 250, Memory: 512 * api.MiB} }

// Step looks at the builds that have not ended.
func Step(v *state.View, _ state.Changes, in steps.Input) (cmds []state.Command, wake time.Time) {
	for b := range v.BuildsOpen() {
		if b.Status == api.BuildCreated {
			cmds = append(cmds, begin(b, in)...)
			continue
		}
		p, ok := v.Process(b.Process)
		switch {
		case !ok:
			cmds = append(cmds, state.EndBuild{Build: b.ID, Failure: "the process that built it is gone"})
		case p.Live() || p.Observed.State == api.StateExited && p.Observed.ExitCode == 0:
			// Still building, or waiting for the control service to make the release.
		default:
			failure := p.Observed.Message
			if failure == "" {
				failure = "the process that built it " + p.Observed.State.String()
			}
			cmds = append(cmds, state.EndBuild{Build: b.ID, Failure: failure})
		}
	}
	return cmds, time.Time{}
}

func begin(b *api.Build, in steps.Input) []state.Command {
	id := in.IDs.Process()
	return []state.Command{
		state.CreateProcess{Process: api.Process{
			ID: id, App: b.App, Service: "build", Kind: api.KindBuild, Build: b.ID, Ask: Ask(),
			Cause: "build " + string(b.ID) + " was asked for by " + b.Author,
		}},
		state.StartBuild{Build: b.ID, Process: id},
	}
}

package builds

import (
	"time"

	"slipway/api"
	"slipway/raftstore/state"
	"slipway/server/steps"
)

// Ask is what a build reserves on its node; it may use more processor time where that is free.
func Ask() api.Amount { return api.Amount{CPU: 500, Memory: 512 * api.MiB} }

// Step looks at the builds that have not ended.
func Step(v *state.View, _ state.Changes, in steps.Input) (cmds []state.Command, wake time.Time) {
	for b := range v.BuildsOpen() {
		if b.Imported() {
			continue // the control service makes the release
		}
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
			cmds = append(cmds, state.EndBuild{Build: b.ID, Failure: failureOf(p)})
		}
	}
	return cmds, time.Time{}
}

// failureOf says why a build failed, in the words of its node where there are any.
func failureOf(p *api.Process) string {
	switch o := p.Observed; {
	case o.State == api.StateLost:
		return "its node was lost: " + o.Message + "; build again"
	case p.Reason != "":
		return "it was stopped: " + p.Reason
	case o.Message != "":
		return o.Message
	default:
		return "its process " + o.State.String()
	}
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

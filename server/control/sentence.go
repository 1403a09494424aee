package control

import (
	"fmt"

	"slipway/api"
	"slipway/raftstore/state"
)

// ending says how a process ended.
func ending(p *api.Process) string {
	o := &p.Observed
	text := "was lost with its node"
	switch {
	case o.State == api.StateExited && o.OOM:
		text = fmt.Sprintf("was ended by the kernel: it used more memory than its limit of %s allows", p.Ask.Memory)
	case o.State == api.StateExited && p.Desired != api.DesiredRun:
		text = fmt.Sprintf("stopped with exit code %d", o.ExitCode)
	case o.State == api.StateExited:
		text = fmt.Sprintf("exited by itself with code %d", o.ExitCode)
	case o.State == api.StateFailed:
		text = "failed"
	}
	return text + described(o.Message)
}

// probeSentence says what a probe found.
func probeSentence(r *api.ProbeResult) string {
	found := r.Error
	if found == "" {
		found = fmt.Sprintf("answered %d", r.Status)
	}
	return fmt.Sprintf("%s check %s: %s (%s in a row)", r.Kind, r.Target, found, times(r.Failures))
}

func times(n int) string {
	if n == 1 {
		return "1 time"
	}
	return fmt.Sprintf("%d times", n)
}

// failureOf is the evidence that a process leaves; nil when it did nothing wrong.
func failureOf(p *api.Process) *api.Failure {
	o := &p.Observed
	bad := o.Probe != nil || o.OOM || o.State == api.StateFailed || o.State == api.StateLost ||
		o.State == api.StateExited && o.ExitCode != 0 && p.Desired == api.DesiredRun
	if !bad {
		return nil
	}
	reason := ending(p)
	if p.Live() && o.Probe != nil {
		reason = probeSentence(o.Probe)
	}
	return &api.Failure{
		Service: p.Service, Process: p.ID, Reason: reason, State: o.State, ExitCode: o.ExitCode, OOM: o.OOM,
		Probe: o.Probe, Sockets: o.Sockets.All(), Lines: o.Lines.All(),
	}
}

// described appends a text that may be empty.
func described(text string) string {
	if text == "" {
		return ""
	}
	return ": " + text
}

func orElse(text, other string) string {
	if text == "" {
		return other
	}
	return text
}

// copyOf names what a process is.
func copyOf(p *api.Process) string {
	switch p.Kind {
	case api.KindService:
		return fmt.Sprintf(" as copy %d of %s", p.Slot, p.Service)
	case api.KindBuild:
		return " to build"
	}
	return fmt.Sprintf(" to run a command with the image of %s", p.Service)
}

// node returns the name of a node.
func (w *story) node(id api.NodeID) string {
	if n, ok := w.view.Node(id); ok && n.Name != "" {
		return n.Name
	}
	return string(id)
}

// waiting returns why a process has no node.
func (w *story) waiting(p *api.Process) string {
	if p.Observed.Message != "" {
		return described(p.Observed.Message)
	}
	return described(waits(w.view, p))
}

// waits is what the scheduler says of a process without a node.
func waits(v *state.View, p *api.Process) string {
	if service, ok := v.Service(p.Key()); ok && p.Kind == api.KindService {
		return service.Waiting
	}
	return p.Waiting
}

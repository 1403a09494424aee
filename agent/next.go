package agent

import (
	"fmt"
	"time"

	"slipway/api"
)

// Action is the one thing to do next for a process.
type Action int

// The actions.
const (
	// ActNone waits for a change or for the wake-up time.
	ActNone Action = iota
	// ActPull fetches and unpacks the image.
	ActPull
	// ActCreate makes the network, the volumes and the container.
	ActCreate
	// ActStart starts the main process.
	ActStart
	// ActBuild runs an image build; it takes the place of pull, create and start.
	ActBuild
	// ActTerm asks the main process to end.
	ActTerm
	// ActKill ends it.
	ActKill
	// ActClean removes container, network and what else the process held.
	ActClean
	// ActForget drops the record: servers know the end, nothing is left on the node.
	ActForget
)

var actionNames = [...]string{"none", "pull", "create", "start", "build", "term", "kill", "clean", "forget"}

// String returns the action's name.
func (a Action) String() string { return actionNames[a] }

// Local is what the agent knows about one process: facts about the node, and the status to
// report. Supervisors fill in the facts, Next derives the status.
type Local struct {
	Status api.ProcessStatus `json:"status"`
	// Image: unpacked. Container: record, network and volumes exist. Task: the main process
	// was started.
	Image     bool `json:"image,omitempty"`
	Container bool `json:"container,omitempty"`
	Task      bool `json:"task,omitempty"`
	// Exit is how the main process ended; nil while it lives.
	Exit *Exit `json:"exit,omitempty"`
	// TermAt and KillAt are when the signals were sent.
	TermAt time.Time `json:"term_at,omitzero"`
	KillAt time.Time `json:"kill_at,omitzero"`
	// Failures counts failed attempts of the action in Failed; Error is the last one and
	// Fatal means that trying again cannot help.
	Failures int       `json:"failures,omitempty"`
	Failed   Action    `json:"failed,omitempty"`
	FailedAt time.Time `json:"failed_at,omitzero"`
	Error    string    `json:"error,omitempty"`
	Fatal    bool      `json:"fatal,omitempty"`
	// Condemned says why the process must end although it is wanted: a liveness verdict, a
	// time limit. "" when it need not.
	Condemned string `json:"condemned,omitempty"`
	// Clean: container and network are gone.
	Clean bool `json:"clean,omitempty"`
	// Unwanted: the newest set does not name the process any more.
	Unwanted bool `json:"unwanted,omitempty"`
	// Bare: the assignment is from the store, which keeps no secrets. Nothing is created from it
	// before servers have sent it again.
	Bare bool `json:"-"`
}

// Exit is the end of a main process.
type Exit struct {
	Code int       `json:"code"`
	At   time.Time `json:"at"`
	OOM  bool      `json:"oom,omitempty"`
	// Lost: the engine does not know the process any more, the code is assumed.
	Lost bool `json:"lost,omitempty"`
	// PeakMemory is the most that the process used; 0 where nobody knows.
	PeakMemory api.Bytes `json:"peak_memory,omitempty"`
}

// tries is how often an action that failed is tried, and retryDelay the wait before the
// second try; it doubles with each.
const (
	tries      = 3
	retryDelay = 500 * time.Millisecond
	// killAgain is the wait before SIGKILL is sent once more to a process that survived one.
	killAgain = 5 * time.Second
)

// Next decides. It is pure: a process with the same assignment and the same facts gets the
// same action, whatever happened before. The returned Local differs only in its status; wake
// is when to ask again if nothing changes, zero for never.
func Next(want *api.Assignment, l Local, now time.Time) (act Action, next Local, wake time.Time) {
	switch {
	case l.Status.State.Ended():
		return afterEnd(l)
	case l.Exit != nil:
		return ActNone, exited(want, l), now
	case want.Desired == api.DesiredStop || l.Unwanted || l.Condemned != "":
		return stopping(want, l, now)
	case l.Failures > 0 && (l.Fatal || l.Failures >= tries):
		return ActNone, failed(l, now), now
	}
	return starting(want, l, now)
}

// afterEnd gives back what an ended process held.
func afterEnd(l Local) (Action, Local, time.Time) {
	switch {
	case !l.Clean:
		return ActClean, l, time.Time{}
	case l.Unwanted:
		return ActForget, l, time.Time{}
	}
	return ActNone, l, time.Time{}
}

// exited turns the end of the main process into a status.
func exited(want *api.Assignment, l Local) Local {
	s := &l.Status
	s.State, s.ExitCode, s.OOM, s.Finished = api.StateExited, l.Exit.Code, l.Exit.OOM, l.Exit.At
	if s.Health == api.HealthHealthy {
		s.Health = api.HealthUnknown
	}
	switch {
	case l.Exit.OOM:
		s.Message = fmt.Sprintf("killed for memory: the limit is %s, it used up to %s; raise scale.memory",
			memoryLimit(want), s.PeakMemory)
	case l.Condemned != "":
		s.Message = l.Condemned
	case l.Exit.Lost:
		s.State, s.Message = api.StateFailed, "the container disappeared from the engine; its exit code is unknown"
	case !l.KillAt.IsZero():
		s.Message = fmt.Sprintf("ignored SIGTERM for %s and was killed", want.Spec.Grace)
	case !l.TermAt.IsZero():
		s.Message = "stopped"
	case l.Exit.Code == 0:
		s.Message = "exited"
	case l.Exit.Code > 128 && l.Exit.Code < 160:
		s.Message = fmt.Sprintf("ended by signal %d", l.Exit.Code-128)
	default:
		s.Message = fmt.Sprintf("exited with code %d", l.Exit.Code)
	}
	return l
}

// memoryLimit is the limit that the kernel enforces.
func memoryLimit(a *api.Assignment) api.Bytes {
	if a.Spec.Scale.MemoryLimit > 0 {
		return a.Spec.Scale.MemoryLimit
	}
	return a.Ask.Memory
}

// stopping leads a process to its end: SIGTERM, grace, SIGKILL.
func stopping(want *api.Assignment, l Local, now time.Time) (Action, Local, time.Time) {
	if !l.Task {
		l.Status.State, l.Status.Finished = api.StateFailed, now
		l.Status.Message = "stopped before it started"
		if l.Condemned != "" {
			l.Status.Message = l.Condemned
		}
		return ActNone, l, now
	}
	l.Status.State = api.StateStopping
	kill := l.TermAt.Add(want.Spec.Grace)
	switch {
	case l.TermAt.IsZero():
		return ActTerm, l, time.Time{}
	case l.KillAt.IsZero() && now.Before(kill):
		return ActNone, l, kill
	case l.KillAt.IsZero() || !now.Before(l.KillAt.Add(killAgain)):
		return ActKill, l, time.Time{}
	}
	return ActNone, l, l.KillAt.Add(killAgain)
}

// failed ends a process that could not be started.
func failed(l Local, now time.Time) Local {
	l.Status.State, l.Status.Finished, l.Status.Message = api.StateFailed, now, l.Error
	return l
}

// starting leads a process to running, one action at a time.
func starting(want *api.Assignment, l Local, now time.Time) (Action, Local, time.Time) {
	if l.Failures > 0 {
		if retry := l.FailedAt.Add(retryDelay << (l.Failures - 1)); now.Before(retry) {
			return ActNone, l, retry
		}
	}
	switch {
	case want.Kind == api.KindBuild && !l.Task:
		l.Status.State = api.StateRunning
		return ActBuild, l, time.Time{}
	case want.Kind == api.KindBuild:
		l.Status.State = api.StateRunning
		return ActNone, l, limit(want, l)
	case !l.Image:
		l.Status.State = max(l.Status.State, api.StatePulling) // a restarted agent pulls again
		return ActPull, l, time.Time{}
	case !l.Container && l.Bare:
		return ActNone, l, time.Time{}
	case !l.Container:
		l.Status.State = api.StateStarting
		return ActCreate, l, time.Time{}
	case !l.Task:
		l.Status.State = api.StateStarting
		return ActStart, l, time.Time{}
	}
	l.Status.State = api.StateRunning
	if l.Status.Health == "" {
		l.Status.Health = api.HealthUnknown
	}
	return ActNone, l, limit(want, l)
}

// limit is when a run reaches its time limit; zero when it has none.
func limit(want *api.Assignment, l Local) time.Time {
	if want.Run == nil || want.Run.Timeout <= 0 || l.Status.Started.IsZero() {
		return time.Time{}
	}
	return l.Status.Started.Add(want.Run.Timeout)
}

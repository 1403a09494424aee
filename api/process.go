package api

import (
	"encoding/json"
	"fmt"
	"time"
)

// Kind says what a process is for.
type Kind string

// The kinds of process.
const (
	KindService Kind = "service" // one copy of a service, replaced when it ends
	KindRun     Kind = "run"     // a one-off, never replaced
	KindTimer   Kind = "timer"   // one run of a timer, never replaced
	KindBuild   Kind = "build"   // an image build
)

// State is how far a process has come. States only move forward.
type State int

// The states of a process, in order. Each names the last thing that is known to have happened.
const (
	// StatePending exists but has no node yet.
	StatePending State = iota
	// StateAssigned has a node; its agent has not reported yet.
	StateAssigned
	// StatePulling fetches and unpacks the image.
	StatePulling
	// StateStarting has its image and is being created: network, volumes, container.
	StateStarting
	// StateRunning has a live main process.
	StateRunning
	// StateStopping was asked to stop and has not ended.
	StateStopping
	// StateExited ended by itself, or because it was asked to; the exit code is known.
	StateExited
	// StateFailed could not be started, or ended in a way that leaves no exit code.
	StateFailed
	// StateLost was on a node that cannot speak for it any more.
	StateLost
)

var stateNames = [...]string{"pending", "assigned", "pulling", "starting", "running", "stopping", "exited", "failed", "lost"}

// String returns the state's name.
func (s State) String() string {
	if s < 0 || int(s) >= len(stateNames) {
		return fmt.Sprintf("state(%d)", int(s))
	}
	return stateNames[s]
}

// MarshalText returns the state's name.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText accepts a state's name.
func (s *State) UnmarshalText(b []byte) error {
	for i, n := range stateNames {
		if n == string(b) {
			*s = State(i)
			return nil
		}
	}
	return fmt.Errorf("unknown process state %q", b)
}

// Ended reports whether the state is terminal.
func (s State) Ended() bool { return s >= StateExited }

// CanMove reports whether a process in state s may be reported in state to. It is the one
// table of legal moves: any number of steps forward, never back, and nothing after an end. A
// report that repeats the state is legal, for its other fields may have changed.
func (s State) CanMove(to State) bool {
	switch {
	case s.Ended():
		return s == to
	default:
		return to >= s
	}
}

// Desired is what servers want of a process. It only moves forward as well.
type Desired int

// What servers may want, in order.
const (
	// DesiredRun keeps it alive.
	DesiredRun Desired = iota
	// DesiredDrain keeps it alive, but routers send it nothing new.
	DesiredDrain
	// DesiredStop ends it: SIGTERM, grace, SIGKILL.
	DesiredStop
)

var desiredNames = [...]string{"run", "drain", "stop"}

// String returns the word for d.
func (d Desired) String() string {
	if d < 0 || int(d) >= len(desiredNames) {
		return fmt.Sprintf("desired(%d)", int(d))
	}
	return desiredNames[d]
}

// MarshalText returns the word for d.
func (d Desired) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText accepts the word for a Desired.
func (d *Desired) UnmarshalText(b []byte) error {
	for i, n := range desiredNames {
		if n == string(b) {
			*d = Desired(i)
			return nil
		}
	}
	return fmt.Errorf("unknown desired state %q", b)
}

// HealthState is what the probes say, beside the state.
type HealthState string

// The health of a process. A process without a check is healthy as soon as it runs.
const (
	HealthUnknown   HealthState = "unknown"
	HealthHealthy   HealthState = "healthy"
	HealthUnhealthy HealthState = "unhealthy"
)

// Process is one placed copy of something. Everything but Desired, Reason, Ready and Observed
// is fixed at birth.
type Process struct {
	ID      ProcessID   `json:"id"`
	App     AppName     `json:"app"`
	Service ServiceName `json:"service"` // the service it copies, or whose image a one-off uses
	Kind    Kind        `json:"kind"`
	Release ReleaseID   `json:"release,omitempty"`
	Build   BuildID     `json:"build,omitempty"` // for KindBuild
	// Slot numbers the copies of a service from 1; a replacement takes the slot over.
	Slot int    `json:"slot,omitempty"`
	Node NodeID `json:"node,omitempty"`
	// Ask is what is reserved for it on its node.
	Ask     Amount    `json:"ask"`
	Created time.Time `json:"created"`
	// Grant is what it has of its node beside Ask; nil for nothing.
	Grant *Grant `json:"grant,omitempty"`
	// Attempt counts the processes that this slot had before within the same release.
	Attempt int `json:"attempt,omitempty"`
	// Cause says why it was created: "deployment D… opened batch 1", "replaces p… (exit 1)".
	Cause string `json:"cause,omitempty"`
	// Run holds what only a one-off has; nil for the others.
	Run *RunSpec `json:"run,omitempty"`

	Desired Desired `json:"desired"`
	// Reason says why Desired left DesiredRun.
	Reason string `json:"reason,omitempty"`
	// DrainSince is when Desired became DesiredDrain.
	DrainSince time.Time `json:"drain_since,omitzero"`
	// DrainedAt is when it became DesiredStop; Forced says that requests were in flight then.
	DrainedAt time.Time `json:"drained_at,omitzero"`
	Forced    bool      `json:"forced,omitempty"`
	// Ready: healthy, and every router that leads to it has acknowledged so.
	Ready   bool      `json:"ready,omitempty"`
	ReadyAt time.Time `json:"ready_at,omitzero"`

	// Waiting says why a one-off or a build has no node yet; copies of services have none of
	// their own, see Service.Waiting.
	Waiting string `json:"waiting,omitempty"`

	Observed ProcessStatus `json:"observed"`
}

// Live reports whether the process may still hold its node's resources.
func (p *Process) Live() bool { return !p.Observed.State.Ended() }

// Key returns the service the process belongs to.
func (p *Process) Key() ServiceKey { return ServiceKey{p.App, p.Service} }

// RunSpec is what a user asked of a one-off.
type RunSpec struct {
	// Sealed is the command as JSON, encrypted with the rack's keyring.
	Sealed []byte `json:"sealed,omitempty"`
	// TTY gives the process a terminal of Rows × Cols.
	TTY  bool `json:"tty,omitempty"`
	Rows int  `json:"rows,omitempty"`
	Cols int  `json:"cols,omitempty"`
	// Attached runs end when nobody has been attached for a minute; detached ones live until
	// they exit or Timeout passes.
	Attached bool          `json:"attached,omitempty"`
	Timeout  time.Duration `json:"timeout"`
	Author   string        `json:"author,omitempty"`
}

// ProcessStatus is what an agent reports of a process. A report replaces the whole status.
type ProcessStatus struct {
	State  State       `json:"state"`
	Health HealthState `json:"health,omitempty"`
	// Addr is the address of the process inside the rack, without a port.
	Addr string `json:"addr,omitempty"`
	// ExitCode is meaningful in StateExited: 0–255, 128+n for signal n.
	ExitCode int `json:"exit_code,omitempty"`
	// OOM: the kernel ended it for its memory limit. PeakMemory is the most it used.
	OOM        bool  `json:"oom,omitempty"`
	PeakMemory Bytes `json:"peak_memory,omitempty"`
	// Message is one sentence for a user: why it failed, which probe fails and how.
	Message string `json:"message,omitempty"`
	// Probe is the last failing probe, nil when none fails.
	Probe *ProbeResult `json:"probe,omitempty"`
	// Sockets are the addresses it listens on ("tcp 0.0.0.0:8080"), reported while it is
	// unhealthy or when it failed.
	Sockets Texts `json:"sockets,omitzero"`
	// Lines are the last lines it wrote, reported when it ended or is unhealthy.
	Lines Texts `json:"lines,omitzero"`
	// Started is when the main process started, Healthy when it first passed its check,
	// Finished when it ended.
	Started  time.Time `json:"started,omitzero"`
	Healthy  time.Time `json:"healthy,omitzero"`
	Finished time.Time `json:"finished,omitzero"`
	// Images is set by a build process that ended well.
	Images map[ServiceName]Image `json:"images,omitempty"`
}

// Texts is a list that hardly ever has anything in it and takes the room of a pointer while it has
// not: a rack keeps a million statuses, each with two.
type Texts struct{ list *[]string }

// TextsOf returns a list, which the caller does not change any more.
func TextsOf(list []string) Texts {
	if len(list) == 0 {
		return Texts{}
	}
	return Texts{&list}
}

// All returns what is in the list; it must not be modified.
func (t Texts) All() []string {
	if t.list == nil {
		return nil
	}
	return *t.list
}

// IsZero reports whether the list is empty.
func (t Texts) IsZero() bool { return t.list == nil }

// MarshalJSON writes an array.
func (t Texts) MarshalJSON() ([]byte, error) { return json.Marshal(t.All()) }

// UnmarshalJSON accepts an array.
func (t *Texts) UnmarshalJSON(b []byte) error {
	var list []string
	err := json.Unmarshal(b, &list)
	*t = TextsOf(list)
	return err
}

// ProbeResult is the outcome of one probe.
type ProbeResult struct {
	Kind   string        `json:"kind"`   // health, liveness, startup
	Target string        `json:"target"` // "GET http://10.88.0.4:3000/check"
	Status int           `json:"status,omitempty"`
	Error  string        `json:"error,omitempty"`
	Took   time.Duration `json:"took"`
	At     time.Time     `json:"at"`
	// Failures counts failures in a row.
	Failures int `json:"failures"`
}

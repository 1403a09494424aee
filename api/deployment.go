package api

import "time"

// DeploymentStatus is where a deployment is in its life.
type DeploymentStatus string

// The statuses of a deployment.
const (
	// DeployRunning moves the services to the new release.
	DeployRunning DeploymentStatus = "running"
	// DeployRollingBack moves them back, after a failure or a cancel.
	DeployRollingBack DeploymentStatus = "rolling-back"
	// DeploySucceeded has a verified receipt.
	DeploySucceeded DeploymentStatus = "succeeded"
	// DeployFailed ended without the new release and with the old one in force again.
	DeployFailed DeploymentStatus = "failed"
	// DeployCancelled is the same, on a user's word.
	DeployCancelled DeploymentStatus = "cancelled"
	// DeploySuperseded was overtaken by a newer promotion before it ended.
	DeploySuperseded DeploymentStatus = "superseded"
)

// Ended reports whether the status can change no more.
func (s DeploymentStatus) Ended() bool { return s != DeployRunning && s != DeployRollingBack }

// Deployment is the promotion of a release.
type Deployment struct {
	ID      DeploymentID `json:"id"`
	App     AppName      `json:"app"`
	Release ReleaseID    `json:"release"`
	// Previous is the release that a rollback returns to; empty for the first.
	Previous ReleaseID        `json:"previous,omitempty"`
	Author   string           `json:"author"`
	Created  time.Time        `json:"created"`
	Ended    time.Time        `json:"ended,omitzero"`
	Status   DeploymentStatus `json:"status"`
	// Cause is one sentence: why it has its status.
	Cause string `json:"cause,omitempty"`
	// Failure tells what made it fail; nil while nothing did.
	Failure *Failure `json:"failure,omitempty"`
	// Cancel is set when a user asked to cancel.
	Cancel bool `json:"cancel,omitempty"`
	// Progress is the last moment at which a new process became ready.
	Progress time.Time `json:"progress,omitzero"`
	Receipt  *Receipt  `json:"receipt,omitempty"`
}

// Failure is the evidence of a failed deployment, taken from the process that failed it.
type Failure struct {
	Service  ServiceName  `json:"service"`
	Process  ProcessID    `json:"process,omitempty"`
	Reason   string       `json:"reason"` // one sentence
	State    State        `json:"state"`
	ExitCode int          `json:"exit_code"`
	OOM      bool         `json:"oom,omitempty"`
	Probe    *ProbeResult `json:"probe,omitempty"`
	Sockets  []string     `json:"sockets,omitempty"`
	Lines    []string     `json:"lines,omitempty"`
}

// Receipt is the proof that a deployment did what it says.
type Receipt struct {
	Services []ServiceReceipt `json:"services"`
	// Verified: every wanted copy is ready, and no copy of another release is alive.
	Verified bool          `json:"verified"`
	Took     time.Duration `json:"took"`
}

// ServiceReceipt is the part of a receipt about one service.
type ServiceReceipt struct {
	Service ServiceName      `json:"service"`
	Count   int              `json:"count"`
	Ready   int              `json:"ready"`
	Started []ProcessReceipt `json:"started,omitempty"`
	Stopped []ProcessReceipt `json:"stopped,omitempty"`
	// MoreStarted and MoreStopped count those that are not listed: a receipt has ReceiptMax at most.
	MoreStarted int `json:"more_started,omitempty"`
	MoreStopped int `json:"more_stopped,omitempty"`
}

// ReceiptMax bounds the processes that a receipt lists, of all services together; each service has
// an equal part of them. It is checked on all processes none the less.
const ReceiptMax = 1000

// ProcessReceipt is one process in a receipt; zero times mean that it did not happen.
type ProcessReceipt struct {
	Process ProcessID `json:"process"`
	Node    NodeID    `json:"node"`
	Created time.Time `json:"created"`
	Started time.Time `json:"started,omitzero"`
	Healthy time.Time `json:"healthy,omitzero"`
	Ready   time.Time `json:"ready,omitzero"`
	// Routers is how many routers acknowledged the process.
	Routers  int       `json:"routers,omitempty"`
	Drained  time.Time `json:"drained,omitzero"`
	Finished time.Time `json:"finished,omitzero"`
	// Forced: the drain limit passed with requests in flight.
	Forced bool `json:"forced,omitempty"`
}

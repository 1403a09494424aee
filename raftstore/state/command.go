package state

import (
	"time"

	"slipway/api"
)

// A Command is a fact or an intent that every replica applies in the same order. Commands
// carry everything that is not a function of the state: IDs, times, random numbers.
type Command interface {
	// Type is the stable name of the command in the log.
	Type() string
}

// Entry is one command with its circumstances, as it stands in the log.
type Entry struct {
	// Request makes the write idempotent; "" for commands of the leader loop, which are
	// idempotent by themselves.
	Request api.RequestID
	// At is the proposer's clock.
	At time.Time
	// Actor is who asked: a user's name, "node/<id>", or "rack".
	Actor string
	// Reason is why, in the actor's words; "" when nobody said.
	Reason  string
	Command Command
}

// The commands that users cause.
type (
	// CreateApp fails with CodeConflict when the name is taken.
	CreateApp struct{ App api.App }
	// DeleteApp marks the app; its processes stop and RemoveApp follows.
	DeleteApp struct{ App api.AppName }
	// LockApp sets or clears the lock.
	LockApp struct {
		App    api.AppName
		Locked bool
	}
	// CreateBuild stores a build in status created.
	CreateBuild struct{ Build api.Build }
	// CreateRelease stores a release; Number is set by Apply. Base is the release that it was made
	// from, "" where the app had none: when it is not the newest any more, the command is refused.
	// nil does not look.
	CreateRelease struct {
		Release api.Release
		Base    *api.ReleaseID `json:",omitempty"`
	}
	// CreateDeployment promotes a release: it supersedes a deployment that has not ended.
	// Previous is set by Apply. Active is the active release of the app that the proposer saw: when
	// another one is active, the command is refused. nil does not look.
	CreateDeployment struct {
		Deployment api.Deployment
		Active     *api.ReleaseID `json:",omitempty"`
	}
	// CancelDeployment asks the rollout to go back.
	CancelDeployment struct{ App api.AppName }
	// SetScale sets or, with nil, resets the override of a service. With Keep, the parts that
	// Override does not give stay as an earlier override has them.
	SetScale struct {
		Key      api.ServiceKey
		Override *api.ScaleOverride
		Keep     bool `json:",omitempty"`
	}
	// RestartService replaces the processes created before the entry's time, at the pace of a
	// rollout.
	RestartService struct{ Key api.ServiceKey }
	// CreateProcess stores a one-off or a build process without a node; the scheduler places
	// it.
	CreateProcess struct{ Process api.Process }
	// StopProcess takes one process out of service; a copy of a service is replaced.
	StopProcess struct {
		Process api.ProcessID
		Reason  string
	}
	// PutToken stores or replaces an access token (only its hash).
	PutToken struct{ Token Token }
	// DeleteToken revokes a token.
	DeleteToken struct{ ID string }
	// ConfigureRack stores the rack's own settings.
	ConfigureRack struct{ Rack Rack }
	// UpdateNode changes what operators own of a node.
	UpdateNode struct {
		Node     api.NodeID
		Cordoned *bool
		Draining *bool
		Pool     *api.PoolName
		Labels   map[string]string // nil keeps them
		// Label sets some labels, Unlabel removes some; the others stay.
		Label   map[string]string
		Unlabel []string
	}
	// RemoveNode forgets a node that is down, or that nothing runs on. Its agent is not let in
	// any more.
	RemoveNode struct{ Node api.NodeID }
)

// The commands that agents cause.
type (
	// RegisterNode stores what an agent reports of its machine. Operators' fields are kept. A
	// new BootID loses every process of the node.
	RegisterNode struct{ Node api.Node }
	// UpdateProcesses stores reports of one node. Reports about foreign or unknown processes
	// and illegal moves are dropped and counted.
	UpdateProcesses struct {
		Node     api.NodeID
		Statuses map[api.ProcessID]api.ProcessStatus
	}
	// AckRoutes stores what the node's router serves.
	AckRoutes struct {
		Node     api.NodeID
		Version  uint64
		Draining []api.ProcessID
	}
)

// The commands that the leader's steps decide on.
type (
	// ApplyPlan stores placements and stops. Index is the state the plan was made from; what
	// does not fit any more (capacity, eligibility, wanted count, taken slot, a node that
	// constraints see differently since) is left out and named in the result. Index 0 is not known.
	ApplyPlan struct {
		Index   uint64
		Place   []api.Group
		Assign  []api.Assign
		Stop    []api.Stop
		Waiting map[api.ServiceKey]string // "" clears
		Pending map[api.ProcessID]string  // why they have no node
	}
	// PutPool stores what an operator says about a pool.
	PutPool struct{ Pool api.Pool }
	// SetWant stores what the rollout wants alive.
	SetWant struct {
		Key  api.ServiceKey
		Want []api.Want
	}
	// UpdateDeployment stores the progress of a deployment; one that has ended stays as it is.
	// A succeeded one makes its release the app's active one.
	UpdateDeployment struct{ Deployment api.Deployment }
	// SetRoutes replaces the routes of an app. Version and Since are set by Apply from the
	// index.
	SetRoutes struct {
		App    api.AppName
		Routes []api.Route
	}
	// SetReady records which processes have become ready, or stopped being so.
	SetReady struct {
		Ready   []api.ProcessID
		Unready []api.ProcessID
	}
	// SetDesired moves processes on towards the stop.
	SetDesired struct{ Moves []DesiredMove }
	// SetNodeStatus records that a node went silent or came back. NodeDown makes its live
	// processes lost.
	SetNodeStatus struct {
		Node   api.NodeID
		Status api.NodeStatus
		Reason string
	}
	// StartBuild records the process of a build and that it runs.
	StartBuild struct {
		Build   api.BuildID
		Process api.ProcessID
	}
	// EndBuild completes or fails a build; on success it stores the release made from it. Base is
	// that of CreateRelease.
	EndBuild struct {
		Build   api.BuildID
		Images  map[api.ServiceName]api.Image
		Failure string
		Release *api.Release   // nil when it failed
		Base    *api.ReleaseID `json:",omitempty"`
		// Deployment promotes the release in the same breath; nil leaves that to the user.
		Deployment *api.Deployment
	}
	// Reap removes records that are not needed any more.
	Reap struct {
		Processes   []api.ProcessID
		Deployments []api.DeploymentID
		Releases    []api.ReleaseID
		Builds      []api.BuildID
		Requests    []api.RequestID
		Apps        []api.AppName // deleted ones whose processes have ended
		Services    []api.ServiceKey
	}
)

// DesiredMove is one step of a process towards its stop.
type DesiredMove struct {
	Process api.ProcessID
	Desired api.Desired
	Reason  string
	// Forced: the drain limit passed with requests in flight.
	Forced bool
}

// Token is an access token of a user, a node or a builder. Only a hash of the secret is kept.
type Token struct {
	ID      string
	Name    string
	Role    string // admin, deployer, viewer, node, builder
	Apps    []api.AppName
	Hash    []byte // SHA-256 of the secret
	Created time.Time
	Expires time.Time // zero for never
	// Pins is the fingerprint of the authority that a join token names; "" in all others.
	Pins string `json:",omitempty"`
}

// Rack is the rack's own record.
type Rack struct {
	Name      string
	ClusterID string
	Domain    string // of the routes: <service>.<app>.<domain>
	HTTPPort  int    // of the routers
	HTTPSPort int
	Created   time.Time
	// Network is where the addresses of processes come from, a /24 for each node; "" when nodes
	// choose for themselves, as in a rack of one.
	Network string
}

// Type names of the commands in the log.
func (CreateApp) Type() string        { return "create_app" }
func (DeleteApp) Type() string        { return "delete_app" }
func (LockApp) Type() string          { return "lock_app" }
func (CreateBuild) Type() string      { return "create_build" }
func (CreateRelease) Type() string    { return "create_release" }
func (CreateDeployment) Type() string { return "create_deployment" }
func (CancelDeployment) Type() string { return "cancel_deployment" }
func (SetScale) Type() string         { return "set_scale" }
func (RestartService) Type() string   { return "restart_service" }
func (CreateProcess) Type() string    { return "create_process" }
func (StopProcess) Type() string      { return "stop_process" }
func (PutToken) Type() string         { return "put_token" }
func (DeleteToken) Type() string      { return "delete_token" }
func (ConfigureRack) Type() string    { return "configure_rack" }
func (UpdateNode) Type() string       { return "update_node" }
func (RemoveNode) Type() string       { return "remove_node" }
func (RegisterNode) Type() string     { return "register_node" }
func (UpdateProcesses) Type() string  { return "update_processes" }
func (AckRoutes) Type() string        { return "ack_routes" }
func (ApplyPlan) Type() string        { return "apply_plan" }
func (PutPool) Type() string          { return "put_pool" }
func (SetWant) Type() string          { return "set_want" }
func (UpdateDeployment) Type() string { return "update_deployment" }
func (SetRoutes) Type() string        { return "set_routes" }
func (SetReady) Type() string         { return "set_ready" }
func (SetDesired) Type() string       { return "set_desired" }
func (SetNodeStatus) Type() string    { return "set_node_status" }
func (StartBuild) Type() string       { return "start_build" }
func (EndBuild) Type() string         { return "end_build" }
func (Reap) Type() string             { return "reap" }

package api

import "time"

// The types in this file are answers: what `--json` prints, one row each.

// RackInfo describes the rack.
type RackInfo struct {
	Name    string `json:"name"`
	Domain  string `json:"domain"`
	Status  string `json:"status"`
	Version string `json:"version"`
	Servers int    `json:"servers"`
	Nodes   int    `json:"nodes"`
	Apps    int    `json:"apps"`
	// Capacity and Used sum over the nodes that are ready; Used is what is reserved.
	Capacity  Amount `json:"capacity"`
	Used      Amount `json:"used"`
	Processes int    `json:"processes"`
	HTTPPort  int    `json:"http_port"`
	HTTPSPort int    `json:"https_port"`
}

// AppInfo describes an app.
type AppInfo struct {
	Name       AppName      `json:"name"`
	Status     string       `json:"status"` // created, running, updating, rolling-back, failed, deleting
	Release    ReleaseID    `json:"release"`
	Deployment DeploymentID `json:"deployment,omitempty"`
	Locked     bool         `json:"locked"`
	Created    time.Time    `json:"created"`
}

// ServiceInfo describes a service of the active release.
type ServiceInfo struct {
	Name    ServiceName `json:"name"`
	URL     string      `json:"url"`
	Domain  string      `json:"domain"`
	Domains []string    `json:"domains,omitempty"`
	Ports   []string    `json:"ports"`
	Count   int         `json:"count"`
	Ready   int         `json:"ready"`
	CPU     MilliCPU    `json:"cpu"`
	Memory  Bytes       `json:"memory"`
	Release ReleaseID   `json:"release"`
	// Override is set while `slipway scale` replaces the manifest.
	Override *ScaleOverride `json:"override,omitempty"`
	Waiting  string         `json:"waiting,omitempty"`
}

// ProcessInfo describes a process.
type ProcessInfo struct {
	ID      ProcessID   `json:"id"`
	App     AppName     `json:"app"`
	Service ServiceName `json:"service"`
	Kind    Kind        `json:"kind"`
	Status  string      `json:"status"` // the state, or "unhealthy", "crashed", "complete"
	Health  HealthState `json:"health"`
	Ready   bool        `json:"ready"`
	Node    string      `json:"node"`
	Release ReleaseID   `json:"release"`
	Created time.Time   `json:"created"`
	Started time.Time   `json:"started,omitzero"`
	Ended   time.Time   `json:"ended,omitzero"`
	Command string      `json:"command"`
	Addr    string      `json:"addr,omitempty"`
	Exit    *int        `json:"exit,omitempty"`
	Message string      `json:"message,omitempty"`
}

// ReleaseInfo describes a release.
type ReleaseInfo struct {
	ID          ReleaseID `json:"id"`
	Number      int       `json:"number"`
	Status      string    `json:"status"` // "active", "promoting", or ""
	Build       BuildID   `json:"build"`
	Created     time.Time `json:"created"`
	Author      string    `json:"author"`
	Description string    `json:"description"`
	Manifest    string    `json:"manifest,omitempty"`
	EnvNames    []string  `json:"env,omitempty"`
}

// BuildInfo describes a build.
type BuildInfo struct {
	ID          BuildID               `json:"id"`
	Status      BuildStatus           `json:"status"`
	Release     ReleaseID             `json:"release"`
	Deployment  DeploymentID          `json:"deployment,omitempty"`
	Promote     bool                  `json:"promote,omitempty"`
	Author      string                `json:"author"`
	Description string                `json:"description"`
	GitSHA      string                `json:"git_sha,omitempty"`
	Created     time.Time             `json:"created"`
	Started     time.Time             `json:"started,omitzero"`
	Ended       time.Time             `json:"ended,omitzero"`
	Process     ProcessID             `json:"process,omitempty"`
	Images      map[ServiceName]Image `json:"images,omitempty"`
	Failure     string                `json:"failure,omitempty"`
}

// Why is the chain of causes for one object, from the object down to the first cause.
type Why struct {
	Object  string    `json:"object"`
	Status  string    `json:"status"`
	Causes  []Cause   `json:"causes"`
	Failed  *Failure  `json:"failure,omitempty"`
	Receipt *Receipt  `json:"receipt,omitempty"`
	At      time.Time `json:"at"`
}

// Cause is one link of a chain.
type Cause struct {
	At     time.Time `json:"at,omitzero"`
	Object string    `json:"object"`
	Text   string    `json:"text"`
}

// ReleaseDiff is the difference between two releases.
type ReleaseDiff struct {
	From ReleaseID `json:"from"`
	To   ReleaseID `json:"to"`
	// Env lists the variables that differ. Values are empty unless they were asked for.
	Env      []ValueDiff   `json:"env"`
	Services []ServiceDiff `json:"services"`
	// Manifest is a unified diff of the manifests; empty when they are equal.
	Manifest string     `json:"manifest,omitempty"`
	Builds   [2]BuildID `json:"builds"`
}

// ValueDiff is one changed value.
type ValueDiff struct {
	Name   string `json:"name"`
	Change string `json:"change"` // add, change, remove
	From   string `json:"from,omitempty"`
	To     string `json:"to,omitempty"`
}

// ServiceDiff is what differs in one service.
type ServiceDiff struct {
	Service ServiceName `json:"service"`
	Change  string      `json:"change"` // add, change, remove
	Fields  []ValueDiff `json:"fields,omitempty"`
}

// DeploymentUpdate is one view of a deployment on its way.
type DeploymentUpdate struct {
	Deployment Deployment    `json:"deployment"`
	Services   []ServiceInfo `json:"services"`
	Processes  []ProcessInfo `json:"processes"`
	Release    ReleaseInfo   `json:"release"`
}

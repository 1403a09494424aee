package api

import "time"

// Assignment is everything an agent needs to run one process. It is derived from the state
// and sent whole: an agent runs exactly what its newest set names.
type Assignment struct {
	Process ProcessID   `json:"process"`
	App     AppName     `json:"app"`
	Service ServiceName `json:"service"`
	Kind    Kind        `json:"kind"`
	Slot    int         `json:"slot,omitempty"`
	Release ReleaseID   `json:"release,omitempty"`
	Attempt int         `json:"attempt,omitempty"`
	Desired Desired     `json:"desired"`
	Image   Image       `json:"image,omitzero"`
	Spec    ServiceSpec `json:"spec"`
	// Ask is what is reserved, with a scale override in place.
	Ask Amount `json:"ask"`
	// Grant is what it has of the node for itself; nil for nothing.
	Grant *Grant `json:"grant,omitempty"`
	// Env and Command are secret: they are never written to the agent's own store. An empty
	// command keeps the image's.
	Env     map[string]string `json:"env,omitempty"`
	Command []string          `json:"command,omitempty"`
	Run     *RunSpec          `json:"run,omitempty"`
	Build   *BuildAssignment  `json:"build,omitempty"`
	// Purge: the app is being deleted; what the process stored goes with it.
	Purge bool `json:"purge,omitempty"`
}

// BuildAssignment is what a build process needs beside its image.
type BuildAssignment struct {
	ID     BuildID `json:"id"`
	Source string  `json:"source"` // digest of the tar in the object store
	// Services are those to build or mirror; equal build stanzas are built once.
	Services []ServiceSpec `json:"services"`
	// Args are the build arguments with the environment below them. Secret.
	Args    map[string]string `json:"args,omitempty"`
	Options BuildOptions      `json:"options"`
	// Registries are those that images may be pulled from with a login. Secret.
	Registries []RegistryLogin `json:"registries,omitempty"`
}

// AssignmentSet is the newest truth for one node.
type AssignmentSet struct {
	// Version is the index of the state it was derived from.
	Version     uint64       `json:"version"`
	Assignments []Assignment `json:"assignments"`
}

// Heartbeat is what an agent sends at the interval that the server dictates.
type Heartbeat struct {
	Node   NodeID        `json:"node"`
	Router *RouterStatus `json:"router,omitempty"`
	// Used is measured, not reserved.
	Used Amount    `json:"used"`
	At   time.Time `json:"at"`
}

package api

// Explanation says where copies of a service can go and why not elsewhere.
type Explanation struct {
	App     AppName     `json:"app"`
	Service ServiceName `json:"service"`
	Release ReleaseID   `json:"release"`
	Pool    PoolName    `json:"pool"`
	Ask     Amount      `json:"ask"`
	// Wanted copies, of which so many are alive.
	Wanted int `json:"wanted"`
	Alive  int `json:"alive"`
	// Nodes is how many the rack has. Filters remove some, in order; Candidates are left.
	Nodes      int      `json:"nodes"`
	Filters    []Filter `json:"filters"`
	Candidates int      `json:"candidates"`
	// Top are the best candidates for one more copy, best first.
	Top []Score `json:"top"`
	// Fits is how many more copies the rack has room for, at most FitsMax.
	Fits int `json:"fits"`
	// Waiting is why copies that are wanted are not placed; "" if all are.
	Waiting string `json:"waiting,omitempty"`
}

// FitsMax is where counting the copies that would fit ends.
const FitsMax = 10_000

// Filter is one reason to remove nodes. A node counts for the first that removes it.
type Filter struct {
	Name    string `json:"name"`    // "pool", "constraint", "status", "memory", …
	Text    string `json:"text"`    // "node.arch = arm64 does not hold"
	Removed int    `json:"removed"` // nodes
	// Nodes are the first few removed ones, by ID.
	Nodes []NodeID `json:"nodes"`
}

// Score is how a candidate is rated. Parts add up to Total.
type Score struct {
	Node  NodeID      `json:"node"`
	Total int64       `json:"total"`
	Parts []ScorePart `json:"parts"`
}

// ScorePart is one part of a score, in points.
type ScorePart struct {
	Name   string `json:"name"` // "affinity", "fit", "own copies", …
	Points int64  `json:"points"`
	Text   string `json:"text,omitempty"`
}

// WhyNot lists everything that keeps a copy of a service off one node; empty Reasons mean that
// it fits.
type WhyNot struct {
	App     AppName       `json:"app"`
	Service ServiceName   `json:"service"`
	Node    NodeID        `json:"node"`
	Reasons []Shortcoming `json:"reasons"`
	// Score is that of the node for one more copy when it fits, beside the best one.
	Score *Score `json:"score,omitempty"`
	Best  *Score `json:"best,omitempty"`
}

// Shortcoming is one thing that a node lacks, with numbers where there are any.
type Shortcoming struct {
	Name  string `json:"name"` // as Filter.Name
	Text  string `json:"text"` // "not enough memory: needs 512 MiB, 300 MiB are free (212 MiB short)"
	Needs int64  `json:"needs,omitempty"`
	Has   int64  `json:"has,omitempty"`
}

// Change is what a what-if asks about; one of its parts is set.
type Change struct {
	Remove, Drain NodeID
	// Add is a node like the ones to be added; Nodes is how many of it.
	Add   *Node
	Nodes int
	// Scale gives services another count.
	Scale map[ServiceKey]int
	// Deploy promotes these services of App and lets go of its others.
	App    AppName
	Deploy []ServiceSpec
}

// WhatIf is what would follow from a change that was not made.
type WhatIf struct {
	Change string `json:"change"` // "node n3 is removed"
	// Fits: every copy that is wanted has a place in the end.
	Fits bool `json:"fits"`
	// Place and Stop count copies per service.
	Services []WhatIfService `json:"services"`
}

// WhatIfService is what would become of one service.
type WhatIfService struct {
	App     AppName     `json:"app"`
	Service ServiceName `json:"service"`
	// Displaced copies lose their place; of the missing ones Placed find one.
	Displaced int `json:"displaced"`
	Placed    int `json:"placed"`
	// Preempted copies go for a more important service.
	Preempted int      `json:"preempted,omitempty"`
	Nodes     []NodeID `json:"nodes,omitempty"` // where they go, a node once per copy
	// Waiting is why copies would be left without a place.
	Missing int    `json:"missing"`
	Waiting string `json:"waiting,omitempty"`
}

// Capacity is the room of one pool.
type Capacity struct {
	Pool     PoolName `json:"pool"`
	Strategy Strategy `json:"strategy"`
	// Nodes of the pool, of which Eligible take new processes now.
	Nodes    int `json:"nodes"`
	Eligible int `json:"eligible"`
	// Total is what the eligible nodes have, without what is Reserved for the system; Used is
	// what processes hold of it.
	Total    Amount `json:"total"`
	Reserved Amount `json:"reserved"`
	Used     Amount `json:"used"`
	// Largest is the free room of the node with most free memory, which is On.
	Largest Amount `json:"largest"`
	On      NodeID `json:"on,omitempty"`
}

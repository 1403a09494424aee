package api

import (
	"maps"
	"time"
)

// NodeStatus is what the servers believe about a node.
type NodeStatus string

// The statuses of a node.
const (
	NodeReady NodeStatus = "ready"
	NodeDown  NodeStatus = "down"
)

// Node is a machine that runs the agent. The agent reports the first part when it registers;
// the rest belongs to operators and servers.
type Node struct {
	ID   NodeID `json:"id"`
	Name string `json:"name"` // the host name
	// Addr is where routers and peers reach the node.
	Addr string `json:"addr"`
	// Subnet is where its processes have their addresses, a CIDR; "" when the node chose it.
	Subnet string `json:"subnet,omitempty"`
	// Capacity is what the machine has, Reserved what is kept for the system.
	Capacity Amount `json:"capacity"`
	Reserved Amount `json:"reserved"`
	// Attributes are facts that constraints can use: "arch", "kernel", "runtime.version".
	Attributes map[string]string `json:"attributes,omitempty"`
	// Devices are what processes can be given beside processors, memory and disk.
	Devices []Device `json:"devices,omitempty"`
	Version string   `json:"version"` // of the agent
	// BootID changes when the machine restarts: every process of before is gone.
	BootID string `json:"boot_id"`

	Pool   PoolName          `json:"pool"`
	Labels map[string]string `json:"labels,omitempty"`
	// Cordoned nodes get no new processes. Draining nodes also lose the ones they have.
	Cordoned bool       `json:"cordoned,omitempty"`
	Draining bool       `json:"draining,omitempty"`
	Status   NodeStatus `json:"status"`
	// Since is when Status last changed.
	Since time.Time `json:"since"`
	// Problem is why the agent of the node did not start, or ended, in its own words; "" once it has
	// started. An agent that reports one says nothing else of its machine.
	Problem string `json:"problem,omitempty"`
	// Changed is the index of the last change to what constraints look at: name, pool, labels,
	// attributes. A plan from before it was made for another machine.
	Changed uint64 `json:"changed,omitempty"`
	// RoutesAcked is the newest version of the route table that the node's router serves;
	// 0 for a node without a router. RoutesDraining lists the processes that have requests in
	// flight there although the table does not name them any more.
	RoutesAcked    uint64      `json:"routes_acked,omitempty"`
	RoutesDraining []ProcessID `json:"routes_draining,omitempty"`
	Router         bool        `json:"router,omitempty"`
}

// Available returns what may be given to processes.
func (n *Node) Available() Amount { return n.Capacity.Sub(n.Reserved) }

// Eligible reports whether new processes may be placed on the node.
func (n *Node) Eligible() bool { return n.Status == NodeReady && !n.Cordoned && !n.Draining }

// Alike reports whether constraints see no difference between two records of a node.
func (n *Node) Alike(o *Node) bool {
	return n.Name == o.Name && n.Pool == o.Pool && maps.Equal(n.Labels, o.Labels) && maps.Equal(n.Attributes, o.Attributes)
}

// NodeInfo is a node with what it runs.
type NodeInfo struct {
	Node      Node          `json:"node"`
	Used      Amount        `json:"used"`
	Processes []ProcessInfo `json:"processes"`
}

// DrainPlan says what the drain of a node would do to each of its processes.
type DrainPlan struct {
	Node  NodeID      `json:"node"`
	Moves []DrainMove `json:"moves"`
}

// DrainMove is one process that a drain ends.
type DrainMove struct {
	Process ProcessID   `json:"process"`
	App     AppName     `json:"app"`
	Service ServiceName `json:"service"`
	Kind    Kind        `json:"kind"`
	// To is where its successor would go; "" with the sentence in Wait when it fits nowhere.
	To   NodeID `json:"to,omitempty"`
	Wait string `json:"wait,omitempty"`
	// Downtime is true when nothing answers for the service in between, or its data stays behind;
	// Reason says why: it is the only copy, a volume is pinned to the node.
	Downtime bool   `json:"downtime,omitempty"`
	Reason   string `json:"reason,omitempty"`
	// Expected is about how long the service is gone, from how long its last start took and how
	// long it may take to stop; 0 when it is not, or nobody knows.
	Expected time.Duration `json:"expected,omitempty"`
}

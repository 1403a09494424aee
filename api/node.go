package api

import "time"

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

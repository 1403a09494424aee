package state

import (
	"slices"
	"time"

	"slipway/api"
)

// removalsMax bounds the removed machines that are remembered; the oldest are forgotten first.
const removalsMax = 1000

// removal remembers a node, or a server, that was removed: it is told so when it comes back, and is
// not let in as if nothing had happened.
type removal struct {
	Name string    `json:"name"`
	By   string    `json:"by"`
	At   time.Time `json:"at"`
}

// removeNode forgets a node. It may be down, for then its processes are lost already, or empty.
func (c *change) removeNode(cmd RemoveNode) *api.Error {
	n, err := c.node(cmd.Node)
	if err != nil {
		return err
	}
	live := len(slices.Collect(c.ProcessesOn(n.ID)))
	if live > 0 && n.Status != api.NodeDown {
		return api.Errorf(api.CodeConflict, "node %s has live processes, %d of them; drain it first: slipway nodes drain %s", n.Name, live, n.ID)
	}
	c.event("node.removed", "", string(n.ID), n.Name)
	c.lose(n.ID, "node "+n.Name+" was removed")
	drop(c, &c.nodes, string(n.ID))
	c.freeSubnet(&n)
	c.res.Changes.node(n.ID)
	drop(c, &c.holdings, "node/"+string(n.ID))
	c.remember(string(n.ID), n.Name)
	return nil
}

// remember keeps in mind that a machine was removed.
func (c *change) remember(key, name string) {
	put(c, &c.removed, key, &removal{Name: name, By: c.actor, At: c.at})
	if c.removed.len() > removalsMax {
		drop(c, &c.removed, c.oldestRemoval())
	}
}

func (c *change) oldestRemoval() (oldest string) {
	var at time.Time
	for id, r := range c.removed.all("") {
		if oldest == "" || r.At.Before(at) {
			oldest, at = id, r.At
		}
	}
	return oldest
}

// Removed reports whether a node was removed.
func (v *View) Removed(node api.NodeID) bool {
	_, ok := v.removed.get(string(node))
	return ok
}

package state

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"slipway/api"
)

// registerNode stores what an agent reports of its machine. A machine that has rebooted has
// lost every process; one that was silent is ready again.
func (c *change) registerNode(cmd RegisterNode) *api.Error {
	n := cmd.Node
	if n.ID == "" || n.Name == "" {
		return api.Errorf(api.CodeInvalid, "a node must report an ID and a name")
	}
	if n.Problem != "" {
		return c.failNode(n)
	}
	if n.Capacity.CPU <= 0 || n.Capacity.Memory <= 0 {
		return api.Errorf(api.CodeInvalid, "node %q reports a capacity of %s and %s", n.Name, n.Capacity.CPU, n.Capacity.Memory)
	}
	if err := c.refuseRemoved(n.ID); err != nil {
		return err
	}
	subnet, full := c.subnet(n.ID)
	if full != nil {
		return full
	}
	old, known := c.Node(n.ID)
	n = registered(n, old, subnet, c.at)
	c.putNode(c.marked(n))
	switch {
	case !known, old.BootID == "" && n.BootID != "": // known at most by its problem
		c.event("node.joined", "", string(n.ID), n.Name)
	case old.BootID != n.BootID:
		c.lose(n.ID, "node "+n.Name+" was restarted")
		c.event("node.rebooted", "", string(n.ID), n.Name)
	case old.Status != n.Status:
		c.event("node.ready", "", string(n.ID), n.Name)
	}
	return nil
}

// registered returns the record of a node that reports itself; old is the one before, nil for none.
func registered(n api.Node, old *api.Node, subnet string, at time.Time) api.Node {
	n.Status, n.Since, n.Subnet = api.NodeReady, at, subnet
	if old != nil {
		n.Pool, n.Labels = old.Pool, old.Labels
		n.Cordoned, n.Draining = old.Cordoned, old.Draining
		n.RoutesAcked, n.RoutesDraining = old.RoutesAcked, old.RoutesDraining
		if old.Status == n.Status {
			n.Since = old.Since
		}
	}
	if n.Pool == "" {
		n.Pool = "default"
	}
	return n
}

// Registered reports whether a node is stored as it reports itself, so that RegisterNode would change
// nothing.
func (v *View) Registered(n api.Node) bool {
	old, known := v.Node(n.ID)
	if !known || n.Problem != "" || old.Status != api.NodeReady || !v.inNetwork(old.Subnet) {
		return false
	}
	now := registered(n, old, old.Subnet, old.Since)
	now.Changed = old.Changed
	return reflect.DeepEqual(now, *old)
}

// refuseRemoved reports that a node was removed from the rack.
func (c *change) refuseRemoved(id api.NodeID) *api.Error {
	gone, ok := c.removed.get(string(id))
	if !ok {
		return nil
	}
	return api.Errorf(api.CodeDenied, "node %s (%s) was removed from the rack by %s on %s; to let the machine join anew, remove the data directory of its agent and start it with a join token",
		id, gone.Name, gone.By, gone.At.UTC().Format(time.DateOnly))
}

// failNode notes why the agent of a node does not start. What is known of the machine stays. A node
// that runs nothing is down at once; elsewhere containers may serve on, until the node has been silent
// for too long.
func (c *change) failNode(reported api.Node) *api.Error {
	if err := c.refuseRemoved(reported.ID); err != nil {
		return err
	}
	n := api.Node{
		ID: reported.ID, Name: reported.Name, Addr: reported.Addr, Version: reported.Version, BootID: reported.BootID,
		Pool: "default", Status: api.NodeDown, Since: c.at,
	}
	old, known := c.Node(n.ID)
	if known {
		n = *old
	}
	if n.Problem = cut(reported.Problem); known && old.Problem == n.Problem && old.Status == api.NodeDown {
		return nil // it starts again and again
	}
	busy := false
	for p := range c.ProcessesOn(n.ID) {
		busy = busy || p.Live()
	}
	if n.Status != api.NodeDown && !busy {
		n.Status, n.Since = api.NodeDown, c.at
	}
	told := known && old.Problem == n.Problem
	c.putNode(c.marked(n))
	if !told {
		c.event("node.failed", "", string(n.ID), n.Name+": "+n.Problem)
	}
	return nil
}

// marked notes in a record that is about to be stored that constraints may see another node.
func (c *change) marked(n api.Node) api.Node {
	n.Changed = c.index
	if old, known := c.Node(n.ID); known && old.Alike(&n) {
		n.Changed = old.Changed
	}
	return n
}

func (c *change) node(id api.NodeID) (api.Node, *api.Error) {
	if n, ok := c.Node(id); ok {
		return *n, nil
	}
	return api.Node{}, api.NotFound("node", string(id), nil)
}

func (c *change) updateNode(cmd UpdateNode) *api.Error {
	n, err := c.node(cmd.Node)
	if err != nil {
		return err
	}
	if cmd.Cordoned != nil {
		n.Cordoned = *cmd.Cordoned
	}
	if cmd.Draining != nil {
		n.Draining = *cmd.Draining
	}
	if cmd.Pool != nil {
		n.Pool = *cmd.Pool
	}
	if cmd.Labels != nil {
		n.Labels = cmd.Labels
	}
	if n.Labels, err = relabelled(&n, cmd); err != nil {
		return err
	}
	old, _ := c.Node(n.ID)
	c.putNode(c.marked(n))
	if old.Draining != n.Draining {
		for p := range c.ProcessesOn(n.ID) {
			c.res.Changes.service(p.Key()) // the rollout sees others to replace
		}
	}
	for _, change := range changesOf(old, &n) {
		c.event(change[0], "", string(n.ID), change[1])
	}
	return nil
}

// LabelsMax bounds the labels of a node.
const LabelsMax = 64

// relabelled returns the labels of a node after a command.
func relabelled(n *api.Node, cmd UpdateNode) (map[string]string, *api.Error) {
	if len(cmd.Label)+len(cmd.Unlabel) == 0 {
		return n.Labels, nil
	}
	labels := maps.Clone(n.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	for _, name := range cmd.Unlabel {
		if _, ok := labels[name]; !ok {
			return nil, api.NotFound("label", name, slices.Collect(maps.Keys(labels)))
		}
		delete(labels, name)
	}
	maps.Copy(labels, cmd.Label)
	if len(labels) > LabelsMax {
		return nil, api.Errorf(api.CodeExhausted, "node %s would have %d labels, the limit is %d; remove some", n.Name, len(labels), LabelsMax)
	}
	return labels, nil
}

// changesOf says what an operator changed of a node: the type of an event and its message, each.
func changesOf(old, n *api.Node) (out [][2]string) {
	flip := func(was, is bool, begun, ended string) {
		switch {
		case is && !was:
			out = append(out, [2]string{"node." + begun, n.Name})
		case was && !is:
			out = append(out, [2]string{"node." + ended, n.Name})
		}
	}
	flip(old.Cordoned, n.Cordoned, "cordoned", "uncordoned")
	flip(old.Draining, n.Draining, "draining", "undrained")
	if old.Pool != n.Pool {
		out = append(out, [2]string{"node.moved", fmt.Sprintf("%s: from pool %s to %s", n.Name, old.Pool, n.Pool)})
	}
	var labels []string
	for _, name := range slices.Sorted(maps.Keys(n.Labels)) {
		if was, ok := old.Labels[name]; !ok || was != n.Labels[name] {
			labels = append(labels, name+"="+n.Labels[name])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(old.Labels)) {
		if _, ok := n.Labels[name]; !ok {
			labels = append(labels, name+"-")
		}
	}
	if len(labels) > 0 {
		out = append(out, [2]string{"node.labelled", n.Name + ": " + strings.Join(labels, " ")})
	}
	return out
}

func (c *change) setNodeStatus(cmd SetNodeStatus) *api.Error {
	n, err := c.node(cmd.Node)
	if err != nil {
		return err
	}
	if n.Status == cmd.Status {
		return nil
	}
	n.Status, n.Since = cmd.Status, c.at
	c.putNode(n)
	c.event("node."+string(n.Status), "", string(n.ID), cmd.Reason)
	if n.Status == api.NodeDown {
		c.lose(n.ID, "node "+n.Name+" is down: "+cmd.Reason)
	}
	return nil
}

func (c *change) ackRoutes(cmd AckRoutes) *api.Error {
	n, err := c.node(cmd.Node)
	if err != nil {
		return err
	}
	if n.RoutesAcked == cmd.Version && slices.Equal(n.RoutesDraining, cmd.Draining) {
		return nil
	}
	n.RoutesAcked, n.RoutesDraining = cmd.Version, slices.Clone(cmd.Draining)
	c.putNode(n)
	return nil
}

// putPoolCommand stores what an operator says about a pool.
func (c *change) putPoolCommand(cmd PutPool) *api.Error {
	p := cmd.Pool
	if err := api.CheckName("pool", string(p.Name)); err != nil {
		return api.Errorf(api.CodeInvalid, "%v", err)
	}
	if p.Strategy != api.BinPack && p.Strategy != api.EvenOut {
		return api.Errorf(api.CodeInvalid, "pool %s: strategy %q is not known, use %s or %s", p.Name, p.Strategy, api.BinPack, api.EvenOut)
	}
	c.putPool(p)
	c.event("pool.changed", "", string(p.Name), "strategy "+string(p.Strategy))
	return nil
}

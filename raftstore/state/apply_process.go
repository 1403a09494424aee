package state

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"slipway/api"
)

func (c *change) createProcess(cmd CreateProcess) *api.Error {
	p := cmd.Process
	if _, ok := c.Process(p.ID); ok {
		return api.Errorf(api.CodeConflict, "process %s exists already", p.ID)
	}
	a, err := c.app(p.App)
	if err != nil {
		return err
	}
	if a.Deleting && p.Kind == api.KindRun {
		return api.Errorf(api.CodeConflict, "app %q is being deleted", a.Name)
	}
	if b, ok := c.Build(p.Build); p.Kind == api.KindBuild && (!ok || b.Status != api.BuildCreated) {
		return api.Errorf(api.CodeConflict, "build %q is not waiting for a process", p.Build)
	}
	p.Created, p.Observed = c.at, api.ProcessStatus{State: api.StatePending, Health: api.HealthUnknown}
	c.putProcess(p)
	c.event("process.created", p.App, string(p.ID), p.Cause)
	return nil
}

// stopProcess begins the end of a process: routers let go of it first, if they lead to it.
func (c *change) stopProcess(cmd StopProcess) *api.Error {
	p, ok := c.Process(cmd.Process)
	if !ok {
		return api.NotFound("process", string(cmd.Process), nil)
	}
	if !p.Live() {
		return api.Errorf(api.CodeConflict, "process %s has ended already: %s", p.ID, p.Observed.State)
	}
	c.retire(p, cmd.Reason)
	return nil
}

// retire takes a process out of service. A pending one ends at once: no node knows it.
func (c *change) retire(p *api.Process, reason string) {
	if p.Desired != api.DesiredRun {
		return
	}
	next := *p
	next.Desired, next.Reason, next.DrainSince, next.Ready = api.DesiredDrain, reason, c.at, false
	if p.Node == "" {
		next.Desired = api.DesiredStop
		next.Observed.State, next.Observed.Finished, next.Observed.Message = api.StateFailed, c.at, "stopped before it was placed"
	}
	c.putProcess(next)
	c.event("process.retired", p.App, string(p.ID), reason)
}

// updateProcesses stores reports of an agent.
func (c *change) updateProcesses(cmd UpdateProcesses) *api.Error {
	for _, id := range slices.Sorted(maps.Keys(cmd.Statuses)) {
		status := cmd.Statuses[id]
		p, ok := c.Process(id)
		switch {
		case !ok:
			c.drop("process %s: unknown", id)
		case p.Node != cmd.Node:
			c.drop("process %s: is on node %q, reported by %q", id, p.Node, cmd.Node)
		case !p.Observed.State.CanMove(status.State):
			c.drop("process %s: cannot move from %s to %s", id, p.Observed.State, status.State)
		default:
			c.observe(p, status)
		}
	}
	return nil
}

func (c *change) drop(format string, args ...any) {
	c.res.Dropped = append(c.res.Dropped, fmt.Sprintf(format, args...))
}

// observe stores one status.
func (c *change) observe(p *api.Process, status api.ProcessStatus) {
	next := *p
	if status.Addr == "" {
		status.Addr = p.Observed.Addr
	}
	next.Observed = status
	if !next.Live() {
		next.Ready = false
	}
	moved := p.Observed.State != status.State
	c.putProcess(next)
	if moved {
		c.event("process."+status.State.String(), p.App, string(p.ID), status.Message)
	} else if p.Observed.Health != status.Health {
		c.event("process."+string(status.Health), p.App, string(p.ID), status.Message)
	}
}

// lose ends the live processes of a node that cannot speak for them.
func (c *change) lose(node api.NodeID, reason string) {
	var lost []*api.Process
	for p := range c.ProcessesOn(node) {
		lost = append(lost, p)
	}
	for _, p := range lost {
		status := p.Observed
		status.State, status.Finished, status.Message = api.StateLost, c.at, reason
		c.observe(p, status)
	}
}

func (c *change) setReady(cmd SetReady) *api.Error {
	for _, id := range cmd.Ready {
		if p, ok := c.Process(id); ok && p.Live() && p.Desired == api.DesiredRun && !p.Ready {
			c.ready(*p, true, c.at)
		}
	}
	for _, id := range cmd.Unready {
		if p, ok := c.Process(id); ok && p.Ready {
			c.ready(*p, false, p.ReadyAt)
		}
	}
	return nil
}

func (c *change) ready(p api.Process, ready bool, at time.Time) {
	p.Ready, p.ReadyAt = ready, at
	c.putProcess(p)
	kind := "process.ready"
	if !ready {
		kind = "process.unready"
	}
	c.event(kind, p.App, string(p.ID), "")
}

func (c *change) setDesired(cmd SetDesired) *api.Error {
	for _, m := range cmd.Moves {
		p, ok := c.Process(m.Process)
		if !ok || !p.Live() || p.Desired >= m.Desired {
			continue
		}
		next := *p
		next.Desired, next.Ready, next.Forced = m.Desired, false, m.Forced
		if next.Reason == "" {
			next.Reason = m.Reason
		}
		if next.DrainSince.IsZero() {
			next.DrainSince = c.at
		}
		if m.Desired == api.DesiredStop {
			next.DrainedAt = c.at
		}
		c.putProcess(next)
	}
	return nil
}

// applyPlan stores what still holds of a plan.
func (c *change) applyPlan(cmd ApplyPlan) *api.Error {
	c.planned = cmd.Index
	for _, s := range cmd.Stop {
		if p, ok := c.Process(s.Process); ok && p.Live() {
			c.retire(p, s.Reason)
		}
	}
	for i := range cmd.Place {
		c.placeGroup(&cmd.Place[i])
	}
	for i := range cmd.Assign {
		if reason := c.assign(&cmd.Assign[i]); reason != "" {
			c.drop("process %s: %s", cmd.Assign[i].Process, reason)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(cmd.Pending)) {
		if p, ok := c.Process(id); ok && p.Live() && p.Node == "" && p.Waiting != cmd.Pending[id] {
			waiting := *p
			waiting.Waiting = cmd.Pending[id]
			c.putProcess(waiting)
		}
	}
	for _, k := range sortedKeys(cmd.Waiting) {
		if s, ok := c.Service(k); ok && s.Waiting != cmd.Waiting[k] {
			waiting := *s
			waiting.Waiting = cmd.Waiting[k]
			c.putService(waiting)
		}
	}
	return nil
}

func sortedKeys[V any](m map[api.ServiceKey]V) []api.ServiceKey {
	return slices.SortedFunc(maps.Keys(m), func(a, b api.ServiceKey) int {
		switch {
		case a.String() < b.String():
			return -1
		case a.String() > b.String():
			return 1
		}
		return 0
	})
}

// placing is what the copies of a group share: a plan may have a million.
type placing struct {
	api.Group
	tally   *tally
	members *roster // of the service; nil before the first copy
}

// placeGroup stores the copies of a group that still hold.
func (c *change) placeGroup(g *api.Group) {
	s, inForce := c.Service(g.Key)
	t := c.ownTally(tallyKey(g.Key, g.Release))
	shared, want := placing{Group: *g, tally: t}, 0
	if inForce {
		shared.Key = s.Key // processes keep the strings of records, not those of the log entry
		for _, w := range s.Want {
			if w.Release == g.Release {
				want, shared.Release = w.Count, w.Release
			}
		}
	}
	c.res.Events = slices.Grow(c.res.Events, len(g.Copies))
	c.res.Changes.expect(len(g.Copies))
	for i := range g.Copies {
		cp := &g.Copies[i]
		reason := ""
		switch {
		case !inForce:
			reason = "its service is gone"
		case cp.Slot < 1 || cp.Slot > slotMax:
			reason = fmt.Sprintf("slot %d is not between 1 and %d", cp.Slot, slotMax)
		case t.has(cp.Slot):
			reason = fmt.Sprintf("slot %d is held by %s", cp.Slot, c.holder(g, cp.Slot))
		case t.count >= want:
			reason = "no more copies are wanted"
		default:
			reason = c.placeCopy(&shared, cp)
		}
		if reason != "" {
			c.drop("process %s: %s", cp.ID, reason)
		}
	}
	c.keepTally(tallyKey(g.Key, g.Release), t)
}

// holder returns the process that has a slot.
func (c *change) holder(g *api.Group, slot int) api.ProcessID {
	for q := range c.LiveOf(g.Key) {
		if q.Kind == api.KindService && q.Desired == api.DesiredRun && q.Release == g.Release && q.Slot == slot {
			return q.ID
		}
	}
	return ""
}

// placeCopy stores one copy of a service if its node takes it, or returns why not. It does what
// putProcess does for a process that did not exist.
func (c *change) placeCopy(g *placing, cp *api.Copy) string {
	if _, exists := c.Process(cp.ID); exists {
		return "exists already"
	}
	n, reason := c.takes(cp.Node, g.Ask, cp.Grant)
	if reason != "" {
		return reason
	}
	p := &api.Process{
		ID: cp.ID, App: g.Key.App, Service: g.Key.Service, Kind: api.KindService, Release: g.Release, Slot: cp.Slot, Node: n.ID,
		Ask: g.Ask, Grant: cp.Grant, Attempt: cp.Attempt, Cause: cp.Cause, Created: c.at,
		Observed: api.ProcessStatus{State: api.StateAssigned, Health: api.HealthUnknown},
	}
	c.ownProcesses().put(p)
	if g.members == nil {
		g.members = enlist(c, &c.processesOf, true, g.Key.String(), p)
	} else {
		g.members.put(p)
	}
	c.reserve(p, 1)
	g.tally.add(p.Slot, 1)
	c.res.Changes.process(p)
	c.event("process.assigned", p.App, string(p.ID), "node "+n.Name+": "+p.Cause)
	return ""
}

// assign gives a pending process its node if it still holds, or returns why it does not.
func (c *change) assign(a *api.Assign) string {
	p, ok := c.Process(a.Process)
	if !ok || p.Node != "" || !p.Live() {
		return "is placed or ended already"
	}
	return c.settle(*p, a.Node, a.Grant)
}

// settle puts a process on a node that has room for it, or returns why it has not.
func (c *change) settle(p api.Process, node api.NodeID, grant *api.Grant) string {
	n, reason := c.takes(node, p.Ask, grant)
	if reason != "" {
		return reason
	}
	p.Node, p.Grant, p.Waiting = n.ID, grant, ""
	p.Observed = api.ProcessStatus{State: api.StateAssigned, Health: api.HealthUnknown}
	c.putProcess(p)
	c.event("process.assigned", p.App, string(p.ID), "node "+n.Name+": "+p.Cause)
	return ""
}

// takes returns the node if it has room for a process, or why it has not.
func (c *change) takes(node api.NodeID, ask api.Amount, grant *api.Grant) (*api.Node, string) {
	n, ok := c.Node(node)
	if !ok {
		return nil, fmt.Sprintf("node %q is gone", node)
	}
	used := c.Used(node)
	switch collision := used.Collides(grant); {
	case !n.Eligible():
		return nil, fmt.Sprintf("node %q takes no new processes", node)
	case c.planned > 0 && n.Changed > c.planned:
		return nil, fmt.Sprintf("node %q has another pool, labels or attributes since", node)
	case !ask.Fits(n.Available().Sub(used.Amount)):
		return nil, fmt.Sprintf("node %q has no room any more", node)
	case collision != "":
		return nil, fmt.Sprintf("%s of node %q is taken", collision, node)
	}
	return n, ""
}

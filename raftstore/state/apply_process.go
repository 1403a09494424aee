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
	if _, err := c.app(p.App); err != nil {
		return err
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
	for _, s := range cmd.Stop {
		if p, ok := c.Process(s.Process); ok && p.Live() {
			c.retire(p, s.Reason)
		}
	}
	for i := range cmd.Place {
		g := &cmd.Place[i]
		for j := range g.Copies {
			if reason := c.placeCopy(g, &g.Copies[j]); reason != "" {
				c.drop("process %s: %s", g.Copies[j].ID, reason)
			}
		}
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

// placeCopy stores one copy of a service if it still holds, or returns why it does not.
func (c *change) placeCopy(g *api.Group, cp *api.Copy) string {
	if _, exists := c.Process(cp.ID); exists {
		return "exists already"
	}
	p := api.Process{
		ID: cp.ID, App: g.Key.App, Service: g.Key.Service, Kind: api.KindService, Release: g.Release, Slot: cp.Slot,
		Ask: g.Ask, Attempt: cp.Attempt, Cause: cp.Cause, Created: c.at,
	}
	if reason := c.stillWanted(&p); reason != "" {
		return reason
	}
	return c.settle(p, cp.Node, cp.Grant)
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
	n, ok := c.Node(node)
	if !ok {
		return fmt.Sprintf("node %q is gone", node)
	}
	used := c.Used(node)
	switch collision := used.Collides(grant); {
	case !n.Eligible():
		return fmt.Sprintf("node %q takes no new processes", node)
	case !p.Ask.Fits(n.Available().Sub(used.Amount)):
		return fmt.Sprintf("node %q has no room any more", node)
	case collision != "":
		return fmt.Sprintf("%s of node %q is taken", collision, node)
	}
	p.Node, p.Grant, p.Waiting = n.ID, grant, ""
	p.Observed = api.ProcessStatus{State: api.StateAssigned, Health: api.HealthUnknown}
	c.putProcess(p)
	c.event("process.assigned", p.App, string(p.ID), "node "+n.Name+": "+p.Cause)
	return ""
}

// stillWanted returns why a copy of a service is not wanted any more, or "".
func (c *change) stillWanted(p *api.Process) string {
	s, ok := c.Service(p.Key())
	if !ok {
		return "its service is gone"
	}
	want := 0
	for _, w := range s.Want {
		if w.Release == p.Release {
			want = w.Count
		}
	}
	for q := range c.LiveOf(p.Key()) {
		if q.Kind != api.KindService || q.Desired != api.DesiredRun || q.Release != p.Release {
			continue
		}
		if q.Slot == p.Slot {
			return fmt.Sprintf("slot %d is held by %s", p.Slot, q.ID)
		}
		want--
	}
	if want <= 0 {
		return "no more copies are wanted"
	}
	return ""
}

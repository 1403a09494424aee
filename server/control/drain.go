package control

import (
	"context"
	"time"

	"slipway/api"
	"slipway/api/pb"
)

// PlanDrain says what a drain of a node would do to each process that the caller may see.
func (s *Server) PlanDrain(ctx context.Context, r *pb.NodeRequest) (*pb.Document, error) {
	v, n, err := s.readNode(ctx, r.GetNode())
	if err != nil {
		return nil, pb.Error(err)
	}
	plan, err := s.inquiry(v).PlanDrain(n.ID)
	if err != nil {
		return nil, pb.Error(err)
	}
	visible := []api.DrainMove{}
	for _, m := range plan.Moves {
		if s.cfg.Callers.Visible(ctx, m.App) {
			visible = append(visible, m)
		}
	}
	plan.Moves = visible
	return doc(plan, nil)
}

// PlanDrain says what a drain of a node would do to each of its processes, by what the scheduler
// would decide.
func (q *Inquiry) PlanDrain(node api.NodeID) (api.DrainPlan, error) {
	plan := api.DrainPlan{Node: node, Moves: []api.DrainMove{}}
	w, err := q.Scheduler.WhatIf(q.View, api.Change{Drain: node}, q.Now, q.IDs)
	if err != nil {
		return plan, err
	}
	d := &drainage{Inquiry: q, node: node, follow: map[api.ServiceKey]*api.WhatIfService{}}
	for i := range w.Services {
		one := &w.Services[i]
		d.follow[api.ServiceKey{App: one.App, Service: one.Service}] = one
	}
	for p := range q.View.ProcessesOn(node) {
		plan.Moves = append(plan.Moves, d.move(p))
	}
	return plan, nil
}

// drainage is a drain that is looked at.
type drainage struct {
	*Inquiry
	node   api.NodeID
	follow map[api.ServiceKey]*api.WhatIfService // what becomes of each service; Nodes shrink as they are given away
}

// move says what becomes of one process.
func (d *drainage) move(p *api.Process) api.DrainMove {
	m := api.DrainMove{Process: p.ID, App: p.App, Service: p.Service, Kind: p.Kind}
	spec, ok := d.View.Spec(p.Release, p.Service)
	switch {
	case p.Desired != api.DesiredRun:
		m.Reason = "it is on its way out already"
		return m
	case p.Kind != api.KindService || !ok:
		m.Reason = "it runs to its end, which the drain waits for"
		return m
	case spec.Agent:
		m.Reason = "it runs once on every node, and is not needed here any more"
		return m
	}
	w := d.follow[p.Key()]
	switch {
	case w != nil && len(w.Nodes) > 0:
		m.To, w.Nodes = w.Nodes[0], w.Nodes[1:]
	case w != nil && w.Waiting != "":
		m.Wait = w.Waiting
	default:
		m.Wait = "no node has room for its successor"
	}
	d.downtime(&m, p, spec)
	return m
}

// downtime says whether a service goes away while a copy of it moves, why, and for how long.
func (d *drainage) downtime(m *api.DrainMove, p *api.Process, spec *api.ServiceSpec) {
	missing, all := d.missing(p, spec)
	switch {
	case spec.Singleton:
		m.Reason = "it is a singleton: it stops before its successor starts"
	case all:
		m.Reason = "deployment.minimum lets it stop before its successor starts, and no other copy serves"
	case m.To != "":
		return
	case missing > 0:
		m.Reason = "it may stop before there is room elsewhere, as far as deployment.minimum allows"
		return
	case keepsData(spec):
		m.Reason = "its volume is on this node; it runs on here until it is stopped"
		return
	default:
		m.Reason = "it runs on here until there is room elsewhere"
		return
	}
	m.Downtime = true
	if m.To != "" {
		m.Expected = stopTime(spec) + startTime(p)
	}
}

// missing is how many copies of a service may be missing while it moves, and whether that is all
// that serve. It is the arithmetic of the rollout.
func (d *drainage) missing(p *api.Process, spec *api.ServiceSpec) (missing int, all bool) {
	svc, ok := d.View.Service(p.Key())
	if !ok {
		return 0, false
	}
	n := svc.Override.Apply(spec.Scale).Count
	missing = n * (100 - spec.Minimum) / 100
	if missing < n {
		return missing, false
	}
	for other := range d.View.LiveOf(p.Key()) {
		if other.Kind == api.KindService && other.Ready && other.Node != d.node {
			return missing, false
		}
	}
	return missing, true
}

// keepsData reports whether copies leave something on their node that the next one needs.
func keepsData(spec *api.ServiceSpec) bool {
	for _, v := range spec.Volumes {
		if v.Name != "" && !v.Memory {
			return true
		}
	}
	return false
}

// stopTime is how long a copy may take to stop.
func stopTime(spec *api.ServiceSpec) time.Duration {
	if spec.Routed() {
		return spec.Drain + spec.Grace
	}
	return spec.Grace
}

// startTime is how long a copy took from its creation until it served.
func startTime(p *api.Process) time.Duration {
	if p.ReadyAt.IsZero() {
		return 0
	}
	return p.ReadyAt.Sub(p.Created)
}

package stepstest

import (
	"slices"
	"time"

	"slipway/api"
	"slipway/raftstore/state"
)

// script says how the processes of a release behave. Times are rounded to ticks.
type script struct {
	boot     time.Duration // from the start until healthy
	crash    time.Duration // from the start until it ends by itself; 0 for never
	never    bool          // is never healthy
	badImage bool          // the image cannot be pulled
	inFlight time.Duration // requests last this long after the routers let go
	fades    time.Duration // from the start until it is unhealthy again; 0 for never
}

// agents lets every node act once.
func (r *Rack) agents() {
	v := r.State.View()
	for n := range v.Nodes() {
		if !r.up[n.ID] {
			continue
		}
		r.beats[n.ID] = r.now
		if n.Status == api.NodeDown {
			r.register(n.ID, n.BootID)
		}
		for p := range v.ProcessesOn(n.ID) {
			r.process(p)
		}
		r.router(v, n)
	}
}

func (r *Rack) register(id api.NodeID, boot string) {
	n := api.Node{ID: id, Name: string(id), BootID: boot, Router: true}
	if old, ok := r.State.View().Node(id); ok {
		n.Capacity = old.Capacity
	} else {
		n.Capacity = api.Amount{CPU: 4000, Memory: 4 * api.GiB}
	}
	r.apply("node/"+string(id), state.RegisterNode{Node: n})
}

// router acknowledges the newest table, with the targets that it dropped a short while ago.
func (r *Rack) router(v *state.View, n *api.Node) {
	var draining []api.ProcessID
	for p := range v.LiveProcesses() {
		if s := r.scripts[p.Release]; p.Desired == api.DesiredDrain && r.now.Before(p.DrainSince.Add(s.inFlight)) {
			draining = append(draining, p.ID)
		}
	}
	if n.RoutesAcked != v.RoutesVersion() || !slices.Equal(n.RoutesDraining, draining) {
		r.apply("node/"+string(n.ID), state.AckRoutes{Node: n.ID, Version: v.RoutesVersion(), Draining: draining})
	}
}

// process moves one process by one state.
func (r *Rack) process(p *api.Process) {
	s, o := r.scripts[p.Release], p.Observed
	age := r.now.Sub(o.Started)
	switch {
	case p.Desired == api.DesiredStop && o.State == api.StateStopping:
		o.State, o.Finished, o.Message = api.StateExited, r.now, "stopped"
	case p.Desired == api.DesiredStop:
		o.State = api.StateStopping
	case o.State == api.StateAssigned:
		o.State = api.StatePulling
	case o.State == api.StatePulling && s.badImage:
		o.State, o.Finished, o.Message = api.StateFailed, r.now, "pull image: not found"
	case o.State == api.StatePulling:
		o.State = api.StateStarting
	case o.State == api.StateStarting:
		o.State, o.Started, o.Addr = api.StateRunning, r.now, "10.0.0.1"
	case s.crash > 0 && age >= s.crash:
		o.State, o.Finished, o.ExitCode, o.Message = api.StateExited, r.now, 1, "exited with code 1"
		o.Lines = api.TextsOf([]string{"panic: no database"})
	case s.fades > 0 && age >= s.fades && o.Health == api.HealthHealthy:
		o.Health, o.Message = api.HealthUnhealthy, "GET /: status 500"
	case s.never && o.Health != api.HealthUnhealthy && age >= s.boot:
		o.Health, o.Message = api.HealthUnhealthy, "GET /: connection refused"
		o.Probe = &api.ProbeResult{Kind: "health", Target: "GET /", Error: "connection refused", Failures: 3}
	case !s.never && o.Health == api.HealthUnknown && age >= s.boot:
		o.Health, o.Healthy = api.HealthHealthy, r.now
	default:
		return
	}
	r.apply("node/"+string(p.Node), state.UpdateProcesses{Node: p.Node, Statuses: map[api.ProcessID]api.ProcessStatus{p.ID: o}})
}

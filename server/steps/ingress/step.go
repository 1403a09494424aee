package ingress

import (
	"slices"
	"time"

	"slipway/api"
	"slipway/raftstore/state"
	"slipway/server/steps"
)

const (
	// settle is how long a process without a check must live to be called ready.
	settle = 2 * time.Second
	// drainSlack is how much longer than the drain limit a process gets. Routers end what is
	// left at the limit, politely, and say so; but they count from when the table reached them.
	drainSlack = 3 * time.Second
)

// Step looks at the apps that changed, and at all of them when a router acknowledged
// something.
func Step(v *state.View, ch state.Changes, in steps.Input) (cmds []state.Command, wake time.Time) {
	if len(ch.Nodes) > 0 {
		ch.All = true
	}
	acks := acknowledged(v)
	var ready state.SetReady
	var moves state.SetDesired
	for _, a := range steps.Apps(v, ch) {
		routes := routesOf(v, a.Name)
		if !same(routes, v.Routes(a.Name)) {
			cmds = append(cmds, state.SetRoutes{App: a.Name, Routes: routes})
		}
		p := &pass{v: v, in: in, acks: acks, since: sinceOf(v.Routes(a.Name))}
		for q := range v.ProcessesOfApp(a.Name) {
			if q.Live() {
				p.process(q)
			}
		}
		ready.Ready, ready.Unready = append(ready.Ready, p.ready...), append(ready.Unready, p.unready...)
		moves.Moves = append(moves.Moves, p.moves...)
		wake = steps.Sooner(wake, p.wake)
	}
	return append(cmds, portions(ready, moves)...), wake
}

// perCommand bounds what one command carries, so that it fits in an entry of the log.
const perCommand = 2000

// portions cuts what was decided into commands.
func portions(ready state.SetReady, moves state.SetDesired) (cmds []state.Command) {
	for part := range slices.Chunk(ready.Ready, perCommand) {
		cmds = append(cmds, state.SetReady{Ready: part})
	}
	for part := range slices.Chunk(ready.Unready, perCommand) {
		cmds = append(cmds, state.SetReady{Unready: part})
	}
	for part := range slices.Chunk(moves.Moves, perCommand) {
		cmds = append(cmds, state.SetDesired{Moves: part})
	}
	return cmds
}

// routers is what the routers that count have acknowledged.
type routers struct {
	oldest   uint64 // version that all of them serve or have passed
	draining map[api.ProcessID]bool
	any      bool
}

func acknowledged(v *state.View) routers {
	r := routers{oldest: ^uint64(0), draining: map[api.ProcessID]bool{}}
	for n := range v.Nodes() {
		if !n.Router || n.Status != api.NodeReady {
			continue
		}
		r.any = true
		r.oldest = min(r.oldest, n.RoutesAcked)
		for _, id := range n.RoutesDraining {
			r.draining[id] = true
		}
	}
	return r
}

// pass looks at the processes of one app.
type pass struct {
	v              *state.View
	in             steps.Input
	acks           routers
	since          map[api.ProcessID]uint64 // version that first named a target
	ready, unready []api.ProcessID
	moves          []state.DesiredMove
	wake           time.Time
}

func (p *pass) process(q *api.Process) {
	switch q.Desired {
	case api.DesiredRun:
		is := p.isReady(q)
		if is && !q.Ready {
			p.ready = append(p.ready, q.ID)
		} else if !is && q.Ready {
			p.unready = append(p.unready, q.ID)
		}
	case api.DesiredDrain:
		p.drain(q)
	}
}

// isReady: healthy, and named by a table that every router serves, if it is routed at all. A
// process that was ready stays so while it is healthy and named: a router that joins later
// takes the whole table before its first request.
func (p *pass) isReady(q *api.Process) bool {
	if q.Observed.State != api.StateRunning || q.Observed.Health != api.HealthHealthy {
		return false
	}
	spec, ok := p.v.Spec(q.Release, q.Service)
	if q.Kind != api.KindService {
		return true
	}
	if ok && (spec.Port.Number == 0 || spec.Health.Disabled) {
		// Nothing proves that it works but that it stays.
		if at := q.Observed.Started.Add(settle); p.in.Now.Before(at) {
			p.wake = steps.Sooner(p.wake, at)
			return false
		}
	}
	if ok && !spec.Routed() {
		return true
	}
	since, named := p.since[q.ID]
	return named && (q.Ready || p.acks.any && p.acks.oldest >= since)
}

// drain lets a process stop once nothing is sent to it any more.
func (p *pass) drain(q *api.Process) {
	move := state.DesiredMove{Process: q.ID, Desired: api.DesiredStop, Reason: q.Reason}
	if _, named := p.since[q.ID]; named {
		return // the table that drops it is on its way
	}
	spec, ok := p.v.Spec(q.Release, q.Service)
	if q.Kind != api.KindService || !ok || !spec.Routed() || q.Observed.Healthy.IsZero() {
		p.moves = append(p.moves, move)
		return
	}
	limit := q.DrainSince.Add(spec.Drain)
	drained := !p.acks.any || p.acks.oldest >= p.v.RoutesChanged(q.App) && !p.acks.draining[q.ID]
	if last := limit.Add(drainSlack); !drained && p.in.Now.Before(last) {
		p.wake = steps.Sooner(p.wake, last)
		return
	}
	move.Forced = p.acks.any && !p.in.Now.Before(limit)
	p.moves = append(p.moves, move)
}

func sinceOf(routes []api.Route) map[api.ProcessID]uint64 {
	m := map[api.ProcessID]uint64{}
	for _, r := range routes {
		for _, t := range r.Targets {
			m[t.Process] = t.Since
		}
	}
	return m
}

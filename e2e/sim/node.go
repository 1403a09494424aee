package sim

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"slipway/agent"
	"slipway/api"
	"slipway/raftstore/state"
)

// heartbeat is the interval of simulated agents.
const heartbeat = 2 * time.Second

// node is one simulated machine with its agent and router.
type node struct {
	w       *World
	id      api.NodeID
	boot    int
	up      bool
	cut     bool // the network does not reach it; its processes run on
	epoch   int  // changes when the agent restarts or the machine goes away
	syncDue time.Time
	beatDue time.Time // the next heartbeat; there is one chain of them
	procs   map[api.ProcessID]*proc
	images  map[api.ReleaseID]bool
	table   map[api.ProcessID]bool // targets that the router serves
	acked   uint64
	drains  map[api.ProcessID]time.Time // until when requests are in flight
}

// proc is a process on a node.
type proc struct {
	a      api.Assignment
	l      agent.Local
	acting agent.Action
	sent   string // the status last reported
}

// start boots the machine.
func (n *node) start() {
	n.up, n.cut, n.epoch, n.beatDue = true, false, n.epoch+1, time.Time{}
	n.procs, n.images = map[api.ProcessID]*proc{}, map[api.ReleaseID]bool{}
	n.table, n.drains, n.acked = map[api.ProcessID]bool{}, map[api.ProcessID]time.Time{}, 0
	n.register()
}

// silence cuts the network; heal brings it back, and the agent tells everything anew.
func (n *node) silence() {
	n.w.note("node %s is cut off", n.id)
	n.cut = true
}

func (n *node) heal() {
	n.w.note("node %s is reached again", n.id)
	n.cut = false
	for _, p := range n.procs {
		p.sent = ""
	}
	n.register()
	for _, id := range slices.Sorted(maps.Keys(n.procs)) {
		n.report(n.procs[id])
	}
}

func (n *node) register() {
	if n.cut {
		return
	}
	n.w.Apply("node/"+string(n.id), state.RegisterNode{Node: api.Node{
		ID: n.id, Name: string(n.id), BootID: fmt.Sprint(n.boot), Router: true,
		Capacity: api.Amount{CPU: 4000, Memory: 8 * api.GiB},
	}})
	n.beat(n.epoch)
	n.planSync(n.w.Now.Add(time.Millisecond))
}

// kill cuts the power; reboot comes back with nothing running.
func (n *node) kill() {
	n.w.note("node %s loses power", n.id)
	n.up, n.epoch = false, n.epoch+1
}

func (n *node) reboot() {
	n.w.note("node %s boots", n.id)
	n.boot++
	n.start()
}

// restartAgent is a crash of the agent alone: processes live on, actions in progress are lost.
func (n *node) restartAgent() {
	n.w.note("agent of %s restarts", n.id)
	n.epoch, n.beatDue = n.epoch+1, time.Time{}
	for _, p := range n.procs {
		p.acting, p.sent = agent.ActNone, ""
	}
	n.register()
	for _, id := range slices.Sorted(maps.Keys(n.procs)) {
		p := n.procs[id]
		if p.l.Task && p.l.Exit == nil {
			n.live(p)
		}
	}
}

func (n *node) beat(epoch int) {
	if !n.up || n.cut || epoch != n.epoch || n.beatDue.After(n.w.Now) {
		return
	}
	n.beatDue = n.w.Now.Add(heartbeat)
	n.w.beats[n.id] = n.w.Now
	n.w.at(n.beatDue, func() { n.beat(epoch) })
	if v, ok := n.w.State.View().Node(n.id); ok && v.Status == api.NodeDown {
		n.register()
	}
}

func (n *node) planSync(at time.Time) {
	if !n.up || !n.syncDue.IsZero() && !at.Before(n.syncDue) && n.syncDue.After(n.w.Now) {
		return
	}
	n.syncDue = at
	n.w.at(at, func() {
		if n.up && !n.cut && n.syncDue.Equal(at) {
			n.syncDue = time.Time{}
			n.sync()
		}
	})
}

// sync takes the newest assignments and routes.
func (n *node) sync() {
	v := n.w.State.View()
	named := map[api.ProcessID]bool{}
	for p := range v.ProcessesOn(n.id) {
		named[p.ID] = true
		mine := n.procs[p.ID]
		if mine == nil {
			mine = &proc{}
			n.procs[p.ID] = mine
		}
		mine.a = api.Assignment{Process: p.ID, App: p.App, Service: p.Service, Kind: p.Kind, Release: p.Release, Desired: p.Desired, Ask: p.Ask, Run: p.Run}
		if spec, ok := v.Spec(p.Release, p.Service); ok {
			mine.a.Spec = *spec
		}
	}
	n.route(v)
	for _, id := range slices.Sorted(maps.Keys(n.procs)) {
		p := n.procs[id]
		p.l.Unwanted = !named[id]
		n.step(p)
	}
}

// route swaps the table and acknowledges; requests to targets that left it last a while.
func (n *node) route(v *state.View) {
	table := v.RouteTable()
	if table.Version == n.acked {
		return
	}
	next := map[api.ProcessID]bool{}
	for _, r := range table.Routes {
		for _, t := range r.Targets {
			next[t.Process] = true
		}
	}
	for id := range n.table {
		if p, ok := v.Process(id); ok && !next[id] {
			if d := n.w.apps[p.Release].Drain; d > 0 {
				n.drains[id] = n.w.Now.Add(d)
				epoch := n.epoch
				n.w.at(n.drains[id], func() {
					if epoch == n.epoch {
						n.ack()
					}
				})
			}
		}
	}
	n.table, n.acked = next, table.Version
	n.ack()
}

func (n *node) ack() {
	for id, until := range n.drains {
		if !until.After(n.w.Now) {
			delete(n.drains, id)
		}
	}
	if n.cut {
		return
	}
	n.w.Apply("node/"+string(n.id), state.AckRoutes{Node: n.id, Version: n.acked, Draining: slices.Sorted(maps.Keys(n.drains))})
}

// step drives the real agent.Next for one process.
func (n *node) step(p *proc) {
	act, next, wake := agent.Next(&p.a, p.l, n.w.Now)
	p.l = next
	n.report(p)
	switch {
	case act == agent.ActForget:
		delete(n.procs, p.a.Process)
		return
	case act != agent.ActNone && p.acting == agent.ActNone:
		n.begin(p, act)
	}
	if !wake.IsZero() {
		epoch, id := n.epoch, p.a.Process
		n.w.at(laterOf(wake, n.w.Now.Add(time.Millisecond)), func() { n.again(epoch, id) })
	}
}

func laterOf(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// again steps a process if the agent is still the one that planned it.
func (n *node) again(epoch int, id api.ProcessID) {
	if p := n.procs[id]; p != nil && n.up && epoch == n.epoch {
		n.step(p)
	}
}

func (n *node) report(p *proc) {
	doc := fmt.Sprint(p.l.Status)
	if doc == p.sent || n.cut {
		return
	}
	p.sent = doc
	n.w.Apply("node/"+string(n.id), state.UpdateProcesses{Node: n.id, Statuses: map[api.ProcessID]api.ProcessStatus{p.a.Process: p.l.Status}})
}

// begin executes an action: it takes as long as the release's behaviour says.
func (n *node) begin(p *proc, act agent.Action) {
	p.acting = act
	b := n.w.apps[p.a.Release]
	took := 20 * time.Millisecond
	if act == agent.ActPull && !n.images[p.a.Release] {
		took = b.Pull
	}
	epoch, id := n.epoch, p.a.Process
	n.w.at(n.w.Now.Add(max(took, time.Millisecond)), func() {
		if p := n.procs[id]; p != nil && n.up && epoch == n.epoch && p.acting == act {
			p.acting = agent.ActNone
			n.done(p, act, b)
			n.step(p)
		}
	})
}

// done takes the outcome of an action into the facts.
func (n *node) done(p *proc, act agent.Action, b Behaviour) {
	switch act {
	case agent.ActPull:
		if b.BadName {
			p.l.Failures, p.l.Failed, p.l.FailedAt, p.l.Error, p.l.Fatal = 1, act, n.w.Now, "pull image: not found", true
			return
		}
		p.l.Image, n.images[p.a.Release] = true, true
	case agent.ActCreate:
		p.l.Container, p.l.Status.Addr = true, "10.88.0.9"
	case agent.ActStart:
		p.l.Task, p.l.Status.Started = true, n.w.Now
		n.live(p)
	case agent.ActTerm:
		p.l.TermAt = n.w.Now
		n.exit(p, b.Linger, 143)
	case agent.ActKill:
		p.l.KillAt = n.w.Now
		n.exit(p, time.Millisecond, 137)
	case agent.ActClean:
		p.l.Clean = true
	}
}

// live lets a started process become healthy, or crash.
func (n *node) live(p *proc) {
	b := n.w.apps[p.a.Release]
	epoch, id := n.epoch, p.a.Process
	set := func(after time.Duration, f func(*proc)) {
		n.w.at(n.w.Now.Add(after), func() {
			if p := n.procs[id]; p != nil && n.up && epoch == n.epoch && p.l.Exit == nil {
				f(p)
				n.step(p)
			}
		})
	}
	if !b.Never && p.l.Status.Healthy.IsZero() {
		set(b.Boot, func(p *proc) { p.l.Status.Health, p.l.Status.Healthy = api.HealthHealthy, n.w.Now })
	}
	if b.Never {
		set(b.Boot+p.a.Spec.Health.Grace+15*time.Second, func(p *proc) { p.l.Status.Health = api.HealthUnhealthy })
	}
	if b.Fade > 0 {
		set(b.Fade, func(p *proc) { p.l.Status.Health = api.HealthUnhealthy })
	}
	if b.Crash > 0 {
		set(b.Crash, func(p *proc) { p.l.Exit = &agent.Exit{Code: 1, At: n.w.Now} })
	}
}

func (n *node) exit(p *proc, after time.Duration, code int) {
	epoch, id := n.epoch, p.a.Process
	n.w.at(n.w.Now.Add(max(after, time.Millisecond)), func() {
		if p := n.procs[id]; p != nil && n.up && epoch == n.epoch && p.l.Exit == nil {
			p.l.Exit = &agent.Exit{Code: code, At: n.w.Now}
			n.step(p)
		}
	})
}

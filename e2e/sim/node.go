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
	w      *World
	id     api.NodeID
	boot   int
	up     bool
	epoch  int // changes when the agent restarts or the machine goes away
	skew   time.Duration
	full   bool // its disk: nothing can be pulled or created
	procs  map[api.ProcessID]*proc
	images map[api.ReleaseID]bool
	table  map[api.ProcessID]bool // targets that the router serves
	acked  uint64
	drains map[api.ProcessID]time.Time // until when requests are in flight

	// The stream to the leader: one message is under way at a time, what follows is joined.
	server     *Server
	session    int // changes with every connection
	sending    bool
	registered bool
	outbox     map[api.ProcessID]api.ProcessStatus
	ackDue     bool
	seen       uint64 // index of the newest view that was pushed
	pushDue    bool
	beating    bool
}

// proc is a process on a node.
type proc struct {
	a      api.Assignment
	l      agent.Local
	acting agent.Action
	sent   string // the status last put into the stream
}

// now is the node's clock.
func (n *node) now() time.Time { return n.w.Now.Add(n.skew) }

// later plans an event of this life of the agent.
func (n *node) later(d time.Duration, do func()) {
	epoch := n.epoch
	n.w.after(d, func() {
		if n.up && n.epoch == epoch {
			do()
		}
	})
}

// start boots the machine.
func (n *node) start() {
	n.up, n.epoch = true, n.epoch+1
	n.procs, n.images = map[api.ProcessID]*proc{}, map[api.ReleaseID]bool{}
	n.table, n.drains, n.acked = map[api.ProcessID]bool{}, map[api.ProcessID]time.Time{}, 0
	n.awake()
}

// awake is the start of an agent: it looks for the leader and goes on beating.
func (n *node) awake() {
	n.beating = false
	n.connect(n.w.Leader())
	n.beat()
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
	n.epoch++
	for _, p := range n.procs {
		p.acting = agent.ActNone
	}
	n.awake()
	for _, id := range slices.Sorted(maps.Keys(n.procs)) {
		if p := n.procs[id]; p.l.Task && p.l.Exit == nil {
			n.live(p)
		}
	}
}

// connect begins a stream to a leader: the agent registers and tells everything anew.
func (n *node) connect(s *Server) {
	if !n.up || s == nil {
		return
	}
	n.server, n.session, n.sending, n.registered, n.ackDue, n.seen = s, n.session+1, false, false, true, 0
	n.outbox = map[api.ProcessID]api.ProcessStatus{}
	for id, p := range n.procs {
		p.sent = fmt.Sprint(p.l.Status)
		n.outbox[id] = p.l.Status
	}
	n.flush()
}

// beat says that the node lives, and looks for a leader where the stream has broken.
func (n *node) beat() {
	if n.beating {
		return
	}
	n.beating = true
	n.later(heartbeat, func() { n.beating = false; n.beat() })
	s := n.server
	if s == nil || !s.up || s.role != leader {
		n.connect(n.w.Leader())
		return
	}
	n.w.send(string(n.id), s.name, func() {
		if !s.up || s.role != leader {
			return
		}
		s.beats[n.id] = s.now()
		if v, ok := s.state.View().Node(n.id); ok && v.Status == api.NodeDown {
			session := n.session
			n.w.send(s.name, string(n.id), func() {
				if n.up && n.session == session {
					n.connect(s)
				}
			})
		}
	})
}

// flush sends what has gathered. A message that is not answered is sent again, with what has
// gathered since.
func (n *node) flush() {
	if !n.up || n.sending || n.server == nil {
		return
	}
	commands := n.gathered()
	if len(commands) == 0 {
		return
	}
	n.sending = true
	session, s, statuses, acks := n.session, n.server, n.outbox, n.ackDue
	n.outbox, n.ackDue = map[api.ProcessID]api.ProcessStatus{}, false
	answered := false
	answer := func(ok bool, _ []state.Result) {
		if answered || !n.up || n.session != session {
			return
		}
		answered, n.sending = true, false
		if ok {
			n.registered = true
			n.pull(s)
		} else {
			n.again(statuses, acks)
			n.later(200*time.Millisecond, n.reconnect)
			return
		}
		n.flush()
	}
	n.w.send(string(n.id), s.name, func() { s.request(string(n.id), "node/"+string(n.id), "", commands, answer) })
	n.later(retryAfter, func() {
		if !answered && n.session == session {
			answered, n.sending = true, false
			n.again(statuses, acks)
			n.reconnect()
		}
	})
}

// reconnect goes to the leader if that is another by now, and goes on in any case.
func (n *node) reconnect() {
	if s := n.w.Leader(); s != nil && s != n.server {
		n.connect(s)
		return
	}
	n.flush()
}

// again puts back what was not taken, unless there is newer.
func (n *node) again(statuses map[api.ProcessID]api.ProcessStatus, acks bool) {
	for id, s := range statuses {
		if _, newer := n.outbox[id]; !newer {
			n.outbox[id] = s
		}
	}
	n.ackDue = n.ackDue || acks
}

// gathered is what there is to say.
func (n *node) gathered() []state.Command {
	var out []state.Command
	if !n.registered {
		out = append(out, state.RegisterNode{Node: api.Node{
			ID: n.id, Name: string(n.id), BootID: fmt.Sprint(n.boot), Router: true, Labels: map[string]string{"zone": "z" + string(n.id[len(n.id)-1:])},
			Capacity: api.Amount{CPU: 4000, Memory: 8 * api.GiB},
		}})
	}
	if len(n.outbox) > 0 {
		out = append(out, state.UpdateProcesses{Node: n.id, Statuses: n.outbox})
	}
	if n.ackDue {
		out = append(out, state.AckRoutes{Node: n.id, Version: n.acked, Draining: slices.Sorted(maps.Keys(n.drains))})
	}
	return out
}

// pushed takes the leader's newest view, after the time that a message needs. Pushes in a row
// are one.
func (n *node) pushed(s *Server) {
	if n.up && n.server == s && !n.pushDue {
		n.pushDue = true
		session := n.session
		n.w.after(time.Millisecond, func() {
			n.pushDue = false
			if n.session == session {
				n.pull(s)
			}
		})
	}
}

// pull brings the leader's view to the node.
func (n *node) pull(s *Server) {
	session, v := n.session, s.state.View()
	n.w.send(s.name, string(n.id), func() {
		if n.up && n.session == session && n.registered && v.Index() >= n.seen {
			n.seen = v.Index()
			n.sync(v)
		}
	})
}

// sync takes the newest assignments and routes.
func (n *node) sync(v *state.View) {
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
		if p := n.procs[id]; p != nil {
			p.l.Unwanted = !named[id]
			n.step(p)
		}
	}
}

// route swaps the table and acknowledges; requests to targets that left it last a while.
func (n *node) route(v *state.View) {
	if v.RoutesVersion() == n.acked {
		return
	}
	next := n.w.targets(v)
	for id := range n.table {
		if p, ok := v.Process(id); ok && !next[id] {
			if d := n.w.apps[p.Release].Drain; d > 0 {
				n.drains[id] = n.w.Now.Add(d)
				n.later(d, n.ack)
			}
		}
	}
	n.table, n.acked = next, v.RoutesVersion()
	n.ack()
}

func (n *node) ack() {
	for id, until := range n.drains {
		if !until.After(n.w.Now) {
			delete(n.drains, id)
		}
	}
	n.ackDue = true
	n.flush()
}

// step drives the real agent.Next for one process.
func (n *node) step(p *proc) {
	act, next, wake := agent.Next(&p.a, p.l, n.now())
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
		id := p.a.Process
		n.later(max(time.Millisecond, wake.Sub(n.now())), func() { n.stepAgain(id) })
	}
}

// stepAgain steps a process that is still there.
func (n *node) stepAgain(id api.ProcessID) {
	if p := n.procs[id]; p != nil {
		n.step(p)
	}
}

func (n *node) report(p *proc) {
	if doc := fmt.Sprint(p.l.Status); doc != p.sent {
		p.sent = doc
		n.outbox[p.a.Process] = p.l.Status
		n.flush()
	}
}

// begin executes an action: it takes as long as the release's behaviour says.
func (n *node) begin(p *proc, act agent.Action) {
	p.acting = act
	if act == agent.ActTerm {
		n.w.checkDrained(p)
	}
	b := n.w.apps[p.a.Release]
	took := 20 * time.Millisecond
	if act == agent.ActPull && !n.images[p.a.Release] {
		took = b.Pull
	}
	id := p.a.Process
	n.later(max(took, time.Millisecond), func() {
		if p := n.procs[id]; p != nil && p.acting == act {
			p.acting = agent.ActNone
			n.done(p, act, b)
			n.step(p)
		}
	})
}

// done takes the outcome of an action into the facts.
func (n *node) done(p *proc, act agent.Action, b Behaviour) {
	switch act {
	case agent.ActPull, agent.ActCreate:
		if n.full {
			p.l.Failures, p.l.Failed, p.l.FailedAt, p.l.Error = p.l.Failures+1, act, n.now(), "no space left on device"
			return
		}
	}
	switch act {
	case agent.ActPull:
		if b.BadName {
			p.l.Failures, p.l.Failed, p.l.FailedAt, p.l.Error, p.l.Fatal = 1, act, n.now(), "pull image: not found", true
			return
		}
		p.l.Image, n.images[p.a.Release] = true, true
	case agent.ActCreate:
		p.l.Container, p.l.Status.Addr = true, "10.88.0.9"
	case agent.ActStart:
		p.l.Task, p.l.Status.Started = true, n.now()
		n.live(p)
	case agent.ActTerm:
		p.l.TermAt = n.now()
		n.exit(p, b.Linger, 143)
	case agent.ActKill:
		p.l.KillAt = n.now()
		n.exit(p, time.Millisecond, 137)
	case agent.ActClean:
		p.l.Clean = true
	}
}

// live lets a started process become healthy, or crash.
func (n *node) live(p *proc) {
	b := n.w.apps[p.a.Release]
	id := p.a.Process
	set := func(after time.Duration, f func(*proc)) {
		n.later(after, func() {
			if p := n.procs[id]; p != nil && p.l.Exit == nil {
				f(p)
				n.step(p)
			}
		})
	}
	if !b.Never && p.l.Status.Healthy.IsZero() {
		set(b.Boot, func(p *proc) { p.l.Status.Health, p.l.Status.Healthy = api.HealthHealthy, n.now() })
	}
	if b.Never {
		set(b.Boot+p.a.Spec.Health.Grace+15*time.Second, func(p *proc) { p.l.Status.Health = api.HealthUnhealthy })
	}
	if b.Fade > 0 {
		set(b.Fade, func(p *proc) { p.l.Status.Health = api.HealthUnhealthy })
	}
	if b.Flap > 0 {
		n.flap(p, b.Flap)
	}
	if b.Crash > 0 {
		set(b.Crash, func(p *proc) { p.l.Exit = &agent.Exit{Code: 1, At: n.now()} })
	}
}

// flap changes the health of a process again and again.
func (n *node) flap(p *proc, every time.Duration) {
	id := p.a.Process
	n.later(every, func() {
		p := n.procs[id]
		if p == nil || p.l.Exit != nil {
			return
		}
		if p.l.Status.Health == api.HealthHealthy {
			p.l.Status.Health = api.HealthUnhealthy
		} else {
			p.l.Status.Health = api.HealthHealthy
		}
		n.step(p)
		n.flap(p, every)
	})
}

func (n *node) exit(p *proc, after time.Duration, code int) {
	id := p.a.Process
	n.later(max(after, time.Millisecond), func() {
		if p := n.procs[id]; p != nil && p.l.Exit == nil {
			p.l.Exit = &agent.Exit{Code: code, At: n.now()}
			n.step(p)
		}
	})
}

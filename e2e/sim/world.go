package sim

import (
	"container/heap"
	"fmt"
	"strings"
	"time"

	"slipway/api"
	"slipway/raftstore/state"
	"slipway/server"
	"slipway/server/steps"
)

// World is one simulated rack.
type World struct {
	Now   time.Time
	State *state.State

	index   uint64
	rand    *api.IDs
	events  queue
	seq     int
	changes state.Changes
	passDue time.Time // of the leader; zero when none is planned
	due     time.Time // when the leader looks at everything; zero for never
	leader  time.Time // since when it leads
	beats   map[api.NodeID]time.Time
	nodes   []*node
	apps    map[api.ReleaseID]Behaviour
	trace   []string // the last decisions
	broken  []string
	minimum map[api.ServiceKey]int // ready copies that must not be undercut because of us
	faulty  bool                   // faults may undercut it now
}

// Behaviour is how the processes of a release behave.
type Behaviour struct {
	Pull    time.Duration // of the image, per node
	Boot    time.Duration // from the start until healthy
	Never   bool          // never becomes healthy
	Fade    time.Duration // is unhealthy after this time; 0 for never
	Crash   time.Duration // ends by itself after this time; 0 for never
	Linger  time.Duration // from SIGTERM to the end
	Drain   time.Duration // requests in flight last this long
	BadName bool          // the image does not exist
}

const traceMax = 50

// NewWorld returns a rack with nodes of 4 cores and 8 GiB.
func NewWorld(seed uint64, nodes int) *World {
	w := &World{
		Now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), State: state.New(), rand: api.NewIDs(seed),
		beats: map[api.NodeID]time.Time{}, apps: map[api.ReleaseID]Behaviour{}, minimum: map[api.ServiceKey]int{},
	}
	w.leader = w.Now
	w.Apply("setup", state.ConfigureRack{Rack: state.Rack{Name: "sim", Domain: "sim.test"}})
	for i := range nodes {
		n := &node{w: w, id: api.NodeID(fmt.Sprintf("n%d", i+1)), boot: 1}
		w.nodes = append(w.nodes, n)
		n.start()
	}
	return w
}

// Apply puts one command through the log and plans a pass of the leader.
func (w *World) Apply(actor string, c state.Command) state.Result {
	w.index++
	before := w.State.View()
	r := w.State.Apply(w.index, state.Entry{At: w.Now, Actor: actor, Command: c})
	w.changes.Merge(r.Changes)
	if r.Err != nil {
		w.note("%s %s: rejected: %v", actor, c.Type(), r.Err)
	}
	for _, e := range r.Events {
		w.note("%s %s %s", e.Type, e.Object, e.Message)
	}
	w.broken = append(w.broken, w.State.View().Check()...)
	w.checkMoves(before, r.Changes)
	w.checkRoutes(c)
	w.checkMinimum()
	if !w.changes.Empty() {
		w.planPass(w.Now.Add(time.Millisecond))
		for _, n := range w.nodes {
			n.planSync(w.Now.Add(2 * time.Millisecond))
		}
	}
	return r
}

// checkMoves: states and what is wanted of a process never go back.
func (w *World) checkMoves(before *state.View, ch state.Changes) {
	now := w.State.View()
	for id := range ch.Processes {
		was, ok := before.Process(id)
		is, still := now.Process(id)
		if !ok || !still {
			continue
		}
		if !was.Observed.State.CanMove(is.Observed.State) || is.Desired < was.Desired {
			w.broken = append(w.broken, fmt.Sprintf("process %s went from %s/%s to %s/%s",
				id, was.Observed.State, was.Desired, is.Observed.State, is.Desired))
		}
	}
}

// checkRoutes: a table leads to processes that are reported healthy and have not been asked to
// stop. One that began to drain in the same pass may be named once more, for all steps of a
// pass see the same snapshot; it is not stopped before a table without it is acknowledged.
func (w *World) checkRoutes(c state.Command) {
	set, ok := c.(state.SetRoutes)
	if !ok {
		return
	}
	for _, r := range set.Routes {
		for _, t := range r.Targets {
			p, ok := w.State.View().Process(t.Process)
			if !ok || p.Desired == api.DesiredStop || p.Observed.Health != api.HealthHealthy {
				w.broken = append(w.broken, fmt.Sprintf("route %s leads to process %s, which is not healthy or is to stop", r.Key, t.Process))
			}
		}
	}
}

// checkMinimum compares the ready copies with what a rollout may not undercut.
func (w *World) checkMinimum() {
	if w.faulty {
		return
	}
	v := w.State.View()
	for key, least := range w.minimum {
		ready := 0
		for p := range v.LiveOf(key) {
			if p.Ready {
				ready++
			}
		}
		if ready < least {
			w.broken = append(w.broken, fmt.Sprintf("%s has %d ready copies, the minimum is %d", key, ready, least))
			delete(w.minimum, key)
		}
	}
}

func (w *World) note(format string, args ...any) {
	w.trace = append(w.trace, w.Now.Format("15:04:05.000 ")+fmt.Sprintf(format, args...))
	if len(w.trace) > traceMax {
		w.trace = w.trace[1:]
	}
}

// Trace returns the last decisions, a line each.
func (w *World) Trace() string { return strings.Join(w.trace, "\n") }

// Broken returns the invariants that were broken so far.
func (w *World) Broken() []string { return w.broken }

func (w *World) planPass(at time.Time) {
	if w.passDue.IsZero() || at.Before(w.passDue) {
		w.passDue = at
		w.at(at, func() {
			if w.passDue.Equal(at) {
				w.passDue = time.Time{}
				w.pass()
			}
		})
	}
}

// pass is one pass of the leader.
func (w *World) pass() {
	ch := w.changes
	if !w.due.IsZero() && !w.due.After(w.Now) {
		ch = state.Everything() // woken by the timer
	}
	w.changes = state.Changes{}
	beats := map[api.NodeID]time.Time{}
	for id, at := range w.beats {
		beats[id] = at
	}
	in := steps.Input{Now: w.Now, IDs: api.NewIDs(w.rand.Uint64()), Leader: w.leader, Heartbeats: beats}
	entries, wake := server.Decide(w.State.View(), ch, in)
	for _, e := range entries {
		w.Apply(e.Actor, e.Command)
	}
	if w.due = steps.Sooner(w.due, wake); ch.All {
		w.due = wake
	}
	if !w.due.IsZero() {
		w.due = laterOf(w.due, w.Now.Add(time.Millisecond))
		w.planPass(w.due)
	}
}

// Elect makes another server the leader: it knows nothing but the state.
func (w *World) Elect() {
	w.note("a new leader is elected")
	w.leader, w.beats, w.changes = w.Now, map[api.NodeID]time.Time{}, state.Everything()
	w.planPass(w.Now.Add(time.Millisecond))
}

// Run lets time pass.
func (w *World) Run(d time.Duration) {
	end := w.Now.Add(d)
	for len(w.events) > 0 && !w.events[0].at.After(end) && len(w.broken) == 0 {
		e := heap.Pop(&w.events).(event)
		w.Now = e.at
		e.do()
	}
	if len(w.broken) == 0 {
		w.Now = end
	}
}

// RunUntil lets time pass until ok, and reports whether that was within limit.
func (w *World) RunUntil(limit time.Duration, ok func(*state.View) bool) bool {
	end := w.Now.Add(limit)
	for !ok(w.State.View()) {
		if len(w.events) == 0 || w.events[0].at.After(end) || len(w.broken) > 0 {
			return false
		}
		e := heap.Pop(&w.events).(event)
		w.Now = e.at
		e.do()
	}
	return true
}

// at plans an event.
func (w *World) at(t time.Time, do func()) {
	w.seq++
	heap.Push(&w.events, event{at: t, seq: w.seq, do: do})
}

// event happens at a time; equal times happen in the order they were planned.
type event struct {
	at  time.Time
	seq int
	do  func()
}

type queue []event

func (q queue) Len() int { return len(q) }
func (q queue) Less(i, j int) bool {
	if q[i].at.Equal(q[j].at) {
		return q[i].seq < q[j].seq
	}
	return q[i].at.Before(q[j].at)
}
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }

// Push implements heap.Interface.
func (q *queue) Push(x any) { *q = append(*q, x.(event)) }

// Pop implements heap.Interface.
func (q *queue) Pop() any {
	old := *q
	e := old[len(old)-1]
	*q = old[:len(old)-1]
	return e
}

package sim

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"slipway/api"
	"slipway/raftstore/state"
	"slipway/server/steps/reap"
)

// World is one simulated rack: servers, nodes, the network between them and the people who use
// it, in virtual time and on one goroutine. Equal seeds have equal histories.
type World struct {
	Now time.Time
	// State is the truth: what is committed, applied once, when the first server applies it.
	State *state.State
	// Counters for reports.
	Events, Messages, Passes, Commits, Checks int
	Injected                                  map[string]int // faults

	index    uint64 // of the truth
	rand     *api.IDs
	events   queue
	seq      int
	servers  []*Server
	nodes    []*node
	byID     map[api.NodeID]*node
	net      network
	torn     bool
	leaders  map[uint64]string // by term
	requests int
	open     int // requests that nobody has answered yet
	acked    map[api.RequestID]time.Time
	apps     map[api.ReleaseID]Behaviour
	trace    []string // the last decisions
	all      *strings.Builder
	broken   []string
	minimum  map[api.ServiceKey]int // ready copies that must not be undercut because of us
	faulty   bool                   // faults may undercut it now
	series   *Series
	table    map[api.ProcessID]bool // targets of the newest table that a node took
	tableOf  uint64                 // its version
}

// Behaviour is how the processes of a release behave.
type Behaviour struct {
	Pull    time.Duration // of the image, per node
	Boot    time.Duration // from the start until healthy
	Never   bool          // never becomes healthy
	Fade    time.Duration // is unhealthy after this time; 0 for never
	Flap    time.Duration // changes its health this often; 0 for never
	Crash   time.Duration // ends by itself after this time; 0 for never
	Linger  time.Duration // from SIGTERM to the end
	Drain   time.Duration // requests in flight last this long
	BadName bool          // the image does not exist
}

const traceMax = 60

// NewWorld returns a rack with one server and nodes of 4 cores and 8 GiB.
func NewWorld(seed uint64, nodes int) *World { return NewCluster(seed, 1, nodes) }

// NewCluster returns a rack with servers and nodes, which has elected a leader.
func NewCluster(seed uint64, servers, nodes int) *World {
	w := &World{
		Now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), State: state.New(), rand: api.NewIDs(seed),
		net: network{cut: map[[2]string]bool{}, Delay: 2 * time.Millisecond}, byID: map[api.NodeID]*node{},
		Injected: map[string]int{}, leaders: map[uint64]string{}, acked: map[api.RequestID]time.Time{}, apps: map[api.ReleaseID]Behaviour{}, minimum: map[api.ServiceKey]int{},
	}
	for i := range servers {
		w.servers = append(w.servers, &Server{w: w, name: fmt.Sprintf("s%d", i+1)})
	}
	for _, s := range w.servers {
		s.start()
	}
	w.Apply("setup", state.ConfigureRack{Rack: state.Rack{Name: "sim", Domain: "sim.test"}})
	for i := range nodes {
		n := &node{w: w, id: api.NodeID(fmt.Sprintf("n%d", i+1)), boot: 1}
		w.nodes = append(w.nodes, n)
		w.byID[n.id] = n
		n.start()
	}
	w.Run(2 * time.Second)
	return w
}

func (w *World) serverNamed(name string) *Server {
	for _, s := range w.servers {
		if s.name == name {
			return s
		}
	}
	return nil
}

// committed applies an entry to the truth when the first server applies it, and holds every
// other server to it.
func (w *World) committed(e entry, entries []state.Entry, results []state.Result) {
	if e.index <= w.index {
		return
	}
	if e.index != w.index+1 {
		w.fail("entry %d is applied after %d", e.index, w.index)
		return
	}
	w.index = e.index
	w.Commits++
	if len(entries) == 0 {
		return
	}
	before := w.State.View()
	for i, r := range w.State.ApplyAll(e.index, entries) {
		if r.Err != nil {
			w.note("%s %s: rejected: %v", entries[i].Actor, entries[i].Command.Type(), r.Err)
		}
		for _, ev := range r.Events {
			w.note("%s %s %s", ev.Type, ev.Object, ev.Message)
			w.series.count(ev.Type)
		}
		w.checkMoves(before, r.Changes)
		if r.Err == nil != (results[i].Err == nil) {
			w.fail("entry %d: a replica answers %v, the truth %v", e.index, results[i].Err, r.Err)
		}
	}
	w.check()
}

// compare holds the snapshot of a replica to the truth.
func (w *World) compare(s *Server, body []byte) {
	if s.applied != w.index {
		return
	}
	var b bytes.Buffer
	if err := w.State.View().Encode(&b); err != nil || !bytes.Equal(b.Bytes(), body) {
		w.fail("%s differs from the others at entry %d", s.name, s.applied)
	}
}

// leaderReady holds a new leader to what was acknowledged: it must have all of it.
func (w *World) leaderReady(s *Server) {
	known, reaped := map[api.RequestID]bool{}, map[api.RequestID]bool{}
	for id := range s.state.View().Requests() {
		known[id] = true
	}
	for id := range w.acked {
		reaped[id] = true
	}
	for id := range w.State.View().Requests() {
		delete(reaped, id)
	}
	for id, at := range w.acked {
		if !known[id] && !reaped[id] {
			w.fail("%s leads without request %s, which was acknowledged at %s", s.name, id, at.Format(time.TimeOnly))
		}
		if w.Now.Sub(at) > reap.RequestAge {
			delete(w.acked, id)
		}
	}
	for _, n := range w.nodes {
		n.connect(s)
	}
}

// push tells the nodes that a change concerns, as the dispatcher of a leader does.
func (w *World) push(s *Server, ch state.Changes) {
	v := s.state.View()
	if len(ch.Routes) > 0 {
		for _, n := range w.nodes {
			n.pushed(s)
		}
		return
	}
	told := map[api.NodeID]bool{}
	for id := range ch.Nodes {
		told[id] = true
	}
	for id := range ch.Usage {
		told[id] = true
	}
	for id := range ch.Processes {
		if p, ok := v.Process(id); ok && p.Node != "" {
			told[p.Node] = true
		}
	}
	for _, n := range w.nodes {
		if told[n.id] {
			n.pushed(s)
		}
	}
}

func (w *World) note(format string, args ...any) {
	line := w.Now.Format("15:04:05.000 ") + fmt.Sprintf(format, args...)
	if w.all != nil {
		w.all.WriteString(line + "\n")
	}
	w.trace = append(w.trace, line)
	if len(w.trace) > 2*traceMax {
		w.trace = append(w.trace[:0], w.trace[traceMax:]...)
	}
}

// fail records a broken invariant, which ends the run.
func (w *World) fail(format string, args ...any) {
	w.broken = append(w.broken, fmt.Sprintf(format, args...))
}

// Trace returns the last decisions, a line each.
func (w *World) Trace() string {
	return strings.Join(w.trace[max(0, len(w.trace)-traceMax):], "\n")
}

// Broken returns the invariants that were broken so far.
func (w *World) Broken() []string { return w.broken }

// targets returns the processes that the route table of a view leads to. Nodes that take the same
// version share it.
func (w *World) targets(v *state.View) map[api.ProcessID]bool {
	if w.table != nil && w.tableOf == v.RoutesVersion() {
		return w.table
	}
	w.table, w.tableOf = map[api.ProcessID]bool{}, v.RoutesVersion()
	for _, r := range v.RouteTable().Routes {
		for _, t := range r.Targets {
			w.table[t.Process] = true
		}
	}
	return w.table
}

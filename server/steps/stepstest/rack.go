package stepstest

import (
	"fmt"
	"strings"
	"time"

	"slipway/api"
	"slipway/raftstore/state"
	"slipway/server/steps"
)

// tick is the step of the virtual clock. Agents act once per tick; the leader acts until it
// has nothing more to decide.
const tick = 100 * time.Millisecond

// passesMax bounds the passes of one tick: a leader that never comes to rest is broken.
const passesMax = 50

// Decide is one pass of the leader.
type Decide func(v *state.View, ch state.Changes, in steps.Input) ([]state.Entry, time.Time)

// Rack is a rack in virtual time.
type Rack struct {
	State *state.State

	decide   Decide
	start    time.Time
	now      time.Time
	leader   time.Time
	due      time.Time // when the leader looks at everything; zero for never
	index    uint64
	ids      *api.IDs
	changes  state.Changes
	beats    map[api.NodeID]time.Time
	up       map[api.NodeID]bool
	scripts  map[api.ReleaseID]script
	names    map[string]string // of releases and deployments: ID → what the story calls it
	releases map[string]api.ReleaseID
	story    strings.Builder
}

// New returns an empty rack led by decide.
func New(decide Decide) *Rack {
	r := &Rack{
		State: state.New(), decide: decide, start: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), ids: api.NewIDs(1),
		beats: map[api.NodeID]time.Time{}, up: map[api.NodeID]bool{}, scripts: map[api.ReleaseID]script{},
		names: map[string]string{}, releases: map[string]api.ReleaseID{},
	}
	r.now, r.leader = r.start, r.start
	r.apply("setup", state.ConfigureRack{Rack: state.Rack{Name: "test", Domain: "rack.test"}})
	return r
}

// apply puts a command through the log and tells what people would hear of it.
func (r *Rack) apply(actor string, c state.Command) {
	r.index++
	res := r.State.Apply(r.index, state.Entry{At: r.now, Actor: actor, Command: c})
	r.changes.Merge(res.Changes)
	if res.Err != nil {
		r.say("%s by %s is rejected: %v", c.Type(), actor, res.Err)
	}
	for _, e := range res.Events {
		r.tell(e)
	}
	for _, broken := range r.State.View().Check() {
		r.say("BROKEN: %s", broken)
	}
}

// run lets time pass.
func (r *Rack) run(d time.Duration) {
	for end := r.now.Add(d); r.now.Before(end); {
		r.now = r.now.Add(tick)
		r.agents()
		r.lead()
	}
}

// lead lets the leader decide until it is at rest.
func (r *Rack) lead() {
	for range passesMax {
		ch := r.changes
		if !r.due.IsZero() && !r.due.After(r.now) {
			ch, r.due = state.Everything(), time.Time{}
		}
		if ch.Empty() {
			return
		}
		r.changes = state.Changes{}
		entries, wake := r.decide(r.State.View(), ch, steps.Input{
			Now: r.now, IDs: api.NewIDs(r.ids.Uint64()), Leader: r.leader, Heartbeats: r.beats,
		})
		if r.due = steps.Sooner(r.due, wake); ch.All {
			r.due = wake
		}
		for _, e := range entries {
			r.apply(e.Actor, e.Command)
		}
	}
	r.say("BROKEN: the leader does not come to rest")
}

// say writes a line of the story.
func (r *Rack) say(format string, args ...any) {
	fmt.Fprintf(&r.story, "%7.1fs %s\n", r.now.Sub(r.start).Seconds(), fmt.Sprintf(format, args...))
}

// told are the events of a story; the others are on the way to them.
var told = map[string]string{
	"process.assigned": "start", "process.ready": "ready", "process.unready": "unready", "process.retired": "drain",
	"process.exited": "end", "process.failed": "end", "process.lost": "lost", "process.unhealthy": "unhealthy",
}

// tell writes an event.
func (r *Rack) tell(e api.Event) {
	verb, process := told[e.Type]
	switch {
	case process:
		if e.Type == "process.assigned" {
			_, e.Message, _ = strings.Cut(e.Message, ": ")
		}
		r.say("%s", strings.TrimRight(fmt.Sprintf("  %-9s %s  %s", verb, r.name(api.ProcessID(e.Object)), r.rename(e.Message)), " "))
	case strings.HasPrefix(e.Type, "deployment."), strings.HasPrefix(e.Type, "node."), strings.HasPrefix(e.Type, "app."),
		strings.HasPrefix(e.Type, "build."):
		r.say("%s", strings.TrimRight(strings.ToUpper(e.Type)+" "+r.rename(e.Object)+" "+r.rename(e.Message), " "))
	}
}

// name calls a process by its service, slot, release and node.
func (r *Rack) name(id api.ProcessID) string {
	p, ok := r.State.View().Process(id)
	if !ok {
		return string(id)
	}
	if p.Kind != api.KindService {
		return fmt.Sprintf("%s@%s", p.Kind, p.Node)
	}
	return fmt.Sprintf("%s.%d/%s@%s", p.Service, p.Slot, r.names[string(p.Release)], p.Node)
}

// rename replaces IDs by names.
func (r *Rack) rename(text string) string {
	words := strings.Split(text, " ")
	for i, w := range words {
		if name, ok := r.names[strings.TrimRight(w, ":;,")]; ok {
			words[i] = strings.Replace(w, strings.TrimRight(w, ":;,"), name, 1)
		} else if p, ok := r.State.View().Process(api.ProcessID(w)); ok {
			words[i] = r.name(p.ID)
		}
	}
	return strings.Join(words, " ")
}

package server

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"log/slog"
	"slices"
	"time"

	"slipway/api"
	"slipway/raftstore"
	"slipway/raftstore/state"
	"slipway/server/steps"
	"slipway/server/steps/builds"
	"slipway/server/steps/drain"
	"slipway/server/steps/ingress"
	"slipway/server/steps/liveness"
	"slipway/server/steps/reap"
	"slipway/server/steps/rollout"
	"slipway/server/steps/rotation"
)

// step is one decision of the leader.
type step func(*state.View, state.Changes, steps.Input) ([]state.Command, time.Time)

// allSteps is every decision the leader takes, in the order of a pass. A pass sees one
// snapshot: what one step decides, the next pass shows to the others.
func (d *Decider) allSteps() []step {
	return []step{liveness.Step, drain.Step, builds.Step, rollout.Step, ingress.Step, d.schedule, rotation.Step, reap.Step}
}

// batchMax bounds the commands that are proposed before their results are waited for: it is how far
// the log may be ahead of the state.
const batchMax = 100

// After a pass the leader lets changes come together for restShare times as long as it thought, at
// most restMax: what a pass costs follows the services that changed, and those of a large rack change
// without end while it starts. A pass over little is followed by the next at once.
const (
	restShare = 2
	restMax   = 2 * time.Second
)

// wakeSoonest bounds how often the timer alone can cause a pass.
const wakeSoonest = 5 * time.Millisecond

// loopStore is what the loop needs of the replicated state.
type loopStore interface {
	// View returns the newest state, which holds whatever ProposeEach has applied.
	View() *state.View
	Follow(ctx context.Context, keep func(state.Changes) state.Changes) (*state.View, <-chan raftstore.Update)
	ProposeEach(ctx context.Context, entries []state.Entry) ([]state.Result, error)
}

// loop is the leader: wait for a change or a timer → snapshot → run every step → propose all
// commands as one batch → remember the earliest wake-up. It keeps nothing between two passes
// but the time of the next and the cache of its Decider. A pass over some keys knows the wake-ups of those only, so that it
// can bring the time forward but not put it off; when the time comes everything is looked at.
type loop struct {
	store      loopStore
	heartbeats func() map[api.NodeID]time.Time
	attached   func() map[api.NodeID]bool // nil for nobody
	now        func() time.Time
	seed       func() uint64
	settle     time.Duration // see steps.Input
	log        *slog.Logger
	// proposed is told what was decided once the log has it, passed how long each pass took; both
	// may be nil.
	proposed func(decided []state.Entry)
	passed   func(took time.Duration)
	// saw is told the index of the state that a pass was over, once it is done; may be nil.
	saw func(index uint64)

	decider Decider
}

// run leads until ctx ends, which it does when leadership is lost.
func (l *loop) run(ctx context.Context) error {
	v, updates := l.store.Follow(ctx, func(ch state.Changes) state.Changes { return ch })
	changes, leader := state.Everything(), l.now()
	var due time.Time // zero for never
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		wake, rested, err := l.pass(ctx, v, changes, leader)
		if err != nil {
			return err
		}
		due = nextDue(due, changes, wake)
		if due.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(max(wakeSoonest, due.Sub(l.now())))
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case u, ok := <-updates:
			if !ok {
				return context.Cause(ctx)
			}
			changes = u.Changes
		case <-timer.C:
			changes = state.Everything()
		}
		if err := l.gather(ctx, updates, &changes, rested); err != nil {
			return err
		}
		// An update may have waited while this pass proposed; a decision from its view would be
		// taken twice.
		v = l.store.View()
	}
}

// gather adds what changes until a moment.
func (l *loop) gather(ctx context.Context, updates <-chan raftstore.Update, changes *state.Changes, until time.Time) error {
	wait := until.Sub(l.now())
	if wait <= 0 {
		return nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case u, ok := <-updates:
			if !ok {
				return context.Cause(ctx)
			}
			changes.Merge(u.Changes)
		case <-timer.C:
			return nil
		}
	}
}

// nextDue is when to look at everything, after a pass over some changes asked for a wake-up.
func nextDue(due time.Time, ch state.Changes, wake time.Time) time.Time {
	if ch.All {
		return wake
	}
	return steps.Sooner(due, wake)
}

// pass decides over one snapshot and proposes. It returns when to look again at the latest, and not
// before when.
func (l *loop) pass(ctx context.Context, v *state.View, ch state.Changes, leader time.Time) (wake, rested time.Time, err error) {
	began := l.now()
	entries, wake := l.decide(v, ch, leader)
	thought := l.now()
	rested = thought.Add(min(restShare*thought.Sub(began), restMax))
	for chunk := range slices.Chunk(entries, batchMax) {
		results, err := l.store.ProposeEach(ctx, chunk)
		if err != nil {
			return wake, rested, err
		}
		l.note(chunk, results)
		if l.proposed != nil {
			l.proposed(chunk)
		}
		clear(chunk) // the state has what became of it: a plan for a large rack is not kept beside that
	}
	if l.saw != nil {
		l.saw(v.Index())
	}
	if l.passed != nil {
		l.passed(l.now().Sub(began))
	}
	return wake, rested, nil
}

// decide runs every step over one snapshot.
func (l *loop) decide(v *state.View, ch state.Changes, leader time.Time) ([]state.Entry, time.Time) {
	in := steps.Input{Now: l.now(), IDs: api.NewIDs(l.seed()), Leader: leader, Settle: l.settle}
	if liveness.Looks(ch) { // of a large rack they are long
		in.Heartbeats = l.heartbeats()
		if l.attached != nil {
			in.Attached = l.attached()
		}
	}
	return l.decider.Decide(v, ch, in)
}

// Decide is one pass of the leader as a pure function: every step over one snapshot. The
// simulator calls it as well.
func (d *Decider) Decide(v *state.View, ch state.Changes, in steps.Input) (entries []state.Entry, wake time.Time) {
	for _, run := range d.allSteps() {
		cmds, at := run(v, ch, in)
		wake = steps.Sooner(wake, at)
		for _, c := range cmds {
			entries = append(entries, state.Entry{At: in.Now, Actor: "rack", Command: c})
		}
	}
	return entries, wake
}

// note logs what did not hold any more by the time it was applied.
func (l *loop) note(entries []state.Entry, results []state.Result) {
	for i, r := range results {
		if r.Err != nil {
			l.log.Debug("command rejected", "command", entries[i].Command.Type(), "err", r.Err)
		}
		for _, d := range r.Dropped {
			l.log.Debug("part of a command dropped", "command", entries[i].Command.Type(), "reason", d)
		}
	}
}

// randomSeed draws a seed for the IDs of one pass.
func randomSeed() uint64 {
	var b [8]byte
	rand.Read(b[:]) // never fails
	return binary.LittleEndian.Uint64(b[:])
}

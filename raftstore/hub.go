package raftstore

import (
	"context"
	"sync"

	"slipway/api"
	"slipway/raftstore/state"
)

// eventsMax bounds the events that a slow subscriber can have waiting; older ones are lost to
// it. Changes are never lost, they merge.
const eventsMax = 1024

// Update is what happened since the last one.
type Update struct {
	View    *state.View
	Changes state.Changes
	Events  []api.Event
	// Lost counts events that this subscriber was too slow for.
	Lost int
	// Gap: this replica has caught up by a snapshot, in place of entries that it has not seen.
	// Events may be missing, all but those that the state keeps; Changes are everything.
	Gap bool
}

// hub hands out views. Its zero value is ready.
type hub struct {
	mu      sync.Mutex
	current *state.View
	moved   chan struct{} // closed and replaced whenever current moves
	subs    map[*subscriber]bool
	done    bool
}

// subscriber holds at most one pending update; more merge into it.
type subscriber struct {
	wake chan struct{} // capacity 1
	// keep returns what of changes the subscriber looks at; it gets no events then. nil keeps all.
	keep    func(state.Changes) state.Changes
	pending *Update // guarded by the hub
}

func (h *hub) view() *state.View {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.current
}

// publish makes v current.
func (h *hub) publish(v *state.View, results []state.Result) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.publishLocked(v, results)
}

// restored makes v current, which took the place of entries that were not seen here. Subscribers
// get the events in between as far as they are kept.
func (h *hub) restored(v *state.View) {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := state.Result{Changes: state.Everything()}
	if len(h.subs) > 0 {
		for _, e := range v.Events() {
			if e.Index > h.current.Index() {
				all.Events = append(all.Events, *e)
			}
		}
	}
	h.publishLocked(v, []state.Result{all})
	for s := range h.subs {
		s.pending.Gap = true
	}
}

func (h *hub) publishLocked(v *state.View, results []state.Result) {
	h.current = v
	if h.moved != nil {
		close(h.moved)
	}
	h.moved = make(chan struct{})
	for s := range h.subs {
		s.add(v, results)
	}
}

// add merges results into what waits for the subscriber.
func (s *subscriber) add(v *state.View, results []state.Result) {
	if s.pending == nil {
		s.pending = &Update{}
	}
	s.pending.View = v
	for i := range results {
		if s.keep != nil {
			s.pending.Changes.Merge(s.keep(results[i].Changes))
			continue
		}
		s.pending.Changes.Merge(results[i].Changes)
		s.pending.Events = append(s.pending.Events, results[i].Events...)
	}
	if over := len(s.pending.Events) - eventsMax; over > 0 {
		s.pending.Events = append([]api.Event(nil), s.pending.Events[over:]...)
		s.pending.Lost += over
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (h *hub) next(ctx context.Context, after uint64) (*state.View, error) {
	for {
		h.mu.Lock()
		v, moved, done := h.current, h.moved, h.done
		h.mu.Unlock()
		if v.Index() > after {
			return v, nil
		}
		if done {
			return nil, errClosed()
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func (h *hub) subscribe(ctx context.Context, keep func(state.Changes) state.Changes) (*state.View, <-chan Update) {
	s := &subscriber{wake: make(chan struct{}, 1), keep: keep}
	out := make(chan Update)
	h.mu.Lock()
	if h.subs == nil {
		h.subs = map[*subscriber]bool{}
	}
	h.subs[s] = true
	v := h.current
	h.mu.Unlock()
	go h.feed(ctx, s, out)
	return v, out
}

// feed hands updates over until ctx ends.
func (h *hub) feed(ctx context.Context, s *subscriber, out chan<- Update) {
	defer func() {
		h.mu.Lock()
		delete(h.subs, s)
		h.mu.Unlock()
		close(out)
	}()
	for {
		select {
		case <-s.wake:
		case <-ctx.Done():
			return
		}
		h.mu.Lock()
		u := s.pending
		s.pending = nil
		h.mu.Unlock()
		if u == nil {
			continue
		}
		select {
		case out <- *u:
		case <-ctx.Done():
			return
		}
	}
}

func (h *hub) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.done = true
	close(h.moved)
	h.moved = make(chan struct{})
}

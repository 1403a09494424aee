package server

import (
	"context"
	"io"
	"sync"

	"slipway/api"
	"slipway/api/pb"
	"slipway/raftstore"
	"slipway/server/auth"
	"slipway/server/control"
	"slipway/server/dispatch"
	"slipway/server/objects"
)

// The subpackages of server do not know one another; these types join them.

// sourceFiles shows the object store to control and dispatch.
type sourceFiles struct{ *objects.Store }

// Open opens a source.
func (s sourceFiles) Open(digest string) (io.ReadCloser, error) {
	f, err := s.Store.Open(digest)
	if err != nil {
		return nil, err
	}
	return f, nil
}

// Has reports whether a source is there.
func (s sourceFiles) Has(digest string) bool {
	f, err := s.Store.Open(digest)
	if err != nil {
		return false
	}
	f.Close()
	return true
}

// tunnels shows dispatch to control.
type tunnels struct{ dispatch *dispatch.Server }

// OpenStream opens a stream to the agent of a node.
func (t tunnels) OpenStream(ctx context.Context, node api.NodeID, open *pb.Open) (control.Stream, error) {
	s, err := t.dispatch.Open(ctx, node, open)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// callers shows auth to control.
type callers struct{}

func (callers) Actor(ctx context.Context) string                  { return auth.Actor(ctx) }
func (callers) Visible(ctx context.Context, app api.AppName) bool { return auth.Visible(ctx, app) }

// eventsKept is how many events a server remembers for those who ask late.
const eventsKept = 4096

// eventLog keeps the newest events in memory. Its readers wait for more.
type eventLog struct {
	mu     sync.Mutex
	events []api.Event
	moved  chan struct{} // closed and replaced when events are added
}

func newEventLog() *eventLog { return &eventLog{moved: make(chan struct{})} }

// run collects events until ctx ends.
func (l *eventLog) run(ctx context.Context, store *raftstore.Store) error {
	_, updates := store.Subscribe(ctx)
	for u := range updates {
		if len(u.Events) == 0 {
			continue
		}
		l.mu.Lock()
		l.events = append(l.events, u.Events...)
		if over := len(l.events) - eventsKept; over > 0 {
			l.events = append([]api.Event(nil), l.events[over:]...)
		}
		close(l.moved)
		l.moved = make(chan struct{})
		l.mu.Unlock()
	}
	return nil
}

// Events returns the events with an index above after, waiting for the first.
func (l *eventLog) Events(ctx context.Context, after uint64) ([]api.Event, error) {
	for {
		l.mu.Lock()
		var out []api.Event
		for _, e := range l.events {
			if e.Index > after {
				out = append(out, e)
			}
		}
		moved := l.moved
		l.mu.Unlock()
		if len(out) > 0 {
			return out, nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

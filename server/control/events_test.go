package control_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"slipway/api"
	"slipway/api/pb"
	"slipway/raftstore"
	"slipway/raftstore/state"
	"slipway/server"
	"slipway/server/control"
)

// updates is a store on which certain things happen.
type updates struct {
	*fixture
	next []raftstore.Update
}

// Subscribe implements control.Store.
func (u updates) Subscribe(context.Context) (*state.View, <-chan raftstore.Update) {
	out := make(chan raftstore.Update, len(u.next))
	for _, one := range u.next {
		out <- one
	}
	close(out)
	return u.View(), out
}

// Who follows events is told when some are missing, whatever the reason is.
func TestMissingEventsAreSaid(t *testing.T) {
	f := newFixture(t)
	event := func(typ string) []api.Event { return []api.Event{{Index: 100, Type: typ}} }
	store := updates{f, []raftstore.Update{
		{Events: event("one")}, {Lost: 3, Events: event("two")}, {Gap: true, Events: event("three")}, {Events: event("four")},
	}}
	s := control.New(control.Config{Store: store, Callers: &caller{admin: true}, Scheduler: server.Planner{}, Now: func() time.Time { return now }})
	stream := &sent{ctx: t.Context()}
	_ = s.Events(&pb.EventsRequest{}, stream) // its end is that of the updates
	want := []string{"one", api.EventsLost, "two", api.EventsLost, "three", "four"}
	if !slices.Equal(stream.got, want) {
		t.Errorf("events %q, want %q", stream.got, want)
	}
}

package control

import (
	"context"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc"

	"slipway/api"
	"slipway/api/pb"
	"slipway/raftstore"
	"slipway/raftstore/state"
)

// Events streams events: those of the past that are asked for, and then what happens from now on,
// until the caller goes away. Indexes up to after are left out.
func (s *Server) Events(r *pb.EventsRequest, stream grpc.ServerStreamingServer[pb.Document]) error {
	ctx := stream.Context()
	if r.GetApp() != "" {
		if _, _, err := s.readApp(ctx, r.GetApp()); err != nil {
			return pb.Error(err)
		}
	}
	send := func(e *api.Event) error { return stream.Send(pb.Doc(e)) }
	if r.GetPast() {
		v, err := s.read(ctx)
		if err != nil {
			return pb.Error(err)
		}
		return each(s.past(ctx, v, r), send)
	}
	v, updates := s.cfg.Store.Subscribe(ctx)
	if err := each(s.past(ctx, v, r), send); err != nil {
		return err
	}
	for u := range updates {
		if text := lost(u); text != "" {
			if err := send(&api.Event{At: s.cfg.Now(), Type: api.EventsLost, Message: text}); err != nil {
				return err
			}
		}
		for i := range u.Events {
			if e := &u.Events[i]; e.Index > max(r.GetAfter(), v.Index()) && s.tells(ctx, r, e) {
				if err := send(e); err != nil {
					return err
				}
			}
		}
	}
	return pb.Error(context.Cause(ctx))
}

// lost says which events an update does not have; "" where it has all.
func lost(u raftstore.Update) string {
	switch {
	case u.Gap:
		return "events may be missing: this server caught up with the others by a snapshot; look at the present state again"
	case u.Lost > 0:
		return fmt.Sprintf("%d events were lost: the reader is too slow", u.Lost)
	}
	return ""
}

func each(events []*api.Event, send func(*api.Event) error) error {
	for _, e := range events {
		if err := send(e); err != nil {
			return err
		}
	}
	return nil
}

// past returns the kept events that a request asks for.
func (s *Server) past(ctx context.Context, v *state.View, r *pb.EventsRequest) (out []*api.Event) {
	if r.GetSince() == 0 && r.GetLast() == 0 && !r.GetPast() {
		return nil
	}
	for _, e := range v.Events() {
		recent := r.GetSince() == 0 || !e.At.Before(time.Unix(0, r.GetSince()))
		if recent && e.Index > r.GetAfter() && s.tells(ctx, r, e) {
			out = append(out, e)
		}
	}
	if last := int(r.GetLast()); last > 0 && len(out) > last {
		out = out[len(out)-last:]
	}
	return out
}

// tells reports whether an event is one that was asked for, and that the caller may know of. Who
// holds tokens is for those who give them.
func (s *Server) tells(ctx context.Context, r *pb.EventsRequest, e *api.Event) bool {
	switch {
	case r.GetApp() != "" && string(e.App) != r.GetApp():
		return false
	case e.App != "":
		return s.cfg.Callers.Visible(ctx, e.App)
	}
	return !strings.HasPrefix(e.Type, "token.") || s.cfg.Callers.Administers(ctx)
}

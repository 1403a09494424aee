package client

import (
	"context"
	"errors"
	"io"
	"time"

	"slipway/api"
	"slipway/api/pb"
)

// Rack describes the rack.
func (c *Client) Rack(ctx context.Context) (api.RackInfo, error) {
	return one[api.RackInfo](c.rpc.GetRack(ctx, &pb.GetRackRequest{}))
}

// WithReason returns a context in which calls say why they change something; "" says nothing. The
// reason stands in the events that they cause.
func WithReason(ctx context.Context, reason string) context.Context {
	return pb.WithReason(ctx, reason)
}

// EventQuery selects events.
type EventQuery struct {
	App   api.AppName // "" is all apps, and the rack
	After uint64      // only those with a higher index
	// Since and Last ask for events of the past: from a moment on, and the last so many. With
	// neither, only Past asks for them, and then for all that are kept.
	Since time.Time
	Last  int
	// Past ends there, and does not wait for those to come.
	Past bool
}

// Events calls see with every event that is asked for, until see returns an error or ctx ends.
func (c *Client) Events(ctx context.Context, q EventQuery, see func(api.Event) error) error {
	r := &pb.EventsRequest{App: string(q.App), After: q.After, Last: int32(min(max(q.Last, 0), 1<<30)), Past: q.Past}
	if !q.Since.IsZero() {
		r.Since = q.Since.UnixNano()
	}
	stream, err := c.rpc.Events(ctx, r)
	if err != nil {
		return pb.FromError(err)
	}
	return eachDocument(stream, see)
}

// Why explains an object of an app by its ID or name; "" explains the app.
func (c *Client) Why(ctx context.Context, app api.AppName, object string) (api.Why, error) {
	return one[api.Why](c.rpc.GetWhy(ctx, &pb.ObjectRequest{App: string(app), Id: object}))
}

// eachDocument calls see with every noun of a stream.
func eachDocument[T any](stream interface{ Recv() (*pb.Document, error) }, see func(T) error) error {
	for {
		d, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		noun, err := one[T](d, err)
		if err != nil {
			return err
		}
		if err := see(noun); err != nil {
			return err
		}
	}
}

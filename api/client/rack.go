package client

import (
	"context"
	"errors"
	"io"

	"slipway/api"
	"slipway/api/pb"
)

// Rack describes the rack.
func (c *Client) Rack(ctx context.Context) (api.RackInfo, error) {
	return one[api.RackInfo](c.rpc.GetRack(ctx, &pb.GetRackRequest{}))
}

// Nodes lists the nodes of the rack.
func (c *Client) Nodes(ctx context.Context) ([]api.Node, error) {
	return many[api.Node](c.rpc.ListNodes(ctx, &pb.ListNodesRequest{}))
}

// Events calls see with every event, of one app or, with "", of all, after the given index (0
// begins now), until see returns an error or ctx ends.
func (c *Client) Events(ctx context.Context, app api.AppName, after uint64, see func(api.Event) error) error {
	stream, err := c.rpc.Events(ctx, &pb.EventsRequest{App: string(app), After: after})
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

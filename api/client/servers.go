package client

import (
	"context"

	"slipway/api"
	"slipway/api/pb"
)

// Servers describes the servers of the rack.
func (c *Client) Servers(ctx context.Context) ([]api.Server, error) {
	return many[api.Server](c.rpc.ListServers(ctx, &pb.ListServersRequest{}))
}

// RemoveServer ends the membership of a server, named by its ID or its name.
func (c *Client) RemoveServer(ctx context.Context, server string) error {
	return done(c.rpc.RemoveServer(ctx, &pb.ServerRequest{Server: server, RequestId: requestID()}))
}

// RotateJoinToken replaces the token that machines of a role join with, "server" or "agent", and
// returns the new one, which nobody can be told again.
func (c *Client) RotateJoinToken(ctx context.Context, role string) (string, error) {
	reply, err := c.rpc.RotateJoinToken(ctx, &pb.RotateJoinTokenRequest{Role: role, RequestId: requestID()})
	return reply.GetSecret(), pb.FromError(err)
}

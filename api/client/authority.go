package client

import (
	"context"

	"slipway/api"
	"slipway/api/pb"
)

// Authorities describes the rack's certificate authorities, the one that signs first.
func (c *Client) Authorities(ctx context.Context) ([]api.Authority, error) {
	return many[api.Authority](c.rpc.ListAuthorities(ctx, &pb.ListAuthoritiesRequest{}))
}

// RotateAuthority begins to replace the authority that signs. While that is under way, leave names
// machines, "node/<id>" or "server/<id>", that it does not wait for any longer.
func (c *Client) RotateAuthority(ctx context.Context, leave ...string) ([]api.Authority, error) {
	return many[api.Authority](c.rpc.RotateAuthority(ctx, &pb.RotateAuthorityRequest{Leave: leave, RequestId: requestID()}))
}

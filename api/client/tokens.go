package client

import (
	"context"
	"time"

	"slipway/api"
	"slipway/api/pb"
)

// Tokens lists the access tokens of the rack, those of machines included, without their secrets.
func (c *Client) Tokens(ctx context.Context) ([]api.Token, error) {
	return many[api.Token](c.rpc.ListTokens(ctx, &pb.ListTokensRequest{}))
}

// NewToken is a token that is to be made.
type NewToken struct {
	Name string
	Role string        // api.RoleAdmin, api.RoleDeployer or api.RoleViewer
	Apps []api.AppName // empty is all apps
	Life time.Duration // 0 is for ever
}

// CreateToken makes a token and returns its secret, which nobody can be told again.
func (c *Client) CreateToken(ctx context.Context, t NewToken) (token api.Token, secret string, err error) {
	r := &pb.CreateTokenRequest{
		Name: t.Name, Role: t.Role, ExpiresSeconds: int64((t.Life + time.Second - 1) / time.Second), RequestId: requestID(),
	}
	for _, app := range t.Apps {
		r.Apps = append(r.Apps, string(app))
	}
	reply, err := c.rpc.CreateToken(ctx, r)
	if err != nil {
		return api.Token{}, "", pb.FromError(err)
	}
	token, err = pb.Unmarshal[api.Token](reply.GetToken())
	return token, reply.GetSecret(), err
}

// DeleteToken revokes a token, named by its ID or its name.
func (c *Client) DeleteToken(ctx context.Context, token string) error {
	return done(c.rpc.DeleteToken(ctx, &pb.TokenRequest{Token: token, RequestId: requestID()}))
}

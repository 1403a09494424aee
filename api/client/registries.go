package client

import (
	"context"

	"slipway/api"
	"slipway/api/pb"
)

// Registries lists the registries that builds pull from with a login, without the passwords.
func (c *Client) Registries(ctx context.Context) ([]api.Registry, error) {
	return many[api.Registry](c.rpc.ListRegistries(ctx, &pb.ListRegistriesRequest{}))
}

// PutRegistry stores the login of a registry, in place of the one before.
func (c *Client) PutRegistry(ctx context.Context, l api.RegistryLogin) (api.Registry, error) {
	return one[api.Registry](c.rpc.PutRegistry(ctx, &pb.PutRegistryRequest{
		Server: l.Server, Username: l.Username, Password: l.Password, RequestId: requestID(),
	}))
}

// RemoveRegistry forgets the login of a registry.
func (c *Client) RemoveRegistry(ctx context.Context, server string) error {
	return done(c.rpc.RemoveRegistry(ctx, &pb.RemoveRegistryRequest{Server: server, RequestId: requestID()}))
}

package client

import (
	"context"

	"slipway/api"
	"slipway/api/pb"
)

// Deployments lists the deployments of an app, newest first.
func (c *Client) Deployments(ctx context.Context, app api.AppName) ([]api.Deployment, error) {
	return many[api.Deployment](c.rpc.ListDeployments(ctx, &pb.AppRequest{App: string(app)}))
}

// Deployment describes one deployment; "" is the newest.
func (c *Client) Deployment(ctx context.Context, app api.AppName, id string) (api.Deployment, error) {
	return one[api.Deployment](c.rpc.GetDeployment(ctx, &pb.ObjectRequest{App: string(app), Id: id}))
}

// WatchDeployment calls see on every change of a deployment, until it has ended; "" is the
// newest.
func (c *Client) WatchDeployment(ctx context.Context, app api.AppName, id string, see func(api.DeploymentUpdate) error) error {
	stream, err := c.rpc.WatchDeployment(ctx, &pb.ObjectRequest{App: string(app), Id: id})
	if err != nil {
		return pb.FromError(err)
	}
	return eachDocument(stream, see)
}

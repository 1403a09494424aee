package client

import (
	"context"

	"slipway/api"
	"slipway/api/pb"
)

// Apps lists the apps that the token reaches.
func (c *Client) Apps(ctx context.Context) ([]api.AppInfo, error) {
	return many[api.AppInfo](c.rpc.ListApps(ctx, &pb.ListAppsRequest{}))
}

// App describes one app.
func (c *Client) App(ctx context.Context, app api.AppName) (api.AppInfo, error) {
	return one[api.AppInfo](c.rpc.GetApp(ctx, &pb.AppRequest{App: string(app)}))
}

// CreateApp creates an app.
func (c *Client) CreateApp(ctx context.Context, app api.AppName) (api.AppInfo, error) {
	return one[api.AppInfo](c.rpc.CreateApp(ctx, &pb.AppRequest{App: string(app), RequestId: requestID()}))
}

// DeleteApp stops the processes of an app and removes it.
func (c *Client) DeleteApp(ctx context.Context, app api.AppName) error {
	return done(c.rpc.DeleteApp(ctx, &pb.AppRequest{App: string(app), RequestId: requestID()}))
}

// LockApp sets or clears the lock that keeps an app from being deleted.
func (c *Client) LockApp(ctx context.Context, app api.AppName, locked bool) error {
	return done(c.rpc.LockApp(ctx, &pb.LockAppRequest{App: string(app), Locked: locked, RequestId: requestID()}))
}

// CancelDeployment asks the deployment in progress to go back.
func (c *Client) CancelDeployment(ctx context.Context, app api.AppName) (api.Deployment, error) {
	return one[api.Deployment](c.rpc.CancelDeployment(ctx, &pb.AppRequest{App: string(app), RequestId: requestID()}))
}

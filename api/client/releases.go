package client

import (
	"context"

	"slipway/api"
	"slipway/api/pb"
)

// Releases lists the releases of an app, newest first, without their manifests.
func (c *Client) Releases(ctx context.Context, app api.AppName) ([]api.ReleaseInfo, error) {
	return many[api.ReleaseInfo](c.rpc.ListReleases(ctx, &pb.AppRequest{App: string(app)}))
}

// Release describes one release by its ID or number ("v3"); "" is the newest.
func (c *Client) Release(ctx context.Context, app api.AppName, id string) (api.ReleaseInfo, error) {
	return one[api.ReleaseInfo](c.rpc.GetRelease(ctx, &pb.ObjectRequest{App: string(app), Id: id}))
}

// DiffReleases tells what differs between two releases; "" stands for the active one in from
// and for the newest in to. Values of the environment are empty unless reveal is set.
func (c *Client) DiffReleases(ctx context.Context, app api.AppName, from, to string, reveal bool) (api.ReleaseDiff, error) {
	return one[api.ReleaseDiff](c.rpc.DiffReleases(ctx, &pb.DiffReleasesRequest{
		App: string(app), From: from, To: to, Reveal: reveal,
	}))
}

// Env returns the environment of a release, and the release; "" is the newest.
func (c *Client) Env(ctx context.Context, app api.AppName, release string) (map[string]string, api.ReleaseID, error) {
	r, err := c.rpc.GetEnv(ctx, &pb.ObjectRequest{App: string(app), Id: release})
	env := r.GetEnv()
	if env == nil {
		env = map[string]string{}
	}
	return env, api.ReleaseID(r.GetRelease()), pb.FromError(err)
}

// EnvChange is a change of an environment.
type EnvChange struct {
	Set   map[string]string
	Unset []string
	// Replace removes what is not in Set.
	Replace bool
	// IfRelease refuses the change with CodeConflict unless this release, by its ID or number, is
	// the newest one; "none" is before the first, "" takes whichever.
	IfRelease string
	// Build is the build of the new release; "" is that of the newest one.
	Build api.BuildID
}

// SetEnv makes a release with a changed environment, and returns it.
func (c *Client) SetEnv(ctx context.Context, app api.AppName, e EnvChange) (api.ReleaseInfo, error) {
	return one[api.ReleaseInfo](c.rpc.SetEnv(ctx, &pb.SetEnvRequest{
		App: string(app), Set: e.Set, Unset: e.Unset, Replace: e.Replace, IfRelease: e.IfRelease, Build: string(e.Build), RequestId: requestID(),
	}))
}

// Promote begins the deployment of a release; "" is the newest.
func (c *Client) Promote(ctx context.Context, app api.AppName, release string) (api.Deployment, error) {
	return one[api.Deployment](c.rpc.Promote(ctx, &pb.ObjectRequest{App: string(app), Id: release, RequestId: requestID()}))
}

// Rollback makes a release with the build and environment of an old one, and begins its
// deployment.
func (c *Client) Rollback(ctx context.Context, app api.AppName, release string) (api.Deployment, error) {
	return one[api.Deployment](c.rpc.Rollback(ctx, &pb.ObjectRequest{App: string(app), Id: release, RequestId: requestID()}))
}

package control

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"slipway/api"
	"slipway/api/pb"
	"slipway/manifest"
	"slipway/raftstore/state"
)

// ListReleases lists the releases of an app, newest first.
func (s *Server) ListReleases(ctx context.Context, r *pb.AppRequest) (*pb.Documents, error) {
	v, a, err := s.readApp(ctx, r.GetApp())
	if err != nil {
		return nil, pb.Error(err)
	}
	releases := []api.ReleaseInfo{}
	for release := range v.Releases(a.Name) {
		info := releaseInfo(v, a, release)
		info.Manifest = "" // of one release only: a list of manifests is long
		releases = append(releases, info)
	}
	return docs(releases, nil)
}

// GetRelease describes one release; "" is the newest.
func (s *Server) GetRelease(ctx context.Context, r *pb.ObjectRequest) (*pb.Document, error) {
	v, a, err := s.readApp(ctx, r.GetApp())
	if err != nil {
		return nil, pb.Error(err)
	}
	release, err := findRelease(v, a, r.GetId())
	if err != nil {
		return nil, pb.Error(err)
	}
	return doc(releaseInfo(v, a, release), nil)
}

// Promote deploys a release; "" is the newest. A release older than the active one is
// refused: going back is a rollback, which makes a new release and so keeps the order.
func (s *Server) Promote(ctx context.Context, r *pb.ObjectRequest) (*pb.Document, error) {
	req := s.request(ctx, r.GetRequestId())
	id := req.ids.Deployment()
	var d *api.Deployment
	err := s.again(ctx, func(try string) (overtaken bool, err error) {
		d, overtaken, err = s.promote(ctx, r, req, id, "deployment/"+try)
		return overtaken, err
	})
	return doc(d, err)
}

// promote is one try of Promote. step is the name of its command.
func (s *Server) promote(ctx context.Context, r *pb.ObjectRequest, req request, id api.DeploymentID, step string) (d *api.Deployment, overtaken bool, err error) {
	v, a, err := s.readApp(ctx, r.GetApp())
	if err != nil {
		return nil, false, err
	}
	if d, ok := v.Deployment(id); ok { // the call was tried again
		return d, false, nil
	}
	release, err := findRelease(v, a, r.GetId())
	if err != nil {
		return nil, false, err
	}
	if active, ok := v.Release(a.Release); ok && release.Number < active.Number {
		return nil, false, api.Errorf(api.CodeConflict,
			"release %s (v%d) is older than the active release %s (v%d); to go back run: slipway releases rollback %s -a %s",
			release.ID, release.Number, active.ID, active.Number, release.ID, a.Name)
	}
	judged := a.Release
	d, err = s.deploy(ctx, req, step, state.CreateDeployment{
		Deployment: api.Deployment{ID: id, App: a.Name, Release: release.ID, Author: req.actor}, Active: &judged,
	}, release)
	if api.CodeOf(err) == api.CodeConflict {
		_, now, err := s.readApp(ctx, r.GetApp())
		overtaken = err == nil && now.Release != judged
	}
	return d, overtaken, err
}

// Rollback makes a new release with the build and the environment of an old one, and deploys
// it.
func (s *Server) Rollback(ctx context.Context, r *pb.ObjectRequest) (*pb.Document, error) {
	v, a, err := s.readApp(ctx, r.GetApp())
	if err != nil {
		return nil, pb.Error(err)
	}
	if r.GetId() == "" {
		return nil, pb.Error(api.Errorf(api.CodeInvalid, "no release is named; list them with: slipway releases -a %s", a.Name))
	}
	old, err := findRelease(v, a, r.GetId())
	if err != nil {
		return nil, pb.Error(err)
	}
	req := s.request(ctx, r.GetRequestId())
	release := *old
	release.ID, release.Author = req.ids.Release(), req.actor
	release.Description = fmt.Sprintf("rollback to %s (v%d)", old.ID, old.Number)
	secrets, err := s.secrets.Release(old)
	if err != nil {
		return nil, pb.Error(err)
	}
	if err := s.secrets.SealRelease(&release, secrets); err != nil {
		return nil, pb.Error(err)
	}
	if err := s.checkDeployable(&release); err != nil {
		return nil, pb.Error(err)
	}
	if _, err := s.propose(ctx, req, "release", state.CreateRelease{Release: release}); err != nil {
		return nil, pb.Error(err)
	}
	d, err := s.deploy(ctx, req, "deployment", state.CreateDeployment{
		Deployment: api.Deployment{ID: req.ids.Deployment(), App: a.Name, Release: release.ID, Author: req.actor},
	}, &release)
	return doc(d, err)
}

// deploy creates the deployment of a release. step is the name of the command.
func (s *Server) deploy(ctx context.Context, req request, step string, cmd state.CreateDeployment, release *api.Release) (*api.Deployment, error) {
	if err := s.checkDeployable(release); err != nil {
		return nil, err
	}
	if _, err := s.propose(ctx, req, step, cmd); err != nil {
		return nil, err
	}
	v, err := s.read(ctx)
	if err != nil {
		return nil, err
	}
	d, ok := v.Deployment(cmd.Deployment.ID)
	if !ok {
		return nil, api.NotFound("deployment", string(cmd.Deployment.ID), nil)
	}
	return d, nil
}

// checkDeployable reports why a release cannot be deployed, or nil.
func (s *Server) checkDeployable(r *api.Release) error {
	if r.Build == "" || len(r.Services) == 0 {
		return api.Errorf(api.CodeConflict, "release %s has no build; run: slipway build -a %s", r.ID, r.App)
	}
	env, err := s.releaseEnv(r)
	if err != nil {
		return err
	}
	if _, err := manifest.Load(r.Manifest, manifest.Options{Env: env, AllowPrivileged: s.cfg.AllowPrivileged}); err != nil {
		return fmt.Errorf("release %s cannot be deployed: %w", r.ID, err)
	}
	return nil
}

// newestRelease returns the newest release of an app; false when there is none.
func newestRelease(v *state.View, app api.AppName) (*api.Release, bool) {
	for r := range v.Releases(app) {
		return r, true
	}
	return nil, false
}

// findRelease returns a release of an app by its ID or its number ("v3"); "" is the newest.
func findRelease(v *state.View, a *api.App, ref string) (*api.Release, error) {
	if ref == "" {
		if r, ok := newestRelease(v, a.Name); ok {
			return r, nil
		}
		return nil, api.Errorf(api.CodeNotFound, "app %q has no releases; make one with: slipway deploy -a %s", a.Name, a.Name)
	}
	if r, ok := v.Release(api.ReleaseID(ref)); ok && r.App == a.Name {
		return r, nil
	}
	number, err := strconv.Atoi(strings.TrimPrefix(ref, "v"))
	var known []string
	for r := range v.Releases(a.Name) {
		if err == nil && r.Number == number {
			return r, nil
		}
		known = append(known, string(r.ID))
	}
	return nil, api.NotFoundSee("release", ref, known, "slipway releases -a "+string(a.Name))
}

func releaseInfo(v *state.View, a *api.App, r *api.Release) api.ReleaseInfo {
	info := api.ReleaseInfo{
		ID: r.ID, Number: r.Number, Build: r.Build, Created: r.Created, Author: r.Author,
		Description: r.Description, Manifest: r.Manifest, EnvNames: r.EnvNames,
	}
	d, ok := v.Deployment(a.Deployment)
	switch {
	case ok && d.Release == r.ID && d.Status == api.DeployRunning:
		info.Status = "promoting"
	case a.Release == r.ID:
		info.Status = "active"
	}
	return info
}

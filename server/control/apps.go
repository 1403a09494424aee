package control

import (
	"context"

	"slipway/api"
	"slipway/api/pb"
	"slipway/raftstore/state"
)

// ListApps lists the apps that the caller may see.
func (s *Server) ListApps(ctx context.Context, _ *pb.ListAppsRequest) (*pb.Documents, error) {
	v, err := s.read(ctx)
	if err != nil {
		return nil, pb.Error(err)
	}
	apps := []api.AppInfo{}
	for a := range v.Apps() {
		if s.cfg.Callers.Visible(ctx, a.Name) {
			apps = append(apps, appInfo(v, a))
		}
	}
	return docs(apps, nil)
}

// GetApp describes one app.
func (s *Server) GetApp(ctx context.Context, r *pb.AppRequest) (*pb.Document, error) {
	v, a, err := s.readApp(ctx, r.GetApp())
	if err != nil {
		return nil, pb.Error(err)
	}
	return doc(appInfo(v, a), nil)
}

// CreateApp creates an app.
func (s *Server) CreateApp(ctx context.Context, r *pb.AppRequest) (*pb.Document, error) {
	if err := api.CheckName("app", r.GetApp()); err != nil {
		return nil, pb.Error(err)
	}
	req := s.request(ctx, r.GetRequestId())
	if _, err := s.propose(ctx, req, "app", state.CreateApp{App: api.App{Name: api.AppName(r.GetApp())}}); err != nil {
		return nil, pb.Error(err)
	}
	return s.GetApp(ctx, r)
}

// DeleteApp begins the end of an app: its processes stop, then its records go.
func (s *Server) DeleteApp(ctx context.Context, r *pb.AppRequest) (*pb.Empty, error) {
	return s.change(ctx, r.GetApp(), r.GetRequestId(), state.DeleteApp{App: api.AppName(r.GetApp())})
}

// LockApp sets or clears the lock that keeps an app from being deleted.
func (s *Server) LockApp(ctx context.Context, r *pb.LockAppRequest) (*pb.Empty, error) {
	cmd := state.LockApp{App: api.AppName(r.GetApp()), Locked: r.GetLocked()}
	return s.change(ctx, r.GetApp(), r.GetRequestId(), cmd)
}

// change proposes one command about an app that exists.
func (s *Server) change(ctx context.Context, app, id string, cmd state.Command) (*pb.Empty, error) {
	if _, _, err := s.readApp(ctx, app); err != nil {
		return nil, pb.Error(err)
	}
	_, err := s.propose(ctx, s.request(ctx, id), cmd.Type(), cmd)
	return done(err)
}

// CancelDeployment asks the deployment in progress to go back.
func (s *Server) CancelDeployment(ctx context.Context, r *pb.AppRequest) (*pb.Document, error) {
	if _, err := s.change(ctx, r.GetApp(), r.GetRequestId(), state.CancelDeployment{App: api.AppName(r.GetApp())}); err != nil {
		return nil, err
	}
	v, a, err := s.readApp(ctx, r.GetApp())
	if err != nil {
		return nil, pb.Error(err)
	}
	d, err := findDeployment(v, a, "")
	return doc(d, err)
}

func appInfo(v *state.View, a *api.App) api.AppInfo {
	return api.AppInfo{
		Name: a.Name, Status: appStatus(v, a), Release: a.Release, Deployment: a.Deployment,
		Locked: a.Locked, Created: a.Created,
	}
}

// appStatus is the word for the state of an app.
func appStatus(v *state.View, a *api.App) string {
	d, deployed := v.Deployment(a.Deployment)
	switch {
	case a.Deleting:
		return "deleting"
	case deployed && d.Status == api.DeployRunning:
		return "updating"
	case deployed && d.Status == api.DeployRollingBack:
		return "rolling-back"
	case a.Release != "":
		return "running"
	case deployed && d.Status == api.DeployFailed:
		return "failed"
	}
	return "created"
}

package control

import (
	"bytes"
	"context"

	"google.golang.org/grpc"

	"slipway/api"
	"slipway/api/pb"
	"slipway/raftstore/state"
)

// ListDeployments lists the deployments of an app, newest first.
func (s *Server) ListDeployments(ctx context.Context, r *pb.AppRequest) (*pb.Documents, error) {
	v, a, err := s.readApp(ctx, r.GetApp())
	if err != nil {
		return nil, pb.Error(err)
	}
	deployments := []*api.Deployment{}
	for d := range v.Deployments(a.Name) {
		deployments = append(deployments, d)
	}
	return docs(deployments, nil)
}

// GetDeployment describes one deployment; "" is the newest.
func (s *Server) GetDeployment(ctx context.Context, r *pb.ObjectRequest) (*pb.Document, error) {
	v, a, err := s.readApp(ctx, r.GetApp())
	if err != nil {
		return nil, pb.Error(err)
	}
	d, err := findDeployment(v, a, r.GetId())
	return doc(d, err)
}

// findDeployment returns a deployment of an app; "" is the newest.
func findDeployment(v *state.View, a *api.App, id string) (*api.Deployment, error) {
	if id == "" {
		if d, ok := v.Deployment(a.Deployment); ok {
			return d, nil
		}
		return nil, api.Errorf(api.CodeNotFound, "app %q was never deployed; run: slipway deploy -a %s", a.Name, a.Name)
	}
	if d, ok := v.Deployment(api.DeploymentID(id)); ok && d.App == a.Name {
		return d, nil
	}
	var known []string
	for d := range v.Deployments(a.Name) {
		known = append(known, string(d.ID))
	}
	return nil, api.NotFoundSee("deployment", id, known, "slipway why -a "+string(a.Name))
}

// WatchDeployment sends the deployment on every change and ends with it. A slow client skips
// versions and always gets the last one.
func (s *Server) WatchDeployment(r *pb.ObjectRequest, stream grpc.ServerStreamingServer[pb.Document]) error {
	ctx := stream.Context()
	v, a, err := s.readApp(ctx, r.GetApp())
	if err != nil {
		return pb.Error(err)
	}
	d, err := findDeployment(v, a, r.GetId())
	if err != nil {
		return pb.Error(err)
	}
	var last []byte
	err = s.follow(ctx, v, func(v *state.View) (bool, error) {
		now, ok := v.Deployment(d.ID)
		if !ok {
			return false, api.Errorf(api.CodeNotFound, "deployment %s was removed", d.ID)
		}
		update, err := s.deploymentUpdate(v, now)
		if err != nil {
			return false, err
		}
		if document := pb.Marshal(update); !bytes.Equal(document, last) {
			last = document
			if err := stream.Send(&pb.Document{Json: document}); err != nil {
				return false, err
			}
		}
		return !now.Status.Ended(), nil
	})
	return pb.Error(err)
}

// deploymentUpdate is one look at a deployment: itself, the services of its release, and the
// processes that come and go because of it.
func (s *Server) deploymentUpdate(v *state.View, d *api.Deployment) (api.DeploymentUpdate, error) {
	update := api.DeploymentUpdate{Deployment: *d, Services: []api.ServiceInfo{}, Processes: []api.ProcessInfo{}}
	a, ok := v.App(d.App)
	if !ok {
		return update, api.NotFound("app", string(d.App), nil)
	}
	release, ok := v.Release(d.Release)
	if !ok {
		return update, api.NotFound("release", string(d.Release), nil)
	}
	update.Release = releaseInfo(v, a, release)
	update.Release.Manifest = ""
	for i := range release.Services {
		update.Services = append(update.Services, serviceInfo(v, a.Name, release, &release.Services[i]))
	}
	for p := range v.ProcessesOfApp(a.Name) {
		if p.Kind == api.KindService && (p.Live() || p.Created.After(d.Created)) {
			update.Processes = append(update.Processes, processInfo(v, p))
		}
	}
	return update, nil
}

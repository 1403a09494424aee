package control

import (
	"context"
	"fmt"

	"google.golang.org/grpc"

	"slipway/api"
	"slipway/api/pb"
)

// GetRack describes the rack.
func (s *Server) GetRack(ctx context.Context, _ *pb.GetRackRequest) (*pb.Document, error) {
	v, err := s.read(ctx)
	if err != nil {
		return nil, pb.Error(err)
	}
	rack := v.Rack()
	info := api.RackInfo{
		Name: rack.Name, Domain: rack.Domain, Status: "running", Version: s.cfg.Version,
		Servers: s.cfg.Servers(), HTTPPort: rack.HTTPPort, HTTPSPort: rack.HTTPSPort,
	}
	ready := 0
	for n := range v.Nodes() {
		info.Nodes++
		if n.Status == api.NodeReady {
			ready++
			info.Capacity, info.Used = info.Capacity.Add(n.Available()), info.Used.Add(v.Used(n.ID).Amount)
		}
	}
	switch {
	case ready == 0:
		info.Status = "no nodes"
	case ready < info.Nodes:
		info.Status = "degraded"
	}
	for a := range v.Apps() {
		if s.cfg.Callers.Visible(ctx, a.Name) {
			info.Apps++
		}
	}
	for range v.LiveProcesses() {
		info.Processes++
	}
	return doc(info, nil)
}

// ListNodes lists the nodes.
func (s *Server) ListNodes(ctx context.Context, _ *pb.ListNodesRequest) (*pb.Documents, error) {
	v, err := s.read(ctx)
	if err != nil {
		return nil, pb.Error(err)
	}
	nodes := []*api.Node{}
	for n := range v.Nodes() {
		nodes = append(nodes, n)
	}
	return docs(nodes, nil)
}

// Events streams what happens from now on, until the caller goes away. Indexes up to after are
// left out.
func (s *Server) Events(r *pb.EventsRequest, stream grpc.ServerStreamingServer[pb.Document]) error {
	ctx := stream.Context()
	if r.GetApp() != "" {
		if _, _, err := s.readApp(ctx, r.GetApp()); err != nil {
			return pb.Error(err)
		}
	}
	_, updates := s.cfg.Store.Subscribe(ctx)
	for u := range updates {
		if u.Lost > 0 {
			lost := api.Event{At: s.cfg.Now(), Type: "events.lost", Message: fmt.Sprintf("%d events were lost: the reader is too slow", u.Lost)}
			if err := stream.Send(pb.Doc(lost)); err != nil {
				return err
			}
		}
		for _, e := range u.Events {
			about := r.GetApp() == "" && e.App == "" || s.cfg.Callers.Visible(ctx, e.App) &&
				(r.GetApp() == "" || string(e.App) == r.GetApp())
			if e.Index <= r.GetAfter() || !about {
				continue
			}
			if err := stream.Send(pb.Doc(e)); err != nil {
				return err
			}
		}
	}
	return pb.Error(context.Cause(ctx))
}

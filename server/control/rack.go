package control

import (
	"context"

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
			info.Capacity, info.Used = info.Capacity.Add(n.Available()), info.Used.Add(v.Used(n.ID))
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

// Events streams what happens, until the caller goes away.
func (s *Server) Events(r *pb.EventsRequest, stream grpc.ServerStreamingServer[pb.Document]) error {
	ctx := stream.Context()
	if s.cfg.Events == nil {
		return pb.Error(api.Errorf(api.CodeUnavailable, "this server keeps no events"))
	}
	if r.GetApp() != "" {
		if _, _, err := s.readApp(ctx, r.GetApp()); err != nil {
			return pb.Error(err)
		}
	}
	after := r.GetAfter()
	if after == 0 {
		after = s.cfg.Store.View().Index()
	}
	for {
		events, err := s.cfg.Events.Events(ctx, after)
		if err != nil {
			return pb.Error(err)
		}
		for _, e := range events {
			after = max(after, e.Index)
			if r.GetApp() != "" && string(e.App) != r.GetApp() {
				continue
			}
			if e.App != "" && !s.cfg.Callers.Visible(ctx, e.App) {
				continue
			}
			if err := stream.Send(pb.Doc(e)); err != nil {
				return err
			}
		}
	}
}

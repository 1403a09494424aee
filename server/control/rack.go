package control

import (
	"context"

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

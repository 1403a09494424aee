package control

import (
	"context"
	"maps"
	"slices"

	"slipway/api"
	"slipway/api/pb"
	"slipway/raftstore/state"
)

// pools lists the pools that have nodes or a record, by name.
func pools(v *state.View) []api.Pool {
	found := map[api.PoolName]api.Pool{}
	for n := range v.Nodes() {
		found[n.Pool] = api.Pool{Name: n.Pool, Strategy: api.BinPack}
	}
	for p := range v.Pools() {
		found[p.Name] = *p
	}
	out := []api.Pool{}
	for _, name := range slices.Sorted(maps.Keys(found)) {
		out = append(out, found[name])
	}
	return out
}

// ListPools lists the pools.
func (s *Server) ListPools(ctx context.Context, _ *pb.ListPoolsRequest) (*pb.Documents, error) {
	v, err := s.read(ctx)
	if err != nil {
		return nil, pb.Error(err)
	}
	return docs(pools(v), nil)
}

// PutPool says how a pool fills its nodes. The pool may have no nodes yet.
func (s *Server) PutPool(ctx context.Context, r *pb.PutPoolRequest) (*pb.Document, error) {
	p, err := pb.Unmarshal[api.Pool](r.GetPool())
	if err != nil {
		return nil, pb.Error(err)
	}
	if _, err := s.propose(ctx, s.request(ctx, r.GetRequestId()), "pool", state.PutPool{Pool: p}); err != nil {
		return nil, pb.Error(err)
	}
	return doc(p, nil)
}

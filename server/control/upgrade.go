package control

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"slipway/api"
	"slipway/api/pb"
	"slipway/raftstore/state"
)

// PlanUpgrade tells how far an upgrade is, and whether the next machine may be upgraded now.
func (s *Server) PlanUpgrade(ctx context.Context, _ *pb.PlanUpgradeRequest) (*pb.Document, error) {
	v, err := s.read(ctx)
	if err != nil {
		return nil, pb.Error(err)
	}
	return doc(s.upgrade(v))
}

// FinishUpgrade raises the format of the rack to what all servers read.
func (s *Server) FinishUpgrade(ctx context.Context, r *pb.FinishUpgradeRequest) (*pb.Document, error) {
	v, err := s.read(ctx)
	if err != nil {
		return nil, pb.Error(err)
	}
	u, err := s.upgrade(v)
	if err != nil {
		return nil, pb.Error(err)
	}
	if err := finishable(u); err != nil {
		return nil, pb.Error(err)
	}
	if _, err := s.propose(ctx, s.request(ctx, r.GetRequestId()), "finish", state.RaiseFormat{To: u.Reads}); err != nil {
		return nil, pb.Error(err)
	}
	return doc(s.upgrade(s.cfg.Store.View()))
}

func (s *Server) upgrade(v *state.View) (api.Upgrade, error) {
	servers, err := s.servers()
	if err != nil {
		return api.Upgrade{}, err
	}
	var nodes []api.Node
	for n := range v.Nodes() {
		nodes = append(nodes, *n)
	}
	return planUpgrade(v.Format(), servers, nodes), nil
}

// planUpgrade judges an upgrade. It is pure. Servers come first, for they read what the version
// before wrote, and what agents of the version before say.
func planUpgrade(format uint32, servers []api.Server, nodes []api.Node) api.Upgrade {
	u := api.Upgrade{Format: format, Reads: format, Servers: servers, Nodes: nodes, Wait: unready(servers)}
	if len(servers) > 0 {
		u.Reads = slices.MinFunc(servers, func(a, b api.Server) int { return int(a.Formats.Upto()) - int(b.Formats.Upto()) }).Formats.Upto()
	}
	versions, newest := map[string][]string{}, uint32(0)
	for _, one := range servers {
		versions[one.Version] = append(versions[one.Version], one.Called())
		newest = max(newest, one.Formats.Upto())
	}
	var behind, old []string
	for _, one := range servers {
		if one.Formats.Upto() < newest {
			behind = append(behind, fmt.Sprintf("%s (%s)", one.Called(), one.Version))
		}
	}
	for _, n := range nodes {
		if _, known := versions[n.Version]; !known && len(servers) > 0 {
			old = append(old, fmt.Sprintf("%s (%s)", n.Name, n.Version))
		}
	}
	switch {
	case len(behind) > 0:
		u.Next = "upgrade the servers that are left, the one that leads last: " + strings.Join(behind, ", ")
	case len(versions) > 1:
		var each []string
		for _, version := range slices.Sorted(maps.Keys(versions)) {
			each = append(each, fmt.Sprintf("%s runs %s", strings.Join(versions[version], ", "), version))
		}
		u.Next = "give all servers the same version: " + strings.Join(each, "; ")
	case len(old) > 0:
		u.Next = "give the nodes that are left the version of the servers: " + strings.Join(old, ", ")
	case u.CanFinish():
		u.Next = "finish: slipway rack upgrade --finish; until then the servers can go back to the version before"
	}
	return u
}

// unready says why no server may be stopped now.
func unready(servers []api.Server) (why []string) {
	for _, one := range servers {
		switch {
		case one.Status != "alive":
			why = append(why, fmt.Sprintf("server %s is silent: start it, or remove it if it is gone for good", one.Called()))
		case !one.Voter:
			why = append(why, fmt.Sprintf("server %s has no vote yet: it still reads what the others know", one.Called()))
		}
	}
	return why
}

// finishable reports why an upgrade cannot be finished.
func finishable(u api.Upgrade) error {
	switch {
	case len(u.Wait) > 0:
		return api.Errorf(api.CodeConflict, "the upgrade cannot be finished now: %s", strings.Join(u.Wait, "; "))
	case u.CanFinish():
		return nil
	case u.Next != "":
		return api.Errorf(api.CodeConflict, "the upgrade cannot be finished yet; %s", u.Next)
	}
	return api.Errorf(api.CodeConflict, "there is no upgrade to finish: the rack has format %d, which is the newest that its servers read", u.Format)
}

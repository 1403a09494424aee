package control

import (
	"context"
	"regexp"
	"slices"

	"slipway/api"
	"slipway/api/pb"
	"slipway/raftstore/state"
)

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

// GetNode describes a node, and what it runs of the apps that the caller may see.
func (s *Server) GetNode(ctx context.Context, r *pb.NodeRequest) (*pb.Document, error) {
	v, n, err := s.readNode(ctx, r.GetNode())
	if err != nil {
		return nil, pb.Error(err)
	}
	info := api.NodeInfo{Node: *n, Used: v.Used(n.ID).Amount, Processes: []api.ProcessInfo{}}
	commands := s.commands(ctx, v)
	for p := range v.ProcessesOn(n.ID) {
		if s.cfg.Callers.Visible(ctx, p.App) {
			one := processInfo(v, p)
			one.Command = commands(p)
			info.Processes = append(info.Processes, one)
		}
	}
	return doc(info, nil)
}

// UpdateNode changes what operators own of a node.
func (s *Server) UpdateNode(ctx context.Context, r *pb.UpdateNodeRequest) (*pb.Document, error) {
	_, n, err := s.readNode(ctx, r.GetNode())
	if err != nil {
		return nil, pb.Error(err)
	}
	cmd := state.UpdateNode{Node: n.ID, Cordoned: r.Cordoned, Draining: r.Draining, Label: r.GetLabels(), Unlabel: r.GetUnlabel()}
	if r.Pool != nil {
		pool := api.PoolName(r.GetPool())
		if err := api.CheckName("pool", r.GetPool()); err != nil {
			return nil, pb.Error(err)
		}
		cmd.Pool = &pool
	}
	if err := checkLabels(r.GetLabels(), r.GetUnlabel()); err != nil {
		return nil, pb.Error(err)
	}
	if cmd.Cordoned == nil && cmd.Draining == nil && cmd.Pool == nil && len(cmd.Label)+len(cmd.Unlabel) == 0 {
		return nil, pb.Error(api.Errorf(api.CodeInvalid, "node %s: nothing to change is named", n.Name))
	}
	if _, err := s.propose(ctx, s.request(ctx, r.GetRequestId()), "node", cmd); err != nil {
		return nil, pb.Error(err)
	}
	_, n, err = s.readNode(ctx, string(n.ID))
	return doc(n, err)
}

// RemoveNode forgets a node that is down, or that runs nothing.
func (s *Server) RemoveNode(ctx context.Context, r *pb.NodeRequest) (*pb.Empty, error) {
	v, n, err := s.readNode(ctx, r.GetNode())
	req := s.request(ctx, r.GetRequestId())
	if api.CodeOf(err) == api.CodeNotFound && v.Succeeded(req.step("node")) {
		return done(nil) // the call before this one did it
	}
	if err != nil {
		return nil, pb.Error(err)
	}
	_, err = s.propose(ctx, req, "node", state.RemoveNode{Node: n.ID})
	return done(err)
}

// readNode returns a view and a node in it, named by its ID or its name.
func (s *Server) readNode(ctx context.Context, ref string) (*state.View, *api.Node, error) {
	v, err := s.read(ctx)
	if err != nil {
		return nil, nil, err
	}
	if ref == "" {
		return v, nil, api.Errorf(api.CodeInvalid, "no node is named")
	}
	id, err := s.inquiry(v).node(ref)
	if err != nil {
		return v, nil, err
	}
	n, _ := v.Node(id)
	return v, n, nil
}

// The bounds of labels. They are read by constraints: node.label.zone = a.
const labelValueMax = 256 // bytes

var (
	labelName  = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?$`)
	labelValue = regexp.MustCompile(`^[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?$`)
)

// checkLabels reports what is wrong with labels that are to be set or removed, or nil.
func checkLabels(labels map[string]string, unlabel []string) error {
	for name, value := range labels {
		switch {
		case !labelName.MatchString(name):
			return api.Errorf(api.CodeInvalid, "label name %.80q is not 1 to 63 letters, digits, dots, dashes, underscores and slashes", name)
		case len(value) > labelValueMax || !labelValue.MatchString(value):
			return api.Errorf(api.CodeInvalid, "label %s: value %.80q is not 1 to %d printable characters of ASCII", name, value, labelValueMax)
		case slices.Contains(unlabel, name):
			return api.Errorf(api.CodeInvalid, "label %s is set and removed at once", name)
		}
	}
	return nil
}

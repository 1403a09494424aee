package control

import (
	"context"
	"time"

	"slipway/api"
	"slipway/api/pb"
	"slipway/raftstore/state"
)

// Scheduler answers questions about placement from one state, by what decides as well.
type Scheduler interface {
	Explain(v *state.View, k api.ServiceKey) (api.Explanation, error)
	WhyNot(v *state.View, k api.ServiceKey, node api.NodeID) (api.WhyNot, error)
	WhatIf(v *state.View, c api.Change, now time.Time, ids *api.IDs) (api.WhatIf, error)
	Capacity(v *state.View) []api.Capacity
}

// Inquiry is somebody's questions about one state of a rack. Nothing that it does changes
// anything.
type Inquiry struct {
	View      *state.View
	Scheduler Scheduler
	// Env returns the environment that the next release of an app would have; nil where it
	// cannot be opened.
	Env func(app api.AppName) (map[string]string, error)
	// AllowPrivileged is that of Config.
	AllowPrivileged bool
	Now             time.Time
	IDs             *api.IDs
}

// Explain says where copies of a service can go and why not elsewhere.
func (q *Inquiry) Explain(app, service string) (api.Explanation, error) {
	k, err := q.service(app, service)
	if err != nil {
		return api.Explanation{}, err
	}
	return q.Scheduler.Explain(q.View, k)
}

// WhyNot lists everything that keeps a copy of a service off a node, which is named by its ID
// or its name.
func (q *Inquiry) WhyNot(app, service, node string) (api.WhyNot, error) {
	k, err := q.service(app, service)
	if err != nil {
		return api.WhyNot{}, err
	}
	id, err := q.node(node)
	if err != nil {
		return api.WhyNot{}, err
	}
	return q.Scheduler.WhyNot(q.View, k, id)
}

// Capacity describes the room of every pool.
func (q *Inquiry) Capacity() []api.Capacity { return q.Scheduler.Capacity(q.View) }

// service finds a service of an app: one in force, or one of the current release.
func (q *Inquiry) service(app, service string) (api.ServiceKey, error) {
	k := api.ServiceKey{App: api.AppName(app), Service: api.ServiceName(service)}
	if s, ok := q.View.Service(k); ok && len(s.Want) > 0 {
		return k, nil // it may be one that the newest release has no more
	}
	if app == "" {
		return k, api.Errorf(api.CodeInvalid, "no app is named")
	}
	a, ok := q.View.App(k.App)
	if !ok {
		var known []string
		for a := range q.View.Apps() {
			known = append(known, string(a.Name))
		}
		return k, api.NotFoundSee("app", app, known, "slipway apps")
	}
	var known []string
	for s := range q.View.Services(k.App) {
		known = append(known, string(s.Key.Service))
	}
	if _, ok := currentRelease(q.View, a); ok || len(known) == 0 {
		_, _, err := findService(q.View, a, service)
		return k, err
	}
	return k, api.NotFoundSee("service", service, known, "slipway services -a "+app)
}

// node finds a node by its ID, or by its name if only one has it.
func (q *Inquiry) node(ref string) (api.NodeID, error) {
	if n, ok := q.View.Node(api.NodeID(ref)); ok {
		return n.ID, nil
	}
	var known []string
	var named []api.NodeID
	for n := range q.View.Nodes() {
		known = append(known, string(n.ID), n.Name)
		if n.Name == ref {
			named = append(named, n.ID)
		}
	}
	switch len(named) {
	case 0:
		return "", api.NotFoundSee("node", ref, known, "slipway nodes")
	case 1:
		return named[0], nil
	}
	return "", api.Errorf(api.CodeConflict, "%d nodes have the name %q; name one by its ID, see: slipway nodes", len(named), ref)
}

// inquiry begins questions about a view.
func (s *Server) inquiry(v *state.View) *Inquiry {
	return &Inquiry{
		View: v, Scheduler: s.cfg.Scheduler, AllowPrivileged: s.cfg.AllowPrivileged, Now: s.cfg.Now(), IDs: api.NewIDs(s.cfg.Mint()),
		Env: func(app api.AppName) (map[string]string, error) {
			newest, ok := newestRelease(v, app)
			if !ok {
				return nil, nil
			}
			return s.releaseEnv(newest)
		},
	}
}

// Explain says where copies of a service can go and why not elsewhere.
func (s *Server) Explain(ctx context.Context, r *pb.ServiceRequest) (*pb.Document, error) {
	v, _, err := s.readApp(ctx, r.GetApp())
	if err != nil {
		return nil, pb.Error(err)
	}
	return doc(s.inquiry(v).Explain(r.GetApp(), r.GetService()))
}

// WhyNot lists everything that keeps a copy of a service off a node.
func (s *Server) WhyNot(ctx context.Context, r *pb.WhyNotRequest) (*pb.Document, error) {
	v, _, err := s.readApp(ctx, r.GetApp())
	if err != nil {
		return nil, pb.Error(err)
	}
	return doc(s.inquiry(v).WhyNot(r.GetApp(), r.GetService(), r.GetNode()))
}

// Capacity describes the room of every pool.
func (s *Server) Capacity(ctx context.Context, _ *pb.CapacityRequest) (*pb.Documents, error) {
	v, err := s.read(ctx)
	if err != nil {
		return nil, pb.Error(err)
	}
	return docs(s.inquiry(v).Capacity(), nil)
}

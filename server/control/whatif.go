package control

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"slipway/api"
	"slipway/api/pb"
	"slipway/manifest"
	"slipway/raftstore/state"
)

// newNodesMax bounds the nodes that one question adds.
const newNodesMax = 10_000

// WhatIf says what would follow from a change.
func (q *Inquiry) WhatIf(r *pb.WhatIfRequest) (api.WhatIf, error) {
	c, err := q.change(r)
	if err != nil {
		return api.WhatIf{}, err
	}
	return q.Scheduler.WhatIf(q.View, c, q.Now, q.IDs)
}

// change reads a request.
func (q *Inquiry) change(r *pb.WhatIfRequest) (c api.Change, err error) {
	switch k := r.GetChange().(type) {
	case *pb.WhatIfRequest_RemoveNode:
		c.Remove, err = q.node(k.RemoveNode)
	case *pb.WhatIfRequest_DrainNode:
		c.Drain, err = q.node(k.DrainNode)
	case *pb.WhatIfRequest_AddNodes:
		c.Nodes = int(k.AddNodes.GetCount())
		c.Add, err = q.newNode(k.AddNodes)
	case *pb.WhatIfRequest_Scale:
		c.Scale, err = q.newScale(r.GetApp(), k.Scale.GetCounts())
	case *pb.WhatIfRequest_Deploy:
		c.App = api.AppName(r.GetApp())
		c.Deploy, err = q.newServices(c.App, k.Deploy)
	default:
		err = api.Errorf(api.CodeInvalid, "nothing to change: name a node, a scale or a manifest")
	}
	return c, err
}

// newNode reads a node that is not there yet. What it does not say is what the nodes of the rack
// agree on: a service that wants node.arch = amd64 would find no place on a node without one.
func (q *Inquiry) newNode(r *pb.NewNodes) (*api.Node, error) {
	asked, err := pb.Unmarshal[api.Node](r.GetNode())
	if err != nil {
		return nil, err
	}
	n := &api.Node{Capacity: asked.Capacity, Reserved: asked.Reserved, Pool: asked.Pool, Labels: asked.Labels, Devices: asked.Devices}
	if n.Pool == "" {
		n.Pool = api.DefaultPool
	}
	n.Attributes, n.Capacity.Disk = q.common(asked.Capacity.Disk)
	maps.Copy(n.Attributes, asked.Attributes)
	switch c := n.Capacity; {
	case r.GetCount() < 1 || r.GetCount() > newNodesMax:
		return nil, api.Errorf(api.CodeInvalid, "%d new nodes are not within 1 to %d", r.GetCount(), newNodesMax)
	case c.CPU < cpuMin || c.CPU > cpuMax:
		return nil, api.Errorf(api.CodeInvalid, "a new node: cpu %d is not within %d to %d (1000 is one core)", c.CPU, cpuMin, cpuMax)
	case c.Memory < memoryMin || c.Memory > memoryMax:
		return nil, api.Errorf(api.CodeInvalid, "a new node: memory %s is not within %s to %s", c.Memory, memoryMin, memoryMax)
	case c.Disk < 0:
		return nil, api.Errorf(api.CodeInvalid, "a new node: disk %s is below zero", c.Disk)
	}
	if err := api.CheckName("pool", string(n.Pool)); err != nil {
		return nil, err
	}
	return n, nil
}

// common is what all nodes of the rack say, and the disk of a new one: as asked, or else that of
// the smallest.
func (q *Inquiry) common(disk api.Bytes) (map[string]string, api.Bytes) {
	attributes, asked, first := map[string]string{}, disk > 0, true
	for n := range q.View.Nodes() {
		if first {
			maps.Copy(attributes, n.Attributes)
		}
		maps.DeleteFunc(attributes, func(name, value string) bool { return n.Attributes[name] != value })
		if !asked && (first || n.Capacity.Disk < disk) {
			disk = n.Capacity.Disk
		}
		first = false
	}
	return attributes, disk
}

// newScale reads other counts of services.
func (q *Inquiry) newScale(app string, counts map[string]int64) (map[api.ServiceKey]int, error) {
	if len(counts) == 0 {
		return nil, api.Errorf(api.CodeInvalid, "nothing to change: name a service and its count, such as web=3")
	}
	out := map[api.ServiceKey]int{}
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		k, err := q.service(app, name)
		if err != nil {
			return nil, err
		}
		n := counts[name]
		if n < 0 || n > countMax {
			return nil, api.Errorf(api.CodeInvalid, "service %q: count %d is not within 0 to %d", name, n, countMax)
		}
		if spec, ok := q.spec(k); ok && spec.Agent {
			return nil, api.Errorf(api.CodeInvalid, "service %q runs once on every node; its count cannot be set", name)
		} else if ok && spec.Singleton && n > 1 {
			return nil, api.Errorf(api.CodeInvalid, "service %q is a singleton; its count cannot be %d", name, n)
		}
		out[k] = int(n)
	}
	return out, nil
}

// spec returns a service as its newest release in force has it.
func (q *Inquiry) spec(k api.ServiceKey) (*api.ServiceSpec, bool) {
	s, ok := q.View.Service(k)
	if !ok || len(s.Want) == 0 {
		return nil, false
	}
	return q.View.Spec(s.Want[0].Release, k.Service)
}

// newServices reads a manifest as a deployment of the app would, with what `slipway scale` says.
func (q *Inquiry) newServices(app api.AppName, text string) ([]api.ServiceSpec, error) {
	if err := api.CheckName("app", string(app)); err != nil {
		return nil, err
	}
	if text == "" {
		return nil, api.Errorf(api.CodeInvalid, "nothing to change: the manifest is empty")
	}
	options := manifest.Options{SkipRequired: true, AllowPrivileged: q.AllowPrivileged}
	if q.Env != nil {
		var err error
		if options.Env, err = q.Env(app); err != nil {
			return nil, err
		}
	}
	m, err := manifest.Load(text, options)
	if err != nil {
		return nil, fmt.Errorf("the manifest cannot be deployed: %w", err)
	}
	specs := m.Specs()
	if len(specs) == 0 {
		return nil, api.Errorf(api.CodeInvalid, "the manifest has no services")
	}
	for i := range specs {
		if s, ok := q.View.Service(api.ServiceKey{App: app, Service: specs[i].Name}); ok {
			specs[i].Scale = s.Override.Apply(specs[i].Scale)
		}
	}
	return specs, nil
}

// WhatIf says what would follow from a change, to the apps that the caller may see.
func (s *Server) WhatIf(ctx context.Context, r *pb.WhatIfRequest) (*pb.Document, error) {
	v, err := s.read(ctx)
	if err != nil {
		return nil, pb.Error(err)
	}
	if r.GetApp() != "" {
		if err := s.whatIfApp(ctx, v, r); err != nil {
			return nil, pb.Error(err)
		}
	}
	w, err := s.inquiry(v).WhatIf(r)
	if err != nil {
		return nil, pb.Error(err)
	}
	all := len(w.Services)
	w.Services = slices.DeleteFunc(w.Services, func(x api.WhatIfService) bool { return !s.cfg.Callers.Visible(ctx, x.App) })
	if len(w.Services) < all {
		w.Fits = !slices.ContainsFunc(w.Services, func(x api.WhatIfService) bool { return x.Missing > 0 })
	}
	return doc(w, nil)
}

// whatIfApp checks the app that a question is about. A first deployment is a question as well,
// unless the name looks like a slip of another.
func (s *Server) whatIfApp(ctx context.Context, v *state.View, r *pb.WhatIfRequest) error {
	_, err := s.findApp(ctx, v, r.GetApp())
	if _, deploy := r.GetChange().(*pb.WhatIfRequest_Deploy); !deploy || api.CodeOf(err) != api.CodeNotFound {
		return err
	}
	var known []string
	for a := range v.Apps() {
		if s.cfg.Callers.Visible(ctx, a.Name) {
			known = append(known, string(a.Name))
		}
	}
	if api.Nearest(r.GetApp(), known) != "" {
		return err
	}
	return nil
}

package control

import (
	"context"
	"fmt"

	"slipway/api"
	"slipway/api/pb"
	"slipway/raftstore/state"
)

// ListServices lists the services of the active release; before there is one, those of the
// release that is being deployed.
func (s *Server) ListServices(ctx context.Context, r *pb.AppRequest) (*pb.Documents, error) {
	v, a, err := s.readApp(ctx, r.GetApp())
	if err != nil {
		return nil, pb.Error(err)
	}
	services := []api.ServiceInfo{}
	if release, ok := currentRelease(v, a); ok {
		for i := range release.Services {
			services = append(services, serviceInfo(v, a.Name, release, &release.Services[i]))
		}
	}
	return docs(services, nil)
}

// currentRelease returns the active release, or else the one of the newest deployment.
func currentRelease(v *state.View, a *api.App) (*api.Release, bool) {
	if r, ok := v.Release(a.Release); ok {
		return r, true
	}
	if d, ok := v.Deployment(a.Deployment); ok {
		return v.Release(d.Release)
	}
	return nil, false
}

// findService returns a service of the current release.
func findService(v *state.View, a *api.App, name string) (*api.Release, *api.ServiceSpec, error) {
	release, ok := currentRelease(v, a)
	if !ok {
		return nil, nil, api.Errorf(api.CodeConflict, "app %q has no active release; run: slipway deploy -a %s", a.Name, a.Name)
	}
	spec, err := releaseService(release, name)
	return release, spec, err
}

// releaseService returns a service of a release.
func releaseService(r *api.Release, name string) (*api.ServiceSpec, error) {
	var known []string
	for i := range r.Services {
		if string(r.Services[i].Name) == name {
			return &r.Services[i], nil
		}
		known = append(known, string(r.Services[i].Name))
	}
	return nil, api.NotFoundSee("service", name, known, "slipway services -a "+string(r.App))
}

// Scale replaces parts of a service's scale until it is reset. Parts that are not given keep
// what an earlier override said.
func (s *Server) Scale(ctx context.Context, r *pb.ScaleRequest) (*pb.Document, error) {
	v, a, err := s.readApp(ctx, r.GetApp())
	if err != nil {
		return nil, pb.Error(err)
	}
	_, spec, err := findService(v, a, r.GetService())
	if err != nil {
		return nil, pb.Error(err)
	}
	key := api.ServiceKey{App: a.Name, Service: spec.Name}
	req := s.request(ctx, r.GetRequestId())
	override, err := newOverride(spec, r)
	if err != nil {
		return nil, pb.Error(err)
	}
	if override != nil {
		override.Author, override.At = req.actor, s.cfg.Now()
	}
	if _, err := s.propose(ctx, req, "scale", state.SetScale{Key: key, Override: override, Keep: true}); err != nil {
		return nil, pb.Error(err)
	}
	if v, a, err = s.readApp(ctx, r.GetApp()); err != nil {
		return nil, pb.Error(err)
	}
	release, spec, err := findService(v, a, r.GetService())
	if err != nil {
		return nil, pb.Error(err)
	}
	return doc(serviceInfo(v, a.Name, release, spec), nil)
}

// The bounds of what one copy may ask for.
const (
	cpuMin    = api.MilliCPU(1)
	cpuMax    = api.MilliCPU(1_000_000)
	memoryMin = 4 * api.MiB
	memoryMax = 64 * api.TiB
	countMax  = 10_000
)

// newOverride is what a request says of a service; nil resets.
func newOverride(spec *api.ServiceSpec, r *pb.ScaleRequest) (*api.ScaleOverride, error) {
	if r.GetReset_() {
		return nil, nil
	}
	next := api.ScaleOverride{}
	if r.Count == nil && r.Cpu == nil && r.Memory == nil {
		return nil, api.Errorf(api.CodeInvalid, "service %q: neither count, cpu nor memory is given", spec.Name)
	}
	if r.Count != nil {
		count := int(r.GetCount())
		if count < 0 || count > countMax {
			return nil, api.Errorf(api.CodeInvalid, "service %q: count %d is not within 0 to %d", spec.Name, count, countMax)
		}
		if spec.Agent {
			return nil, api.Errorf(api.CodeInvalid, "service %q runs once on every node; its count cannot be set", spec.Name)
		}
		if spec.Singleton && count > 1 {
			return nil, api.Errorf(api.CodeInvalid, "service %q is a singleton; its count cannot be %d", spec.Name, count)
		}
		next.Count = &count
	}
	if r.Cpu != nil {
		next.CPU = api.MilliCPU(r.GetCpu())
		if next.CPU < cpuMin || next.CPU > cpuMax {
			return nil, api.Errorf(api.CodeInvalid, "service %q: cpu %d is not within %d to %d (1000 is one core)", spec.Name, next.CPU, cpuMin, cpuMax)
		}
	}
	if r.Memory != nil {
		next.Memory = api.Bytes(r.GetMemory())
		if next.Memory < memoryMin || next.Memory > memoryMax {
			return nil, api.Errorf(api.CodeInvalid, "service %q: memory %s is not within %s to %s", spec.Name, next.Memory, memoryMin, memoryMax)
		}
	}
	return &next, nil
}

// Restart replaces the processes of a service, or of all services, at the pace of a rollout.
func (s *Server) Restart(ctx context.Context, r *pb.ServiceRequest) (*pb.Empty, error) {
	v, a, err := s.readApp(ctx, r.GetApp())
	if err != nil {
		return nil, pb.Error(err)
	}
	release, ok := currentRelease(v, a)
	if !ok {
		return nil, pb.Error(api.Errorf(api.CodeConflict, "app %q has no active release; run: slipway deploy -a %s", a.Name, a.Name))
	}
	services := release.Services
	if r.GetService() != "" {
		spec, err := releaseService(release, r.GetService())
		if err != nil {
			return nil, pb.Error(err)
		}
		services = []api.ServiceSpec{*spec}
	}
	req := s.request(ctx, r.GetRequestId())
	for i := range services {
		key := api.ServiceKey{App: a.Name, Service: services[i].Name}
		if _, err := s.propose(ctx, req, "restart/"+string(key.Service), state.RestartService{Key: key}); err != nil {
			return nil, pb.Error(err)
		}
	}
	return &pb.Empty{}, nil
}

// serviceInfo describes a service as a release has it.
func serviceInfo(v *state.View, app api.AppName, r *api.Release, spec *api.ServiceSpec) api.ServiceInfo {
	key := api.ServiceKey{App: app, Service: spec.Name}
	scale := spec.Scale
	info := api.ServiceInfo{Name: spec.Name, Domains: spec.Domains, Ports: []string{}, Release: r.ID}
	if service, ok := v.Service(key); ok {
		scale = service.Override.Apply(scale)
		info.Override, info.Waiting = service.Override, service.Waiting
	}
	info.Count, info.CPU, info.Memory = scale.Count, scale.Ask.CPU, scale.Ask.Memory
	if spec.Agent {
		info.Count = eligibleNodes(v)
	}
	for p := range v.LiveOf(key) {
		if p.Kind == api.KindService && p.Ready {
			info.Ready++
		}
	}
	addresses(&info, v.Rack(), app, spec)
	return info
}

func eligibleNodes(v *state.View) int {
	n := 0
	for node := range v.Nodes() {
		if node.Eligible() {
			n++
		}
	}
	return n
}

// addresses fills in where a service answers: on <service>.<app>.<domain of the rack>.
func addresses(info *api.ServiceInfo, rack state.Rack, app api.AppName, spec *api.ServiceSpec) {
	switch {
	case spec.Routed():
		info.Domain = fmt.Sprintf("%s.%s.%s", spec.Name, app, rack.Domain)
		info.URL = serviceURL(rack, info.Domain)
		for _, outside := range []int{rack.HTTPPort, rack.HTTPSPort} {
			if outside != 0 {
				info.Ports = append(info.Ports, fmt.Sprintf("%d:%d", outside, spec.Port.Number))
			}
		}
	case spec.Port.Number != 0:
		info.Ports = append(info.Ports, fmt.Sprint(spec.Port.Number))
	}
	for _, p := range spec.Ports {
		info.Ports = append(info.Ports, fmt.Sprint(p.Number))
	}
}

// serviceURL prefers HTTPS, and leaves ports out that a scheme implies.
func serviceURL(rack state.Rack, domain string) string {
	scheme, port, implied := "https", rack.HTTPSPort, 443
	if port == 0 {
		scheme, port, implied = "http", rack.HTTPPort, 80
	}
	if port == implied || port == 0 {
		return scheme + "://" + domain
	}
	return fmt.Sprintf("%s://%s:%d", scheme, domain, port)
}

package manifest

import (
	"slices"
	"strings"

	"slipway/api"
)

// validate applies the rules between objects, in Convox's order.
func (l *loader) validate(m *Manifest) {
	for _, b := range m.Balancers {
		l.checkBalancer(m, b)
	}
	l.checkBudget(m)
	l.required(m)
	for i := range m.Services {
		l.checkService(m, &m.Services[i])
	}
	l.checkNLB(m)
	for _, t := range m.Timers {
		if t.Service != "" && m.service(t.Service) == nil {
			at := t.node.get("service")
			l.problem(at, "timer %s references a service that does not exist: %s", short(string(t.Name)), short(at.source))
		}
	}
}

// checkService applies the rules between a service and the rest of the manifest.
func (l *loader) checkService(m *Manifest, s *Service) {
	n, name := s.node, s.Spec.Name
	if n.get("internal").flag(false) && n.get("internalRouter").flag(false) {
		l.problem(n.get("internalRouter"), "service %s can not have both internal and internalRouter set as true", name)
	}
	for _, item := range n.get("resources").elements() {
		resource, custom, hasCustom := strings.Cut(item.string(""), ":")
		if !slices.ContainsFunc(m.Resources, func(r Resource) bool { return string(r.Name) == resource }) {
			l.problem(item, "service %s references a resource that does not exist: %s", name, short(item.source))
		}
		if hasCustom && !envName.MatchString(custom) {
			l.problem(item, "service %s: resource %s must name a variable after the colon", name, quote(item.source))
		}
	}
	for _, item := range n.get("configMounts").elements() {
		if id := item.get("id"); !slices.ContainsFunc(m.Configs, func(c Config) bool { return c.ID == id.string("") }) {
			l.problem(item, "config id: '%s' not found", short(source(id)))
		}
	}
	for _, item := range n.get("links").elements() {
		if !m.has(item.string("")) {
			l.problem(item, "service %s links to a service that does not exist: %s", name, short(item.source))
		}
	}
	if s.Spec.Port.Number == 0 {
		l.checkPortless(s)
	}
}

// checkPortless warns about what has no effect without a port, and refuses probes that need
// one.
func (l *loader) checkPortless(s *Service) {
	for _, probe := range []struct {
		at    *node
		probe *api.Probe
	}{{s.node.get("liveness"), s.Spec.Liveness}, {s.node.get("startupProbe"), s.Spec.Startup}} {
		if probe.probe != nil && probe.probe.Port == 0 {
			l.problem(probe.at, "service %s: %s needs a port, and the service has none", s.Spec.Name, strings.TrimPrefix(probe.at.path, s.node.path+"."))
		}
	}
	for _, key := range []string{"domain", "health"} {
		if at := s.node.get(key); at != nil && (key != "health" || s.Spec.Health.Port == 0) {
			l.warn(at, "service %s: %s has no effect without a port", s.Spec.Name, key)
		}
	}
}

// service returns the service of that name, or nil.
func (m *Manifest) service(name api.ServiceName) *Service {
	for i := range m.Services {
		if m.Services[i].Spec.Name == name {
			return &m.Services[i]
		}
	}
	return nil
}

// has reports whether the manifest has a service of that name.
func (m *Manifest) has(name string) bool { return m.service(api.ServiceName(name)) != nil }

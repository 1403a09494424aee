package manifest

import (
	"fmt"
	"slices"
	"strconv"
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
			l.problem(at, "timer %s references a service that does not exist: %s", short(string(t.Name)), short(at.source)).
				hint(m.nearService(at))
		}
	}
	l.checkDomains(m)
}

// checkDomains warns about a host that would lead to two services.
func (l *loader) checkDomains(m *Manifest) {
	owners := map[string]api.ServiceName{}
	for i := range m.Services {
		s := &m.Services[i]
		if !s.Spec.Routed() {
			continue
		}
		for _, domain := range s.Spec.Domains {
			if owner, taken := owners[domain]; taken {
				at := s.node.get("domain")
				l.warn(at, "service %s: a domain in %s is one of service %s too, and leads to one of them only", s.Spec.Name, quote(written(at)), owner)
			}
			owners[domain] = s.Spec.Name
		}
	}
}

// checkService applies the rules between a service and the rest of the manifest.
func (l *loader) checkService(m *Manifest, s *Service) {
	n, name := s.node, s.Spec.Name
	if n.get("internal").flag(false) && n.get("internalRouter").flag(false) {
		l.problem(n.get("internalRouter"), "service %s can not have both internal and internalRouter set as true", name).
			hint("remove one of them")
	} else if n.get("internalRouter").flag(false) {
		l.warn(n.get("internalRouter"), "service %s is internal: it can be reached inside the rack only, there is no router for internal names yet", name)
	}
	for _, item := range n.get("resources").elements() {
		resource, custom, hasCustom := strings.Cut(item.string(""), ":")
		if !slices.ContainsFunc(m.Resources, func(r Resource) bool { return string(r.Name) == resource }) {
			l.problem(item, "service %s references a resource that does not exist: %s", name, short(item.source)).
				hint(m.nearResource(item, resource))
		}
		if hasCustom && !envName.MatchString(custom) {
			l.problem(item, "service %s: resource %s must name a variable after the colon", name, quote(item.source)).
				hint("write it as db:MAIN_URL")
		}
	}
	for _, item := range n.get("configMounts").elements() {
		id, dir := item.get("id"), item.get("dir")
		if id == nil || dir == nil || !cleanAbs(dir.text) || item.get("filename") == nil || strings.Contains(item.get("filename").text, "/") {
			l.problem(item, "%s must have an id, an absolute dir and a filename without a slash", item.path).
				hint("write it as {id: nginx, dir: /etc/nginx, filename: nginx.conf}")
			continue
		}
		if !slices.ContainsFunc(m.Configs, func(c Config) bool { return c.ID == id.string("") }) {
			l.problem(item, "config id: '%s' not found", short(source(id))).hint("add it to configs, at the top of the manifest")
		}
	}
	for _, item := range n.get("imagePullSecrets").elements() {
		if item.get("registry") == nil || item.get("username") == nil || (item.get("password") == nil) == (item.get("passwordEnv") == nil) {
			l.problem(item, "%s must have a registry, a username, and either passwordEnv or password", item.path).
				hint("write it as {registry: registry.example.org, username: u, passwordEnv: NAME}")
		}
	}
	for _, item := range n.get("links").elements() {
		if !m.has(item.string("")) {
			l.problem(item, "service %s links to a service that does not exist: %s", name, short(item.source)).hint(m.nearService(item))
		}
	}
	if s.Spec.Singleton && s.Spec.Scale.Max > 1 {
		l.problem(n.get("scale"), "service %s: a singleton has one copy, its scale asks for more", name).
			hint("remove singleton; to stop old copies before new ones start, write deployment: {minimum: 0, maximum: 100}")
	}
	if s.Spec.Port.Number == 0 {
		l.checkPortless(s)
	}
	l.checkOwnVariables(s)
}

// rackVariables are those that the rack sets for every process.
var rackVariables = []string{"APP", "BUILD", "BUILD_DESCRIPTION", "BUILD_GIT_SHA", "PROCESS", "RACK", "RELEASE", "SERVICE"}

// checkOwnVariables warns about defaults that hide what the rack tells a process. The value of
// PORT is usually repeated; it only hurts if it is another one.
func (l *loader) checkOwnVariables(s *Service) {
	for _, e := range s.Declared {
		switch port := strconv.Itoa(s.Spec.Port.Number); {
		case e.Required || e.Name == "*":
		case slices.Contains(rackVariables, e.Name):
			l.warn(e.node, "%s hides the variable %s that the rack sets for every process", e.node.path, e.Name)
		case e.Name == "PORT" && s.Spec.Port.Number != 0 && !e.node.vars && e.Default != port:
			l.warn(e.node, "service %s: PORT is %s by default, and the port is %s: the process may listen where nobody asks", s.Spec.Name, quote(e.Source), port)
		}
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
			l.problem(probe.at, "service %s: %s needs a port, and the service has none", s.Spec.Name, strings.TrimPrefix(probe.at.path, s.node.path+".")).
				hint("add port: to the probe or to the service")
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

// nearService says which service may be meant by the name at n.
func (m *Manifest) nearService(n *node) string {
	known := make([]string, 0, len(m.Services))
	for i := range m.Services {
		known = append(known, string(m.Services[i].Spec.Name))
	}
	return near(n, n.string(""), known, "services")
}

// nearResource says which resource may be meant by a name at n.
func (m *Manifest) nearResource(n *node, name string) string {
	known := make([]string, 0, len(m.Resources))
	for _, r := range m.Resources {
		known = append(known, string(r.Name))
	}
	return near(n, name, known, "resources")
}

// near is a hint at the name that may be meant. It does not compare with values of the
// environment: how near they are to a name would tell about them.
func near(n *node, name string, known []string, under string) string {
	if !n.vars && len(name) <= api.NameMax {
		if found := api.Nearest(name, known); found != "" {
			return fmt.Sprintf("did you mean %q?", found)
		}
	}
	return "add it under " + under
}

// has reports whether the manifest has a service of that name.
func (m *Manifest) has(name string) bool { return m.service(api.ServiceName(name)) != nil }

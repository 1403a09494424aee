package manifest

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"slipway/api"
)

var (
	nameRule = regexp.MustCompile(`^[a-z][a-z0-9-]*$`)
	hostRule = regexp.MustCompile(`^(\*\.)?[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$`)
)

// cidrHint follows a whitelist that cannot be read.
const cidrHint = "write a range such as 10.0.0.0/8, or an address"

// checkName reports a name that could not be a DNS label.
func (l *loader) checkName(kind string, f field) {
	if !nameRule.MatchString(f.name) {
		l.problem(f.value, "%s name %s invalid, must contain only lowercase alphanumeric and dashes", kind, short(f.name))
		return
	}
	if err := api.CheckName(kind, f.name); err != nil {
		l.problem(f.value, "%s", err.Error())
	}
}

// short returns a name for a message of Convox, which has no quotes. Letters that only look
// like others are told apart.
func short(s string) string {
	switch {
	case len(s) > api.NameMax || hasControl(s) || s == "":
		return quote(s)
	case strings.ContainsFunc(s, func(r rune) bool { return r > unicode.MaxASCII }):
		return strconv.QuoteToASCII(s)
	}
	return s
}

// service reads one process type, with the defaults of the dialect.
func (l *loader) service(f field, m *Manifest) Service {
	l.checkName("service", f)
	n, d := f.value, l.rules.defaults()
	s := Service{node: n}
	s.Spec = api.ServiceSpec{
		Name:       api.ServiceName(f.name),
		Internal:   internal(n),
		Sticky:     n.get("sticky").flag(d.sticky),
		Timeout:    n.get("timeout").seconds(60),
		Redirect:   n.get("tls", "redirect").flag(true),
		Drain:      n.get("drain").seconds(30),
		Grace:      n.get("termination", "grace").seconds(30),
		Singleton:  n.get("singleton").flag(false),
		Init:       n.get("init").flag(d.init),
		Privileged: n.get("privileged").flag(false),
		Resources:  n.get("resources").strings(),
		Labels:     l.serviceLabels(n, m.Labels),
		Pool:       api.PoolName(n.get("pool").string("")),
		Priority:   n.get("priority").number(50),
	}

	l.image(&s.Spec, n)
	l.agent(&s.Spec, n)
	l.ports(&s.Spec, n)
	l.domains(&s.Spec, n)
	l.whitelist(&s.Spec, n)
	l.hostPorts(&s.Spec, n)
	l.scale(&s.Spec, n)
	l.devices(&s.Spec, n)
	l.deployment(&s.Spec, n)
	l.probes(&s.Spec, n) // after scale: a GPU changes their defaults
	l.placement(&s.Spec, n)
	l.security(&s.Spec, n)
	l.volumes(&s.Spec, n, m)

	s.Command = l.command(n.get("command"))
	s.Source = written(n.get("command"))
	s.Entrypoint = l.command(n.get("entrypoint"))
	s.Test = n.get("test").string("")
	l.environment(&s, n, m)
	l.links(&s, n)
	l.measure(&s)
	s.Spec.Environment = sortedKeys(s.Env)
	s.Extra = extra(n, service().keys)
	return s
}

// internal reports whether the router must not lead to a service. Every service can be reached
// inside the rack, so that internalAndExternal is an ordinary one; the router for internal
// names that internalRouter asks for is not there yet, and nobody outside may get in instead.
func internal(n *node) bool {
	if n.get("internalAndExternal").flag(false) {
		return false
	}
	return n.get("internal").flag(false) || n.get("internalRouter").flag(false)
}

// environment reads what the service declares after what the app does, and fills it.
func (l *loader) environment(s *Service, n *node, m *Manifest) {
	s.Declared = slices.Concat(m.Environment, l.entries(n.get("environment")))
	if len(s.Declared) > declaredMax {
		l.problem(n, "service %s declares %d variables, the limit is %d", s.Spec.Name, len(s.Declared), declaredMax)
		s.Declared = s.Declared[:declaredMax]
	}
	s.Env = map[string]string{}
	if l.delivered <= deliveredMax {
		s.Env, s.missing = resolve(s.Declared, l.env)
	}
}

// measure counts what a service receives.
func (l *loader) measure(s *Service) {
	size := 0
	for _, values := range []map[string]string{s.Env, s.Spec.Labels} {
		for name, value := range values {
			size += len(name) + len(value)
		}
	}
	for _, word := range slices.Concat(s.Command, s.Entrypoint) {
		size += len(word)
	}
	l.deliver(s.node, size)
}

// image decides between a given image, which wins, and a build.
func (l *loader) image(spec *api.ServiceSpec, n *node) {
	build := n.get("build")
	if spec.Image = n.get("image").string(""); spec.Image != "" {
		if build != nil {
			l.warn(build, "service %s: build is ignored, image wins", spec.Name)
		}
		return
	}
	spec.Build = &api.BuildSpec{
		Path:       build.get("path").string(build.string(".")),
		Dockerfile: build.get("manifest").string("Dockerfile"),
		Args:       build.get("args").strings(),
		Target:     build.get("target").string(""),
	}
}

// agent reads the boolean and the map of v2, whose ports are ports of the service.
func (l *loader) agent(spec *api.ServiceSpec, n *node) {
	agent := n.get("agent")
	if !agent.is(table) {
		spec.Agent = agent.flag(false)
		return
	}
	spec.Agent = agent.get("enabled").flag(true)
	if !spec.Agent {
		l.warn(agent, "service %s is not an agent; Convox makes one of every map under agent, even with enabled: false", spec.Name)
	}
}

func (l *loader) domains(spec *api.ServiceSpec, n *node) {
	for _, item := range n.get("domain").elements() {
		for name := range strings.SplitSeq(item.string(""), ",") {
			name = strings.ToLower(strings.TrimSpace(name))
			switch {
			case name == "" || slices.Contains(spec.Domains, name):
			case len(spec.Domains) >= domainsMax:
				l.problem(item, "service %s has more than %d domains", spec.Name, domainsMax)
				return
			case !hostRule.MatchString(name) || len(name) > 253:
				l.problem(item, "service %s: domain %s is not a host name", spec.Name, quote(item.source)).
					hint("write a name such as www.example.org, without https:// and path")
			default:
				spec.Domains = append(spec.Domains, name)
			}
		}
	}
}

func (l *loader) whitelist(spec *api.ServiceSpec, n *node) {
	for _, item := range n.get("whitelist").elements() {
		for s := range strings.SplitSeq(item.string(""), ",") {
			s = strings.TrimSpace(s)
			cidr, ok := parseNet(s)
			switch {
			case s == "":
			case !ok:
				l.problem(item, "service %s whitelist %s is not a valid cidr range", spec.Name, short(item.source)).hint(cidrHint)
			default:
				spec.Whitelist = append(spec.Whitelist, cidr)
			}
		}
	}
}

// deployment reads the bounds of a rollout. Agents and singletons stop before they start, and so
// do copies that hold ports of their nodes: a new one may have no node where they are free.
func (l *loader) deployment(spec *api.ServiceSpec, n *node) {
	low, high := 50, 200
	switch {
	case spec.Agent || spec.Singleton || fixedPorts(spec) && spec.Scale.Count == 1:
		low, high = 0, 100
	case fixedPorts(spec):
		high = 100
	}
	minimum, maximum := n.get("deployment", "minimum"), n.get("deployment", "maximum")
	spec.Minimum, spec.Maximum = minimum.number(low), maximum.number(high)
	if l.rules == V2 {
		l.clampDeployment(spec, minimum.or(maximum))
	}
	switch {
	case spec.Minimum < 0:
		l.problem(minimum, "service %s deployment minimum can not be less than 0", spec.Name)
	case spec.Minimum > 100:
		l.problem(minimum, "service %s deployment minimum can not be greater than 100", spec.Name)
	}
	switch {
	case spec.Maximum < 100:
		l.problem(maximum, "service %s deployment maximum can not be less than 100", spec.Name)
	case spec.Maximum > 200:
		l.problem(maximum, "service %s deployment maximum can not be greater than 200", spec.Name)
	}
	if spec.Minimum == 100 && spec.Maximum == 100 {
		l.problem(maximum.or(minimum), "service %s deployment minimum and maximum are both 100: no copy could ever be replaced", spec.Name).
			hint("lower the minimum or raise the maximum")
	}
}

// clampDeployment reads what Convox v2 does not check as the nearest thing that can be done.
func (l *loader) clampDeployment(spec *api.ServiceSpec, n *node) {
	low, high := min(max(spec.Minimum, 0), 100), min(max(spec.Maximum, 100), 200)
	if low != spec.Minimum || high != spec.Maximum {
		l.warn(n, "service %s: deployment minimum %d and maximum %d are read as %d and %d", spec.Name, spec.Minimum, spec.Maximum, low, high)
	}
	spec.Minimum, spec.Maximum = low, high
}

// extra keeps what does not act yet, as it was written, by its path below the service.
func extra(n *node, known keys) map[string]any {
	out := map[string]any{}
	for _, f := range n.entries() {
		switch r := known[f.name]; {
		case f.value.kind == nothing:
		case r.inactive:
			out[f.name] = f.value.raw()
		case r.items != nil && f.value.is(list) && slices.ContainsFunc(f.value.items, func(item *node) bool { return len(extra(item, r.items.keys)) > 0 }):
			out[f.name] = f.value.raw()
		case r.keys != nil:
			for name, value := range extra(f.value, r.keys) {
				out[f.name+"."+name] = value
			}
		}
	}
	return out
}

// labels reads labels and refuses those that the rack sets itself.
func (l *loader) labels(n *node) map[string]string {
	reserved := []string{"system", "rack", "app", "name", "service", "release", "type"}
	for _, f := range n.entries() {
		if slices.Contains(reserved, f.name) {
			l.problem(f.value, "reserved label key '%s' is not allowed", f.name).
				hint("the rack sets it itself; choose another name")
		}
	}
	return n.texts()
}

// serviceLabels adds the service's labels to those of all; its own win.
func (l *loader) serviceLabels(n *node, all map[string]string) map[string]string {
	own := l.labels(n.get("labels"))
	if len(all) == 0 {
		return own
	}
	labels := make(map[string]string, len(all)+len(own))
	for _, from := range []map[string]string{all, own} {
		for k, v := range from {
			labels[k] = v
		}
	}
	return labels
}

package manifest

import (
	"slices"

	"slipway/api"
)

// devices reads what each copy gets for itself, beside the GPUs of its scale.
func (l *loader) devices(spec *api.ServiceSpec, n *node) {
	scaled := len(spec.Devices) // from scale.gpu
	for _, item := range n.get("devices").elements() {
		if !item.is(table) {
			continue // the grammar has refused it
		}
		ask := api.DeviceAsk{
			Kind: item.get("kind").string(""), Vendor: item.get("vendor").string(""), Model: item.get("model").string(""),
			Count: item.get("count").number(1),
		}
		if ask.Kind == "" {
			l.problem(item, "service %s: %s has no kind", spec.Name, item.path).hint("name one such as gpu; slipway nodes --json shows what nodes have")
			continue
		}
		var all []stated
		for _, c := range item.get("constraints").elements() {
			if constraint, ok := l.predicate(c, spec.Name, onDevices); ok {
				all = append(all, stated{constraint, c})
				ask.Constraints = append(ask.Constraints, constraint)
			}
		}
		l.contradictions(spec, all)
		spec.Devices = append(spec.Devices, ask)
	}
	if at := n.get("devices"); scaled > 0 && slices.ContainsFunc(spec.Devices[scaled:], func(d api.DeviceAsk) bool { return d.Kind == "gpu" }) {
		l.warn(at, "service %s: each copy gets the GPUs of scale.gpu and those of devices", spec.Name)
	}
}

// hostPorts reads the ports of the node that lead to each copy. Those of an agent are its ports,
// as in Convox: who knows the node knows how to reach its agent.
func (l *loader) hostPorts(spec *api.ServiceSpec, n *node) {
	for _, item := range n.get("hostPorts").elements() {
		p, ok := l.hostPort(spec, item)
		switch {
		case !ok:
		case p.Host == 0 && slices.Contains(spec.HostPorts, p):
			l.problem(item, "service %s: %s asks twice for a port of the node that leads to %d/%s", spec.Name, item.path, p.Port, p.Protocol).hint("remove one of them")
		case p.Host != 0 && (api.Usage{Grant: api.Grant{HostPorts: spec.HostPorts}}).HoldsPort(p.Host, p.Protocol):
			l.problem(item, "service %s: %s is given twice", spec.Name, p.Name()).hint("remove one of them")
		default:
			spec.HostPorts = append(spec.HostPorts, p)
		}
	}
	if !spec.Agent {
		return
	}
	for _, port := range spec.Ports {
		p := api.HostPort{Host: port.Number, Port: port.Number, Protocol: api.Protocol(port.Scheme)}
		if !(api.Usage{Grant: api.Grant{HostPorts: spec.HostPorts}}).HoldsPort(p.Host, p.Protocol) {
			spec.HostPorts = append(spec.HostPorts, p)
		}
	}
}

// hostPort reads 8080 and 53/udp, which are the same on the node and in the process, or a map.
// Without a port of the node there, the rack chooses one.
func (l *loader) hostPort(spec *api.ServiceSpec, n *node) (api.HostPort, bool) {
	if n.kind == table && n.get("port") == nil {
		l.problem(n, "service %s: %s has no port", spec.Name, n.path).hint("write it as {port: 8080}, or {port: 8080, host: 80}")
		return api.HostPort{}, false
	}
	port, ok := l.extraPort(n)
	p := api.HostPort{Host: port.Number, Port: port.Number, Protocol: api.Protocol(port.Scheme)}
	if n.kind == table {
		p.Host = n.get("host").number(0)
	}
	if ok && p.Host >= api.FirstDynamicPort && p.Host <= api.LastDynamicPort {
		l.warn(n, "service %s: %s may be given to another service that asks for any port, they get %d to %d", spec.Name, p.Name(),
			api.FirstDynamicPort, api.LastDynamicPort)
	}
	return p, ok
}

// fixedPorts reports whether a service has ports of its nodes that nobody else can have, so that
// two copies never share a node.
func fixedPorts(spec *api.ServiceSpec) bool {
	return slices.ContainsFunc(spec.HostPorts, func(p api.HostPort) bool { return p.Host != 0 })
}

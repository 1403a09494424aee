package manifest

import (
	"slices"
	"strings"

	"slipway/api"
)

// ports reads the main port and the further ones, without repeats.
func (l *loader) ports(spec *api.ServiceSpec, n *node) {
	spec.Port = l.mainPort(spec, n.get("port"))
	for _, item := range slices.Concat(n.get("ports").elements(), n.get("agent", "ports").elements()) {
		port, ok := l.extraPort(item)
		if !ok || port.Number == spec.Port.Number && port.Scheme == api.SchemeTCP || slices.Contains(spec.Ports, port) {
			continue
		}
		spec.Ports = append(spec.Ports, port)
	}
}

// mainPort reads 3000, "https:3000" or a map of port and scheme.
func (l *loader) mainPort(spec *api.ServiceSpec, n *node) api.Port {
	if n == nil || n.kind == list {
		return api.Port{}
	}
	scheme, text := "http", n.string("")
	if n.kind == table {
		if n.get("port") == nil {
			l.problem(n, "service %s: port has no port number", spec.Name).hint("add port: with a number from 1 to 65535")
			return api.Port{}
		}
		scheme, text = n.get("scheme").string("http"), n.get("port").string("")
	} else if before, after, ok := strings.Cut(text, ":"); ok {
		scheme, text = before, after
	}
	number, ok := parsePort(text)
	switch {
	case !ok && n.kind == scalar:
		l.problem(n, "invalid port: %s (must be a number from 1 to 65535, or scheme:number)", short(n.source))
		return api.Port{}
	case !ok:
		return api.Port{}
	}
	switch scheme {
	case "http", "https", "grpc":
		return api.Port{Number: number, Scheme: api.Scheme(scheme)}
	case "secure-grpc":
		l.warn(n, "service %s: the router speaks grpc without TLS to the process; secure-grpc is read as grpc", spec.Name)
		return api.Port{Number: number, Scheme: api.SchemeGRPC}
	}
	if n.kind == scalar {
		l.problem(n, "invalid port: %s (unknown scheme, use http, https, grpc or secure-grpc)", short(n.source))
	}
	return api.Port{}
}

// extraPort reads 5001, "5002/udp" or a map of port and protocol.
func (l *loader) extraPort(n *node) (api.Port, bool) {
	text, proto := n.string(""), "tcp"
	if n.kind == table {
		text, proto = n.get("port").string(""), n.get("protocol").string("tcp")
	} else if before, after, ok := strings.Cut(text, "/"); ok {
		text, proto = before, after
	}
	number, ok := parsePort(text)
	if !ok || !protocol(proto) {
		if n.kind == scalar {
			l.problem(n, "could not parse port: %s", short(n.source)).hint("write a number such as 5001, or 5002/udp")
		}
		return api.Port{}, false
	}
	return api.Port{Number: number, Scheme: api.Scheme(strings.ToLower(proto))}, true
}

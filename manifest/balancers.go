package manifest

import (
	"strconv"
	"strings"

	"slipway/api"
)

// Balancer leads raw TCP or UDP ports to a service.
type Balancer struct {
	Name      string          `json:"name"`
	Service   api.ServiceName `json:"service"`
	Ports     []BalancerPort  `json:"ports"`
	Whitelist []string        `json:"whitelist,omitempty"` // CIDRs; empty allows all

	node *node
}

// BalancerPort is one port of a balancer.
type BalancerPort struct {
	Listen   int        `json:"listen"`
	Target   int        `json:"target"`
	Protocol api.Scheme `json:"protocol"` // tcp or udp
}

func (l *loader) balancer(f field) Balancer {
	n := f.value
	b := Balancer{Name: f.name, Service: api.ServiceName(n.get("service").string("")), node: n}
	l.checkName("balancer", f)
	for _, p := range n.get("ports").entries() {
		listen, ok := parsePort(p.name)
		if !ok {
			l.problem(p.value, "could not parse port: %s", short(p.name)).hint("it must be a number from 1 to 65535")
			continue
		}
		b.Ports = append(b.Ports, BalancerPort{
			Listen:   listen,
			Target:   p.value.get("port").number(p.value.number(0)),
			Protocol: api.Scheme(strings.ToLower(p.value.get("protocol").string("tcp"))),
		})
	}
	for _, item := range n.get("whitelist").elements() {
		for s := range strings.SplitSeq(item.string(""), ",") {
			s = strings.TrimSpace(s)
			cidr, ok := parseNet(s)
			switch {
			case s == "":
			case !ok:
				l.problem(item, "balancer %s whitelist %s is not a valid cidr range", short(f.name), short(item.source)).hint(cidrHint)
			default:
				b.Whitelist = append(b.Whitelist, cidr)
			}
		}
	}
	return b
}

// checkBalancer applies the rules between a balancer and the services.
func (l *loader) checkBalancer(m *Manifest, b Balancer) {
	name := short(b.Name)
	if len(b.Ports) == 0 {
		l.problem(b.node, "balancer %s has no ports", name).hint("add ports: {LISTEN: TARGET}")
	}
	switch {
	case b.Service == "":
		l.problem(b.node, "balancer %s has blank service", name).hint("add service: with the name of one of services")
	case m.service(b.Service) == nil:
		l.problem(b.node.get("service"), "balancer %s refers to unknown service %s", name, short(source(b.node.get("service")))).
			hint(m.nearService(b.node.get("service")))
	}
	seen := map[string]bool{}
	for _, p := range b.Ports {
		key := strconv.Itoa(p.Listen) + string(p.Protocol)
		if seen[key] {
			l.problem(b.node, "balancer %s has port %d twice", name, p.Listen)
		}
		seen[key] = true
	}
}

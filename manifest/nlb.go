package manifest

import (
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	"slipway/api"
)

// The network load balancer listeners of Convox v2. They do not act yet; their rules and the
// messages are those of Convox.

var certificateARN = regexp.MustCompile(`^arn:aws[a-z-]*:(acm:[a-z0-9-]+:[0-9]{12}:certificate/[A-Za-z0-9-]+|iam::[0-9]{12}:server-certificate/[A-Za-z0-9/+=,.@_-]+)$`)

// listener is one entry of nlb.
type listener struct {
	port, target int
	protocol     string
	certificate  string
	node         *node
}

// checkNLB applies the rules within each service and between them.
func (l *loader) checkNLB(m *Manifest) {
	owners := map[int]api.ServiceName{}
	for i := range m.Services {
		s := &m.Services[i]
		items := s.node.get("nlb")
		if items == nil {
			continue
		}
		if s.Spec.Agent {
			l.problem(items, "service %s: agent mode is incompatible with nlb ports", s.Spec.Name)
		}
		ports, targets := map[int]int{}, map[int]bool{}
		for _, n := range items.elements() {
			e, ok := l.listener(s.Spec.Name, n)
			if !ok {
				continue
			}
			if target, repeated := ports[e.port]; repeated {
				if target != e.target {
					l.problem(n, "service %s: nlb port %d declared with conflicting containerPort values", s.Spec.Name, e.port)
				} else {
					l.problem(n, "service %s: duplicate nlb port %d", s.Spec.Name, e.port)
				}
				continue
			}
			if targets[e.target] {
				l.problem(n, "service %s: nlb containerPort %d used by multiple nlb listeners", s.Spec.Name, e.target)
			}
			if owner, taken := owners[e.port]; taken {
				l.problem(n, "nlb port %d declared by services %s and %s; rack NLB listener is shared, so each port must belong to one service",
					e.port, owner, s.Spec.Name)
			}
			ports[e.port], targets[e.target], owners[e.port] = e.target, true, s.Spec.Name
		}
	}
}

// listener reads one entry; the first thing that is wrong with it is reported.
func (l *loader) listener(service api.ServiceName, n *node) (listener, bool) {
	text := n.get("port").string("0")
	e := listener{
		protocol:    strings.ToLower(n.get("protocol").string("tcp")),
		certificate: n.get("certificate").string(""),
		node:        n,
	}
	var portOK, targetOK bool
	e.port, portOK = parsePort(text)
	e.target, targetOK = parsePort(n.get("containerPort").string(text))
	at := "service " + string(service) + " nlb port " + strconv.Itoa(e.port) + ": "
	scheme := n.get("scheme").string("public")
	switch {
	case !portOK:
		l.problem(n, "service %s: nlb port %s out of range", service, short(source(n.get("port").or(&node{source: "0"}))))
	case !targetOK:
		l.problem(n, "service %s: nlb containerPort %s out of range", service, short(source(n.get("containerPort"))))
	case e.protocol != "tcp" && e.protocol != "tls":
		l.problem(n, "%sprotocol must be tcp or tls, got %s", at, quote(source(n.get("protocol"))))
	case e.protocol == "tls" && e.certificate == "":
		l.problem(n, "%sprotocol tls requires a certificate (provide an ACM ARN; run 'convox certs list' to see them)", at)
	case e.protocol == "tcp" && e.certificate != "":
		l.problem(n, "%scertificate is only valid with protocol: tls", at)
	case e.certificate != "" && !certificateARN.MatchString(e.certificate):
		l.problem(n, "%scertificate must be a full ACM or IAM server-certificate ARN, got %s", at, quote(source(n.get("certificate"))))
	case scheme != "public" && scheme != "internal":
		l.problem(n, "%sscheme must be public or internal, got %s", at, quote(source(n.get("scheme"))))
	default:
		return e, l.allowed(at, n.get("allow_cidr"))
	}
	return e, false
}

// allowed checks the ranges that may connect.
func (l *loader) allowed(at string, n *node) bool {
	seen := map[string]bool{}
	for _, item := range n.elements() {
		p, err := netip.ParsePrefix(item.string(""))
		switch {
		case err != nil || !p.Addr().Is4():
			l.problem(item, "%sallow_cidr entry %s is not a valid IPv4 CIDR", at, quote(item.source))
			return false
		case p.Masked() != p:
			l.problem(item, "%sallow_cidr entry %s is not canonical; use %q instead", at, quote(item.source), p.Masked())
			return false
		case seen[p.String()]:
			l.problem(item, "%sallow_cidr contains duplicate entry: %s", at, short(item.source))
			return false
		}
		seen[p.String()] = true
	}
	return true
}

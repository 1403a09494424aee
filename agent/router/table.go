package router

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"slipway/api"
)

// table is a compiled api.RouteTable: immutable, shared by all requests that loaded it.
type table struct {
	spec  api.RouteTable
	exact map[string]*route
	// below maps "example.com" to the route of "*.example.com".
	below map[string]*route
	// targets holds every target that a route names.
	targets map[targetID]*target
	// drains is the longest drain limit among the routes of a target.
	drains map[targetID]time.Duration
}

// find returns the route of a normalised host, or nil. An exact name wins over a wildcard.
func (t *table) find(host string) *route {
	if rt := t.exact[host]; rt != nil {
		return rt
	}
	if len(t.below) == 0 {
		return nil
	}
	if i := strings.IndexByte(host, '.'); i > 0 {
		return t.below[host[i+1:]]
	}
	return nil
}

// compiler turns tables into compiled ones and keeps what they share.
type compiler struct {
	sticky  []byte
	settled chan<- struct{}
	metrics *metrics
}

// compile returns the table for spec, with the known targets of earlier tables kept. What
// cannot be used is left out and told in problems: one bad route must not keep all others from
// moving. It changes nothing that requests see.
func (c *compiler) compile(spec api.RouteTable, known map[targetID]*target) (*table, []string) {
	t := &table{
		spec:    spec,
		exact:   make(map[string]*route),
		below:   make(map[string]*route),
		targets: make(map[targetID]*target),
		drains:  make(map[targetID]time.Duration),
	}
	var problems []string
	problem := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	for _, rs := range spec.Routes {
		switch rs.Scheme {
		case api.SchemeTCP, api.SchemeUDP:
			continue // not spoken here
		}
		rt := c.route(rs, problem)
		for _, ts := range rs.Targets {
			ap, err := netip.ParseAddrPort(ts.Addr)
			if err != nil || ap.Port() == 0 {
				problem("%s: target %s has address %q, not an IP address and a port", rs.Key, ts.Process, ts.Addr)
				continue
			}
			id := targetID{ts.Process, ap.String(), rs.Scheme}
			tg := t.targets[id]
			if tg == nil {
				if tg = known[id]; tg == nil {
					tg = newTarget(id, c.settled)
				}
				t.targets[id] = tg
			}
			t.drains[id] = max(t.drains[id], rt.drain)
			rt.add(tg, c.sticky)
		}
		for _, host := range rs.Hosts {
			t.addHost(host, rt, problem)
		}
	}
	return t, problems
}

func (t *table) addHost(host string, rt *route, problem func(string, ...any)) {
	names := t.exact
	name, wild := strings.CutPrefix(host, "*.")
	if wild {
		names = t.below
	}
	name, ok := normalHost(name)
	if !ok {
		problem("%s: host %q is not a name", rt.key, host)
		return
	}
	if other := names[name]; other != nil {
		if other.key != rt.key {
			problem("%s: host %q belongs to %s already", rt.key, host, other.key)
		}
		return
	}
	names[name] = rt
}

// normalHost returns the name in a Host header or SNI: lower case, without port and without
// the dot of the root. It reports false for what is no name or address.
func normalHost(host string) (string, bool) {
	if strings.HasPrefix(host, "[") { // an IPv6 address: never routed, but well-formed
		end := strings.IndexByte(host, ']')
		if end < 0 || (end+1 < len(host) && host[end+1] != ':') {
			return "", false
		}
		addr, err := netip.ParseAddr(host[1:end])
		return host[:end+1], err == nil && addr.Zone() == "" && digits(host[min(end+2, len(host)):])
	}
	upper := false
	end := len(host)
	for i := 0; i < len(host); i++ {
		switch b := host[i]; {
		case 'a' <= b && b <= 'z', '0' <= b && b <= '9', b == '-', b == '.', b == '_':
		case 'A' <= b && b <= 'Z':
			upper = true
		case b == ':':
			if !digits(host[i+1:]) {
				return "", false
			}
			end = i
		default:
			return "", false
		}
		if end != len(host) {
			break
		}
	}
	host = strings.TrimSuffix(host[:end], ".")
	if upper {
		host = strings.ToLower(host)
	}
	bad := host == "" || len(host) > 253 || host[0] == '.' || host[len(host)-1] == '.'
	return host, !bad
}

// digits reports whether s may follow the colon of a host: at most five digits.
func digits(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return len(s) <= 5
}

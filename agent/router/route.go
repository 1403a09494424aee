package router

import (
	"math/rand/v2"
	"net/netip"
	"time"

	"slipway/api"
)

// route is a compiled api.Route: immutable once its table is in force.
type route struct {
	key      api.ServiceKey
	scheme   api.Scheme
	redirect bool
	timeout  time.Duration
	drain    time.Duration
	// restricted routes answer only the allowed networks; with none allowed, nobody.
	restricted bool
	allowed    []netip.Prefix
	targets    []*target
	// sessions maps the token of a session cookie to its target; nil for routes that are not
	// sticky. tokens is the way back.
	sessions map[string]*target
	tokens   map[*target]string
	metrics  *routeMetrics
}

func (c *compiler) route(rs api.Route, problem func(string, ...any)) *route {
	rt := &route{
		key:        rs.Key,
		scheme:     rs.Scheme,
		redirect:   rs.Redirect,
		timeout:    rs.Timeout,
		drain:      rs.Drain,
		restricted: len(rs.Whitelist) > 0,
		metrics:    c.metrics.route(rs.Key),
	}
	if rt.timeout <= 0 {
		rt.timeout = TimeoutDefault
	}
	if rt.drain <= 0 {
		rt.drain = DrainDefault
	}
	for _, s := range rs.Whitelist {
		p, err := parsePrefix(s)
		if err != nil {
			problem("%s: whitelist entry %q is not a network", rs.Key, s)
			continue
		}
		rt.allowed = append(rt.allowed, p)
	}
	if rs.Sticky {
		rt.sessions = make(map[string]*target)
		rt.tokens = make(map[*target]string)
	}
	return rt
}

func parsePrefix(s string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(s); err == nil {
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	return p.Masked(), err
}

// add makes a target one of the route's, while the table is being compiled.
func (rt *route) add(tg *target, key []byte) {
	rt.targets = append(rt.targets, tg)
	if rt.sessions != nil {
		token := sessionToken(key, rt.key, tg.id.process)
		rt.sessions[token], rt.tokens[tg] = tg, token
	}
}

// admits reports whether a client may use the route.
func (rt *route) admits(addr netip.Addr) bool {
	if !rt.restricted {
		return true
	}
	addr = addr.Unmap()
	for _, p := range rt.allowed {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

// admitsRemote is admits for the address of a connection, "host:port".
func (rt *route) admitsRemote(remote string) bool {
	if !rt.restricted {
		return true
	}
	ap, err := netip.ParseAddrPort(remote)
	return err == nil && rt.admits(ap.Addr())
}

// exactTargets is the number of targets up to which all are compared; of more, two are drawn
// (Mitzenmacher: "The power of two choices in randomized load balancing", 2001).
const exactTargets = 16

// pick returns the target with the fewest requests in flight that is not among the tried ones,
// or nil. Targets that refused a connection a moment ago come last.
func (rt *route) pick(tried []*target) *target {
	n := len(rt.targets)
	switch {
	case n == 0:
		return nil
	case n == 1 && len(tried) == 0:
		return rt.targets[0]
	case n > exactTargets && len(tried) == 0:
		a, b := rt.targets[rand.IntN(n)], rt.targets[rand.IntN(n)]
		if !a.suspected() && !b.suspected() {
			if b.inFlight() < a.inFlight() {
				return b
			}
			return a
		}
	}
	var best, last choice
	for _, tg := range rt.targets {
		switch {
		case contains(tried, tg):
		case tg.suspected():
			last.offer(tg)
		default:
			best.offer(tg)
		}
	}
	if best.target == nil {
		return last.target
	}
	return best.target
}

// choice keeps the target with the fewest requests of those offered; among equals each is as
// likely as any other.
type choice struct {
	target *target
	load   int
	equals int
}

func (c *choice) offer(tg *target) {
	load := tg.inFlight()
	switch {
	case c.target == nil || load < c.load:
		*c = choice{tg, load, 1}
	case load == c.load:
		if c.equals++; rand.IntN(c.equals) == 0 {
			c.target = tg
		}
	}
}

func contains(list []*target, tg *target) bool {
	for _, t := range list {
		if t == tg {
			return true
		}
	}
	return false
}

package dns

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/miekg/dns"
	"golang.org/x/net/publicsuffix"
	"golang.org/x/sync/errgroup"
)

// Times of answers, in seconds, and of questions to others.
const (
	ttl         = 2
	negativeTTL = 1
	udpSizeMax  = 1232 // fits every path (DNS flag day 2020)
)

// Server answers on one address.
type Server struct {
	addr      string // host:port
	zone      string // fully qualified, lower case
	inside    []netip.Prefix
	upstreams upstreams
	table     atomic.Pointer[table] // nil before the first Set
}

// New returns a server for names below domain, for example "dev.local". Questions for other
// names go to the machine's name servers. Until Set is called it says that it cannot answer,
// which is not the same as that a name does not exist.
func New(addr, domain string) *Server {
	return &Server{addr: addr, zone: dns.Fqdn(strings.ToLower(domain)), upstreams: upstreams{file: "/etc/resolv.conf", self: addr}}
}

// Inside makes the server refuse whoever asks from elsewhere than these networks and the loopback,
// and know the names of their addresses, which no other server is asked for. To be called before
// Run. Without it everybody is answered.
func (s *Server) Inside(networks ...netip.Prefix) { s.inside = networks }

// Set replaces the table: "service.app" to addresses, in order. Those with a port that the process
// listens on are answered as SRV records as well; a port of 0 is none.
func (s *Server) Set(names map[string][]netip.AddrPort) { s.table.Store(newTable(names)) }

// Run serves until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, network := range []string{"udp", "tcp"} {
		server := &dns.Server{Addr: s.addr, Net: network, Handler: dns.HandlerFunc(s.handle)}
		group.Go(func() error {
			if err := server.ListenAndServe(); err != nil && ctx.Err() == nil {
				return fmt.Errorf("answer names on %s/%s: %w", s.addr, network, err)
			}
			return nil
		})
		group.Go(func() error {
			<-ctx.Done()
			// One that never began to listen needs no end.
			_ = server.Shutdown()
			return nil
		})
	}
	if err := group.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

func (s *Server) handle(w dns.ResponseWriter, q *dns.Msg) {
	m := s.refuse(w.RemoteAddr(), q)
	if m == nil {
		m = s.answer(q)
	}
	if m == nil {
		m = s.upstreams.ask(q, w.LocalAddr().Network())
	}
	if w.LocalAddr().Network() == "udp" {
		size := dns.MinMsgSize
		if opt := q.IsEdns0(); opt != nil {
			size = min(int(opt.UDPSize()), udpSizeMax)
		}
		m.Truncate(max(size, dns.MinMsgSize))
	}
	// A client that does not wait for its answer loses it.
	_ = w.WriteMsg(m)
}

// refuse answers who asks from outside; nil for others.
func (s *Server) refuse(from net.Addr, q *dns.Msg) *dns.Msg {
	if s.inside == nil {
		return nil
	}
	at, err := netip.ParseAddrPort(from.String())
	who := at.Addr().Unmap()
	if err == nil && (who.IsLoopback() || s.isInside(who)) {
		return nil
	}
	return new(dns.Msg).SetRcode(q, dns.RcodeRefused)
}

func (s *Server) isInside(a netip.Addr) bool {
	return slices.ContainsFunc(s.inside, func(p netip.Prefix) bool { return p.Contains(a) })
}

// reverse answers what the name of an address is; nil where that is for others to say.
func (s *Server) reverse(q *dns.Msg, t *table, addr netip.Addr) *dns.Msg {
	name := q.Question[0].Name
	owner, known := "", false
	if t != nil {
		owner, known = t.owners[addr]
	}
	switch {
	case !known && !s.isInside(addr):
		return nil
	case t == nil:
		return new(dns.Msg).SetRcode(q, dns.RcodeServerFailure)
	}
	m := new(dns.Msg).SetReply(q)
	m.Authoritative = true
	if kind := q.Question[0].Qtype; known && (kind == dns.TypePTR || kind == dns.TypeANY) {
		m.Answer = []dns.RR{&dns.PTR{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypePTR, Class: dns.ClassINET, Ttl: ttl}, Ptr: owner + "." + s.zone}}
		return m
	}
	if !known {
		m.Rcode = dns.RcodeNameError
	}
	m.Ns = []dns.RR{s.soa("in-addr.arpa.")}
	return m
}

// reversed reads the address that a name of in-addr.arpa asks for.
func reversed(name string) (addr netip.Addr, ok bool) {
	rest, ok := strings.CutSuffix(name, ".in-addr.arpa.")
	parts := strings.Split(rest, ".")
	if !ok || len(parts) != 4 {
		return addr, false
	}
	slices.Reverse(parts)
	addr, err := netip.ParseAddr(strings.Join(parts, "."))
	return addr, err == nil
}

// answer answers what is below the zone, and names of the table that can be none of the outside;
// nil for anything else. A name that exists, or below which one does, has no records but those it
// has: that is an empty answer and not the absence of the name.
func (s *Server) answer(q *dns.Msg) *dns.Msg {
	if len(q.Question) != 1 {
		return new(dns.Msg).SetRcode(q, dns.RcodeFormatError)
	}
	name := strings.ToLower(q.Question[0].Name)
	t := s.table.Load()
	if addr, ok := reversed(name); ok {
		return s.reverse(q, t, addr)
	}
	below := name == s.zone || strings.HasSuffix(name, "."+s.zone)
	key := strings.TrimSuffix(strings.TrimSuffix(name, s.zone), ".")
	switch {
	case t == nil && below:
		return new(dns.Msg).SetRcode(q, dns.RcodeServerFailure)
	case !below && (t == nil || !t.has(key) || public(name)):
		return nil
	}
	m := new(dns.Msg).SetReply(q)
	m.Authoritative = true
	if q.IsEdns0() != nil {
		m.SetEdns0(udpSizeMax, false)
	}
	kind := q.Question[0].Qtype
	if kind == dns.TypeA || kind == dns.TypeANY {
		m.Answer = addresses(q.Question[0].Name, t.addresses(key))
	}
	if kind == dns.TypeSRV || kind == dns.TypeANY {
		s.addPorts(m, q.Question[0].Name, t.ports[key])
	}
	switch {
	case name == s.zone && (kind == dns.TypeSOA || kind == dns.TypeANY):
		m.Answer = append(m.Answer, s.soa(s.zone))
	case name != s.zone && !t.has(key) && !t.parents[key]:
		m.Rcode = dns.RcodeNameError
	}
	if len(m.Answer) == 0 {
		m.Ns = []dns.RR{s.soa(s.zone)}
	}
	return m
}

// soa is what bounds how long the absence of something below a name is remembered.
func (s *Server) soa(name string) dns.RR {
	return &dns.SOA{
		Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: negativeTTL},
		Ns:  "ns." + s.zone, Mbox: "root." + s.zone, Serial: 1, Refresh: 60, Retry: 10, Expire: 600, Minttl: negativeTTL,
	}
}

// addresses are the records of a name, in an order that differs each time.
func addresses(name string, ips []net.IP) (out []dns.RR) {
	for _, i := range rand.Perm(len(ips)) {
		out = append(out, &dns.A{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: ttl}, A: ips[i]})
	}
	return out
}

// addPorts answers with ports, and says the addresses of their names along, so that nobody has to
// ask again.
func (s *Server) addPorts(m *dns.Msg, name string, ports []port) {
	for _, i := range rand.Perm(len(ports)) {
		target := ports[i].target + "." + s.zone
		m.Answer = append(m.Answer, &dns.SRV{
			Hdr:    dns.RR_Header{Name: name, Rrtype: dns.TypeSRV, Class: dns.ClassINET, Ttl: ttl},
			Weight: 1, Port: ports[i].number, Target: target,
		})
		m.Extra = append(m.Extra, addresses(target, []net.IP{ports[i].ip})...)
	}
}

// public reports whether a name ends in a top-level domain of the outside. An app may be called
// "com"; its names must not take the place of others.
func public(name string) bool {
	_, icann := publicsuffix.PublicSuffix(strings.TrimSuffix(name, "."))
	return icann
}

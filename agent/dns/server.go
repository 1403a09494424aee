package dns

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
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
	upstreams upstreams
	table     atomic.Pointer[map[string][]net.IP] // "service.app" → addresses; nil before the first Set
}

// New returns a server for names below domain, for example "dev.local". Questions for other
// names go to the machine's name servers. Until Set is called it says that it cannot answer,
// which is not the same as that a name does not exist.
func New(addr, domain string) *Server {
	return &Server{addr: addr, zone: dns.Fqdn(strings.ToLower(domain)), upstreams: upstreams{file: "/etc/resolv.conf", self: addr}}
}

// Set replaces the table: "service.app" to addresses.
func (s *Server) Set(names map[string][]string) {
	t := make(map[string][]net.IP, len(names))
	for name, addrs := range names {
		for _, a := range addrs {
			if ip := net.ParseIP(a).To4(); ip != nil {
				t[name] = append(t[name], ip)
			}
		}
	}
	s.table.Store(&t)
}

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
	m := s.answer(q)
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

// answer answers what is below the zone, and "service.app" where that can be no name of the
// outside; nil for anything else. A name that exists has no address but those of type A, which
// is an empty answer and not the absence of the name.
func (s *Server) answer(q *dns.Msg) *dns.Msg {
	if len(q.Question) != 1 {
		return new(dns.Msg).SetRcode(q, dns.RcodeFormatError)
	}
	name := strings.ToLower(q.Question[0].Name)
	table := s.table.Load()
	below := name == s.zone || strings.HasSuffix(name, "."+s.zone)
	switch {
	case table == nil && below:
		return new(dns.Msg).SetRcode(q, dns.RcodeServerFailure)
	case !below && (table == nil || len((*table)[strings.TrimSuffix(name, ".")]) == 0 || public(name)):
		return nil
	}
	m := new(dns.Msg).SetReply(q)
	m.Authoritative = true
	if q.IsEdns0() != nil {
		m.SetEdns0(udpSizeMax, false)
	}
	ips := (*table)[strings.TrimSuffix(strings.TrimSuffix(name, s.zone), ".")]
	switch {
	case len(ips) == 0 && name != s.zone:
		m.Rcode = dns.RcodeNameError
	case q.Question[0].Qtype == dns.TypeA || q.Question[0].Qtype == dns.TypeANY:
		for _, i := range rand.Perm(len(ips)) {
			m.Answer = append(m.Answer, &dns.A{
				Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: ttl}, A: ips[i],
			})
		}
	}
	if len(m.Answer) == 0 {
		m.Ns = []dns.RR{&dns.SOA{
			Hdr: dns.RR_Header{Name: s.zone, Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: negativeTTL},
			Ns:  "ns." + s.zone, Mbox: "root." + s.zone, Serial: 1, Refresh: 60, Retry: 10, Expire: 600, Minttl: negativeTTL,
		}}
	}
	return m
}

// public reports whether a name ends in a top-level domain of the outside. An app may be called
// "com"; its names must not take the place of others.
func public(name string) bool {
	_, icann := publicsuffix.PublicSuffix(strings.TrimSuffix(name, "."))
	return icann
}

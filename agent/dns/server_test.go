package dns

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// at reads addresses, some with ports.
func at(texts ...string) (out []netip.AddrPort) {
	for _, s := range texts {
		e, err := netip.ParseAddrPort(s)
		if err != nil {
			e = netip.AddrPortFrom(netip.MustParseAddr(s), 0)
		}
		out = append(out, e)
	}
	return out
}

func TestAnswers(t *testing.T) {
	s := New("127.0.0.1:0", "dev.local")
	ask := func(name string, qtype uint16) *dns.Msg { return s.answer(new(dns.Msg).SetQuestion(name, qtype)) }
	if m := ask("web.shop.dev.local.", dns.TypeA); m == nil || m.Rcode != dns.RcodeServerFailure {
		t.Errorf("before the first table: %v, want a failure and not the absence of the name", m)
	}
	if m := ask("web.stall.", dns.TypeA); m != nil {
		t.Errorf("before the first table a foreign name was answered: %v", m)
	}
	s.Set(map[string][]netip.AddrPort{"web.shop": at("10.88.0.2", "10.88.0.3"), "web.stall": at("10.88.0.4", "10.88.0.4:80"), "example.com": at("10.88.0.5"), "none.stall": at("fd00::1"), "nodot": at("10.88.0.9"),
		"api.shop": at("10.88.0.6", "10.88.0.6:8080", "10.88.0.7:8080", "10.88.0.7:9090")})
	for _, c := range []struct {
		name    string
		qtype   uint16
		rcode   int
		answers int
	}{
		{"web.shop.dev.local.", dns.TypeA, dns.RcodeSuccess, 2},
		{"WEB.shop.dev.local.", dns.TypeA, dns.RcodeSuccess, 2},
		{"web.shop.dev.local.", dns.TypeAAAA, dns.RcodeSuccess, 0},
		{"web.shop.dev.local.", dns.TypeSRV, dns.RcodeSuccess, 0},
		{"dev.local.", dns.TypeA, dns.RcodeSuccess, 0},
		{"dev.local.", dns.TypeSOA, dns.RcodeSuccess, 1},
		{"shop.dev.local.", dns.TypeA, dns.RcodeSuccess, 0}, // there are names below it
		{"_tcp.shop.dev.local.", dns.TypeSRV, dns.RcodeSuccess, 0},
		{"api.shop.dev.local.", dns.TypeA, dns.RcodeSuccess, 2},
		{"_api._tcp.shop.dev.local.", dns.TypeSRV, dns.RcodeSuccess, 3},
		{"_API._tcp.shop.dev.local.", dns.TypeANY, dns.RcodeSuccess, 3},
		{"_api._tcp.shop.dev.local.", dns.TypeA, dns.RcodeSuccess, 0},
		{"_api._udp.shop.dev.local.", dns.TypeSRV, dns.RcodeNameError, 0},
		{"_web._tcp.stall.", dns.TypeSRV, dns.RcodeSuccess, 1},
		{"_web._tcp.shop.dev.local.", dns.TypeSRV, dns.RcodeNameError, 0}, // no port is known
		{"10-88-0-7.api.shop.dev.local.", dns.TypeA, dns.RcodeSuccess, 1},
		{"10-88-0-7.api.shop.dev.local.", dns.TypeAAAA, dns.RcodeSuccess, 0},
		{"10-88-0-8.api.shop.dev.local.", dns.TypeA, dns.RcodeNameError, 0},
		{"10-88-0-7.web.shop.dev.local.", dns.TypeA, dns.RcodeNameError, 0},
		{"nodot.dev.local.", dns.TypeA, dns.RcodeNameError, 0},
		{"db.shop.dev.local.", dns.TypeA, dns.RcodeNameError, 0},
		{"db.shop.dev.local.", dns.TypeAAAA, dns.RcodeNameError, 0},
		{"none.stall.dev.local.", dns.TypeA, dns.RcodeNameError, 0},
		{"web.stall.", dns.TypeA, dns.RcodeSuccess, 1},
		{"web.stall.", dns.TypeAAAA, dns.RcodeSuccess, 0},
		{"example.com.dev.local.", dns.TypeA, dns.RcodeSuccess, 1},
	} {
		m := ask(c.name, c.qtype)
		if m == nil || m.Rcode != c.rcode || len(m.Answer) != c.answers || c.answers == 0 && len(m.Ns) != 1 {
			t.Errorf("%s %s: %v", c.name, dns.TypeToString[c.qtype], m)
		}
	}
	checkTimes(t, ask)
	// An app may be called like a domain of the outside, and must not take its names.
	for _, name := range []string{"example.test.", "example.com.", "web.shop.", "xdev.local.", "local.", "other.stall."} {
		if m := ask(name, dns.TypeA); m != nil {
			t.Errorf("the foreign name %s was answered: %v", name, m)
		}
	}
	first := map[string]bool{}
	for range 100 {
		first[ask("web.shop.dev.local.", dns.TypeA).Answer[0].(*dns.A).A.String()] = true
	}
	if len(first) != 2 {
		t.Errorf("answers begin with %v only", first)
	}
}

// checkTimes looks at what answers say beside their number.
func checkTimes(t *testing.T, ask func(string, uint16) *dns.Msg) {
	t.Helper()
	for _, name := range []string{"db.shop.dev.local.", "web.shop.dev.local.", "shop.dev.local."} {
		soa, ok := ask(name, dns.TypeAAAA).Ns[0].(*dns.SOA)
		if !ok || soa.Minttl != 1 || soa.Hdr.Ttl != 1 || soa.Hdr.Name != "dev.local." {
			t.Errorf("the absence of %s is remembered by %v", name, soa)
		}
	}
	if got := ask("web.shop.dev.local.", dns.TypeA).Answer[0].Header().Ttl; got != 2 {
		t.Errorf("addresses are kept for %d s", got)
	}
	m := ask("_api._tcp.shop.dev.local.", dns.TypeSRV)
	ports := map[string]bool{}
	for i, rr := range m.Answer {
		srv, a := rr.(*dns.SRV), m.Extra[i].(*dns.A)
		ports[fmt.Sprintf("%s at %s %s:%d for %d s", srv.Target, a.Hdr.Name, a.A, srv.Port, srv.Hdr.Ttl)] = true
		if again := ask(srv.Target, dns.TypeA); len(again.Answer) != 1 || !again.Answer[0].(*dns.A).A.Equal(a.A) {
			t.Errorf("the target %s leads to %v", srv.Target, again.Answer)
		}
	}
	for _, want := range []string{"10.88.0.6:8080", "10.88.0.7:8080", "10.88.0.7:9090"} {
		host, _, _ := strings.Cut(want, ":")
		target := strings.ReplaceAll(host, ".", "-") + ".api.shop.dev.local."
		if line := fmt.Sprintf("%s at %s %s for 2 s", target, target, want); !ports[line] {
			t.Errorf("no %q in %v", line, ports)
		}
	}
}

// TestOutsideIsRefused: internal names, and help with others, are for processes only.
func TestOutsideIsRefused(t *testing.T) {
	s := New("127.0.0.1:0", "dev.local")
	s.Set(map[string][]netip.AddrPort{"web.shop": at("10.88.0.2")})
	q := new(dns.Msg).SetQuestion("web.shop.dev.local.", dns.TypeA)
	from := func(addr string) net.Addr { return net.UDPAddrFromAddrPort(netip.MustParseAddrPort(addr)) }
	if m := s.refuse(from("192.0.2.1:1000"), q); m != nil {
		t.Errorf("without a limit: %v", m)
	}
	s.Inside(netip.MustParsePrefix("10.88.1.0/24"))
	for addr, refused := range map[string]bool{"10.88.1.7:53000": false, "127.0.0.1:9": false, "[::ffff:10.88.1.7]:9": false, "10.88.2.7:53000": true, "192.0.2.1:9": true, "[fe80::1%eth0]:9": true} {
		if m := s.refuse(from(addr), q); (m != nil) != refused || refused && (m.Rcode != dns.RcodeRefused || len(m.Answer) != 0) {
			t.Errorf("from %s: %v, want refused %v", addr, m, refused)
		}
	}
}

// TestNamesOfAddresses: those of the rack are asked of nobody else.
func TestNamesOfAddresses(t *testing.T) {
	s := New("127.0.0.1:0", "dev.local")
	ask := func(name string, qtype uint16) *dns.Msg { return s.answer(new(dns.Msg).SetQuestion(name, qtype)) }
	s.Inside(netip.MustParsePrefix("10.88.0.0/16"))
	if m := ask("7.0.88.10.in-addr.arpa.", dns.TypePTR); m == nil || m.Rcode != dns.RcodeServerFailure {
		t.Errorf("before the first table: %v", m)
	}
	s.Set(map[string][]netip.AddrPort{"web.shop": at("10.77.0.1", "10.88.0.7", "10.88.0.7:80")})
	for name, want := range map[string]string{
		"7.0.88.10.in-addr.arpa.": "10-88-0-7.web.shop.dev.local.", "7.0.88.10.IN-ADDR.arpa.": "10-88-0-7.web.shop.dev.local.",
		"1.0.77.10.in-addr.arpa.": "10-77-0-1.web.shop.dev.local.", // elsewhere, and known
		"8.0.88.10.in-addr.arpa.": "", "1.2.0.192.in-addr.arpa.": "others", "0.88.10.in-addr.arpa.": "others", "x.0.88.10.in-addr.arpa.": "others",
	} {
		m := ask(name, dns.TypePTR)
		switch {
		case want == "others":
			if m != nil {
				t.Errorf("%s is for others to answer: %v", name, m)
			}
		case want == "":
			if m == nil || m.Rcode != dns.RcodeNameError || len(m.Answer) != 0 || len(m.Ns) != 1 {
				t.Errorf("%s: %v", name, m)
			}
		case m == nil || len(m.Answer) != 1 || m.Answer[0].(*dns.PTR).Ptr != want:
			t.Errorf("%s: %v, want %s", name, m, want)
		}
		if m := ask(name, dns.TypeA); want != "" && want != "others" && (m.Rcode != dns.RcodeSuccess || len(m.Answer) != 0 || len(m.Ns) != 1) {
			t.Errorf("an address of %s: %v", name, m)
		}
	}
}

// nameServer answers every question with one address on a port of its own.
func nameServer(t *testing.T, answer string) (addr string, asked func() int) {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	questions := make(chan struct{}, 1000)
	server := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		questions <- struct{}{}
		if answer == "" {
			return
		}
		m := new(dns.Msg).SetReply(q)
		m.Answer = append(m.Answer, &dns.A{
			Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 1}, A: net.ParseIP(answer).To4(),
		})
		w.WriteMsg(m)
	})}
	go server.ActivateAndServe()
	t.Cleanup(func() { server.Shutdown() })
	return conn.LocalAddr().String(), func() int { return len(questions) }
}

// TestForwards asks the machine's name servers. One that is silent does not use up the second that
// a process waits, and is asked last from then on.
func TestForwards(t *testing.T) {
	silent, asked := nameServer(t, "")
	good, _ := nameServer(t, "192.0.2.7")
	s := New("127.0.0.1:0", "dev.local")
	s.upstreams.addrs = []string{silent, good}
	s.upstreams.file = filepath.Join(t.TempDir(), "none")
	for i := range 3 {
		begin := time.Now()
		m := s.upstreams.ask(new(dns.Msg).SetQuestion("example.com.", dns.TypeA), "udp")
		if took := time.Since(begin); len(m.Answer) != 1 || took >= forwardWait || asked() > 1 {
			t.Errorf("question %d: %v after %s, the silent one was asked %d times", i, m, took, asked())
		}
	}
	s.upstreams.addrs = nil
	if m := s.upstreams.ask(new(dns.Msg).SetQuestion("example.com.", dns.TypeA), "udp"); m.Rcode != dns.RcodeServerFailure {
		t.Errorf("nobody to ask: %v", m)
	}
	s.upstreams.waiting = waitingMax
	if m := s.upstreams.ask(new(dns.Msg).SetQuestion("example.com.", dns.TypeA), "udp"); m.Rcode != dns.RcodeRefused {
		t.Errorf("too many questions: %v", m)
	}
}

// TestUpstreamsFollowTheFile reads the machine's name servers again when they have changed.
func TestUpstreamsFollowTheFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "resolv.conf")
	u := upstreams{file: file, self: "10.88.0.1:53"}
	write := func(text string, at time.Time) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(file, at, at); err != nil {
			t.Fatal(err)
		}
	}
	if got := u.list(); len(got) != 0 {
		t.Errorf("without a file: %q", got)
	}
	begin := time.Now().Add(-time.Hour)
	write("nameserver 192.0.2.1\nnameserver 10.88.0.1\nnameserver 192.0.2.2\n", begin)
	if got := u.list(); !slices.Equal(got, []string{"192.0.2.1:53", "192.0.2.2:53"}) {
		t.Errorf("got %q", got)
	}
	u.prefer("192.0.2.2:53")
	if got := u.list(); !slices.Equal(got, []string{"192.0.2.2:53", "192.0.2.1:53"}) {
		t.Errorf("after an answer of the second: %q", got)
	}
	write("nameserver 192.0.2.3\n", begin.Add(time.Second))
	if got := u.list(); !slices.Equal(got, []string{"192.0.2.3:53"}) {
		t.Errorf("after a change: %q", got)
	}
}

// TestServes asks over sockets, as processes do: small answers over UDP, all of them over TCP.
func TestServes(t *testing.T) {
	// An address of loopback that nobody else draws: there is no way to find a port that is free
	// for UDP and TCP at once.
	addr, zone := fmt.Sprintf("127.%d.%d.%d:5300", 100+rand.IntN(100), rand.IntN(250), 2+rand.IntN(250)), "dev.local"
	s := New(addr, zone)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	many := map[string][]netip.AddrPort{"web.shop": at("10.88.0.2")}
	for i := range 200 {
		many["many.shop"] = append(many["many.shop"], at(fmt.Sprintf("10.88.1.%d", i))...)
	}
	s.Set(many)
	ask := func(network, name string, edns bool) *dns.Msg {
		t.Helper()
		q := new(dns.Msg).SetQuestion(name, dns.TypeA)
		if edns {
			q.SetEdns0(1232, false)
		}
		var err error
		for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
			var m *dns.Msg
			if m, _, err = (&dns.Client{Net: network, Timeout: time.Second}).Exchange(q, addr); err == nil {
				return m
			}
		}
		t.Fatal(err)
		return nil
	}
	for _, network := range []string{"udp", "tcp"} {
		if m := ask(network, "web.shop.dev.local.", true); len(m.Answer) != 1 || m.IsEdns0() == nil || !m.Authoritative {
			t.Errorf("%s: %v", network, m)
		}
	}
	if m := ask("udp", "many.shop.dev.local.", false); !m.Truncated || len(m.Answer) > 31 { // 16 bytes each, of 512
		t.Errorf("a large answer over UDP: %d addresses, truncated %v", len(m.Answer), m.Truncated)
	}
	if m := ask("tcp", "many.shop.dev.local.", false); len(m.Answer) != 200 || m.Truncated {
		t.Errorf("a large answer over TCP: %d addresses, truncated %v", len(m.Answer), m.Truncated)
	}
	// The Go resolver, led by the lines that processes get.
	r := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, addr)
	}}
	if got, err := r.LookupHost(t.Context(), "web.shop."+zone); err != nil || strings.Join(got, " ") != "10.88.0.2" {
		t.Errorf("%q %v", got, err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

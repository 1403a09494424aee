package dns

import (
	"testing"

	"github.com/miekg/dns"
)

func TestAnswers(t *testing.T) {
	s, err := New("127.0.0.1:0", "dev.local")
	if err != nil {
		t.Fatal(err)
	}
	s.Set(map[string][]string{"web.shop": {"10.88.0.2", "10.88.0.3"}})
	for _, c := range []struct {
		name    string
		qtype   uint16
		rcode   int
		answers int
	}{
		{"web.shop.dev.local.", dns.TypeA, dns.RcodeSuccess, 2},
		{"WEB.shop.dev.local.", dns.TypeA, dns.RcodeSuccess, 2},
		{"web.shop.dev.local.", dns.TypeAAAA, dns.RcodeSuccess, 0},
		{"db.shop.dev.local.", dns.TypeA, dns.RcodeNameError, 0},
	} {
		m := s.answer(new(dns.Msg).SetQuestion(c.name, c.qtype))
		if m == nil || m.Rcode != c.rcode || len(m.Answer) != c.answers || c.answers == 0 && len(m.Ns) != 1 {
			t.Errorf("%s %s: %v", c.name, dns.TypeToString[c.qtype], m)
		}
	}
	if m := s.answer(new(dns.Msg).SetQuestion("example.test.", dns.TypeA)); m != nil {
		t.Errorf("a foreign name was answered: %v", m)
	}
}

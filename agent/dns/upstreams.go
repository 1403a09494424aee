package dns

import (
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// How long a name server of the machine may take. A process gives up after a second, so that
// one that is silent must not take all of it.
const (
	forwardSoon = 600 * time.Millisecond
	forwardWait = 2 * time.Second // the last one
	// waitingMax bounds the questions that wait for other name servers; more are refused, so
	// that a process that asks without end costs the node little.
	waitingMax = 512
)

// upstreams are the name servers of the machine. The file that names them is read again when it
// has changed: a laptop moves between networks.
type upstreams struct {
	file string
	self string // an address that is not asked, for it is the server's own

	mu       sync.Mutex
	modified time.Time
	addrs    []string // the one that answered last comes first
	waiting  int
}

// enter counts a question that waits; false if too many do.
func (u *upstreams) enter() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.waiting >= waitingMax {
		return false
	}
	u.waiting++
	return true
}

func (u *upstreams) leave() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.waiting--
}

// list returns the addresses to ask, in order; none where the file cannot be read. A machine
// without name servers can still resolve its own names.
func (u *upstreams) list() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	info, err := os.Stat(u.file)
	if err != nil || info.ModTime().Equal(u.modified) {
		return u.addrs
	}
	conf, err := dns.ClientConfigFromFile(u.file)
	if err != nil {
		return u.addrs
	}
	u.modified, u.addrs = info.ModTime(), nil
	for _, host := range conf.Servers {
		if addr := net.JoinHostPort(host, conf.Port); addr != u.self {
			u.addrs = append(u.addrs, addr)
		}
	}
	return u.addrs
}

// prefer has an address asked first from now on.
func (u *upstreams) prefer(addr string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	i := slices.Index(u.addrs, addr)
	if i > 0 {
		next := slices.Delete(slices.Clone(u.addrs), i, i+1)
		u.addrs = slices.Insert(next, 0, addr)
	}
}

// ask passes a question on, to one name server after the other.
func (u *upstreams) ask(q *dns.Msg, network string) *dns.Msg {
	if !u.enter() {
		return new(dns.Msg).SetRcode(q, dns.RcodeRefused)
	}
	defer u.leave()
	list := u.list()
	for i, addr := range list {
		client := &dns.Client{Net: network, Timeout: forwardSoon}
		if i == len(list)-1 {
			client.Timeout = forwardWait
		}
		if m, _, err := client.Exchange(q, addr); err == nil {
			u.prefer(addr)
			return m
		}
	}
	return new(dns.Msg).SetRcode(q, dns.RcodeServerFailure)
}

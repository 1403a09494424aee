package chaos

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// Of the faults, in virtual time.
const (
	holdMin, holdMax = 50 * time.Millisecond, 4 * time.Second
	// gapMin and gapMax bound the time from one fault to the next, on average; each seed draws
	// its own, so that some racks have several at a time and some come to rest in between.
	gapMin, gapMax = 300 * time.Millisecond, 4 * time.Second
	// delayMax is how late a message may be: longer than an election takes.
	delayMax = 3 * time.Second
)

// a fault begins something bad and returns what ends it.
type fault struct {
	name   string
	weight int
	begin  func(*nemesis) (end func() error, err error)
}

func faults() []fault {
	return []fault{
		{"kill", 6, func(n *nemesis) (func() error, error) {
			return n.down(n.victims(1), func(s *server) error { return s.kill(nil) })
		}},
		{"kill, torn log", 4, func(n *nemesis) (func() error, error) {
			return n.down(n.victims(1), func(s *server) error { return s.kill(n.rand) })
		}},
		{"kill two", 2, func(n *nemesis) (func() error, error) {
			return n.down(n.victims(2), func(s *server) error { return s.kill(n.rand) })
		}},
		{"kill all", 1, func(n *nemesis) (func() error, error) {
			return n.down(n.victims(len(n.rack.servers)), func(s *server) error { return s.kill(n.rand) })
		}},
		{"replace", 2, (*nemesis).replace},
		{"resign", 2, (*nemesis).resign},
		{"stop", 2, func(n *nemesis) (func() error, error) { return n.down(n.victims(1), (*server).stop) }},
		{"pause", 5, func(n *nemesis) (func() error, error) { return n.paused(n.victims(1)) }},
		{"pause two", 1, func(n *nemesis) (func() error, error) { return n.paused(n.victims(2)) }},
		{"cut", 3, (*nemesis).cut},
		{"cut one way", 5, func(n *nemesis) (func() error, error) {
			s := n.some(2)
			return n.troubles(trouble{from: s[0].addr, to: s[1].addr, cut: true})
		}},
		{"isolate", 4, func(n *nemesis) (func() error, error) {
			s := n.some(1)[0].addr
			return n.troubles(n.between(s, trouble{from: s, cut: true}, trouble{to: s, cut: true})...)
		}},
		{"mute", 2, func(n *nemesis) (func() error, error) {
			s := n.some(1)[0].addr
			return n.troubles(n.between(s, trouble{from: s, cut: true})...)
		}},
		{"deafen", 2, func(n *nemesis) (func() error, error) {
			s := n.some(1)[0].addr
			return n.troubles(n.between(s, trouble{to: s, cut: true})...)
		}},
		{"cut answers to clients", 2, func(n *nemesis) (func() error, error) {
			return n.troubles(trouble{from: n.some(1)[0].addr, to: clients, cut: true})
		}},
		{"lose", 3, func(n *nemesis) (func() error, error) { return n.troubles(trouble{lose: 0.3 * n.rand.Float64()}) }},
		{"repeat", 3, func(n *nemesis) (func() error, error) {
			return n.troubles(trouble{repeat: 0.5, delay: 50 * time.Millisecond})
		}},
		{"delay", 3, func(n *nemesis) (func() error, error) {
			return n.troubles(trouble{delay: between(n.rand, time.Millisecond, delayMax/10)})
		}},
		{"delay one way", 3, func(n *nemesis) (func() error, error) {
			s := n.some(2)
			return n.troubles(trouble{from: s[0].addr, to: s[1].addr, delay: between(n.rand, time.Millisecond, delayMax)})
		}},
	}
}

// nemesis injects faults into a rack, several at a time.
type nemesis struct {
	rack  *rack
	rand  *rand.Rand // of the goroutine that begins faults
	kinds []fault    // those of this rack, as often as they weigh
	gap   time.Duration

	mu     sync.Mutex
	busy   map[*server]bool // down, paused, or on the way
	counts map[string]int
	failed error

	replacing atomic.Bool // a server is being replaced
}

func newNemesis(r *rack) *nemesis {
	n := &nemesis{rack: r, rand: r.fork(), busy: map[*server]bool{}, counts: map[string]int{}}
	n.gap = between(n.rand, gapMin, gapMax)
	for len(n.kinds) == 0 {
		for _, f := range faults() {
			if n.rand.IntN(3) == 0 {
				continue // a rack with fewer kinds of faults gets further with them
			}
			for range f.weight {
				n.kinds = append(n.kinds, f)
			}
		}
	}
	return n
}

// rage injects n faults and ends them all.
func (n *nemesis) rage(count int) error {
	var ends sync.WaitGroup
	for done := 0; done < count && n.failure() == nil; {
		f := pick(n.rand, n.kinds)
		end, err := f.begin(n)
		n.fail(err)
		if end == nil {
			time.Sleep(n.gap / 10) // virtual time; every server is busy
			continue
		}
		done++
		n.mu.Lock()
		n.counts[f.name]++
		n.mu.Unlock()
		hold := between(n.rand, holdMin, holdMax)
		ends.Go(func() {
			time.Sleep(hold) // virtual time
			n.fail(end())
		})
		time.Sleep(between(n.rand, 0, 2*n.gap)) // virtual time
	}
	ends.Wait()
	return n.failure()
}

func (n *nemesis) fail(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.failed == nil {
		n.failed = err
	}
}

func (n *nemesis) failure() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.failed
}

// some draws servers, the leader more often than others.
func (n *nemesis) some(count int) []*server {
	out := append([]*server(nil), n.rack.servers...)
	n.rand.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	if n.rand.IntN(2) == 0 {
		for i, s := range out {
			if s.leads() {
				out[0], out[i] = out[i], out[0]
			}
		}
	}
	return out[:count]
}

// victims takes servers that nothing has happened to; none if there are not so many.
func (n *nemesis) victims(count int) []*server {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []*server
	for _, s := range n.some(len(n.rack.servers)) {
		if !n.busy[s] && len(out) < count {
			out = append(out, s)
		}
	}
	if len(out) < count {
		return nil
	}
	for _, s := range out {
		n.busy[s] = true
	}
	return out
}

// release gives servers back.
func (n *nemesis) release(servers []*server) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, s := range servers {
		n.busy[s] = false
	}
}

// down takes servers down; they start again at the end.
func (n *nemesis) down(servers []*server, how func(*server) error) (func() error, error) {
	if servers == nil {
		return nil, nil
	}
	for _, s := range servers {
		if err := how(s); err != nil {
			return nil, err
		}
	}
	return func() error {
		defer n.release(servers)
		for _, s := range servers {
			if err := s.start(); err != nil {
				return err
			}
		}
		return nil
	}, nil
}

func (n *nemesis) paused(servers []*server) (func() error, error) {
	if servers == nil {
		return nil, nil
	}
	for _, s := range servers {
		s.pause()
	}
	return func() error {
		defer n.release(servers)
		for _, s := range servers {
			s.resume()
		}
		return nil
	}, nil
}

func (n *nemesis) troubles(list ...trouble) (func() error, error) {
	var ends []func()
	for _, t := range list {
		ends = append(ends, n.rack.net.begin(t))
	}
	return func() error {
		for _, end := range ends {
			end()
		}
		return nil
	}, nil
}

// cut parts two servers.
func (n *nemesis) cut() (func() error, error) {
	s := n.some(2)
	return n.troubles(trouble{from: s[0].addr, to: s[1].addr, cut: true}, trouble{from: s[1].addr, to: s[0].addr, cut: true})
}

// between makes troubles with every address troubles with every server but one: clients still
// reach that one.
func (n *nemesis) between(one raft.ServerAddress, list ...trouble) []trouble {
	var out []trouble
	for _, s := range n.rack.servers {
		if s.addr == one {
			continue
		}
		for _, t := range list {
			if t.from == "" {
				t.from = s.addr
			} else {
				t.to = s.addr
			}
			out = append(out, t)
		}
	}
	return out
}

// text lists how often each fault happened.
func (n *nemesis) text() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var b strings.Builder
	for _, f := range faults() {
		if c := n.counts[f.name]; c > 0 {
			fmt.Fprintf(&b, ", %d %s", c, f.name)
		}
	}
	return strings.TrimPrefix(b.String(), ", ")
}

package chaos

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"slipway/api"
	identity "slipway/api/machine"
)

// Of the faults of real servers, in real time.
const (
	// shortMax bounds what most faults last, longMax the rest: some are over before anybody has
	// noticed, some cost elections.
	shortMax, longMax = 400 * time.Millisecond, 1500 * time.Millisecond
	// pauseOf bounds the time from one fault to the next.
	pauseOf = 400 * time.Millisecond
	// networkAtOnce is how many faults the network has at a time.
	networkAtOnce = 3
)

// saboteur injects faults into real servers: each of them may have one, and the network some.
type saboteur struct {
	of   *machines
	rand *rand.Rand // of the goroutine that begins faults

	mu     sync.Mutex
	busy   map[*machine]bool
	wired  bool // the network has faults
	counts map[string]int
	failed error
}

func newSaboteur(m *machines, r *rand.Rand) *saboteur {
	return &saboteur{of: m, rand: r, busy: map[*machine]bool{}, counts: map[string]int{}}
}

// rage injects faults and ends them all. One server is exchanged for a new one meanwhile; at the end
// the power of all goes off at once.
func (n *saboteur) rage(count int) error {
	var ends sync.WaitGroup
	enough := n.total() + count
	ends.Go(func() { n.fail(n.exchange(n.of.all[n.total()%len(n.of.all)])) })
	for n.total() < enough && n.failure() == nil && !n.of.t.Failed() {
		hold := between(n.rand, 30*time.Millisecond, shortMax)
		if n.rand.IntN(4) == 0 {
			hold = between(n.rand, shortMax, longMax)
		}
		names, end, err := n.begin(hold)
		n.fail(err)
		if end == nil {
			time.Sleep(10 * time.Millisecond) // until a fault has ended
			continue
		}
		n.count(names...)
		ends.Go(func() {
			time.Sleep(hold) // the fault lasts
			n.fail(end())
		})
		time.Sleep(between(n.rand, 0, pauseOf)) // until the next one
	}
	ends.Wait()
	if n.failure() == nil && !n.of.t.Failed() {
		n.fail(n.blackout())
	}
	return n.failure()
}

// blackout takes the power of all servers and gives it back in any order, while calls go on.
func (n *saboteur) blackout() error {
	n.count("power off all")
	for _, s := range n.of.all {
		if err := s.powerOff(); err != nil {
			return err
		}
	}
	for _, i := range n.rand.Perm(len(n.of.all)) {
		if err := n.of.all[i].powerOn(); err != nil {
			return err
		}
	}
	return nil
}

func (n *saboteur) count(names ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, name := range names {
		n.counts[name]++
	}
}

// total is how many faults there were.
func (n *saboteur) total() (sum int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range n.counts {
		sum += c
	}
	return sum
}

func (n *saboteur) fail(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.failed == nil {
		n.failed = err
	}
}

func (n *saboteur) failure() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.failed
}

func (n *saboteur) text() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []string
	for _, name := range slices.Sorted(maps.Keys(n.counts)) {
		out = append(out, fmt.Sprintf("%d %s", n.counts[name], name))
	}
	return strings.Join(out, ", ")
}

// begin begins a fault of a machine, of all, or some of the network; none where they have some.
func (n *saboteur) begin(hold time.Duration) (names []string, end func() error, err error) {
	victims := []*machine{pick(n.rand, n.of.all)}
	dice := n.rand.IntN(100)
	switch {
	case dice < 40:
		return n.network()
	case dice < 43:
		victims = n.of.all
	}
	if !n.take(victims) {
		return nil, nil, nil
	}
	name, heal, err := n.machine(victims, hold)
	if err != nil {
		n.release(victims)
		return nil, nil, err
	}
	if len(victims) > 1 {
		name += " all"
	}
	return []string{name}, func() error { defer n.release(victims); return heal() }, nil
}

// take keeps other faults from machines, false if one of them has one.
func (n *saboteur) take(victims []*machine) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, s := range victims {
		if n.busy[s] {
			return false
		}
	}
	for _, s := range victims {
		n.busy[s] = true
	}
	return true
}

func (n *saboteur) release(victims []*machine) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, s := range victims {
		n.busy[s] = false
	}
}

// machine begins a fault of some machines.
func (n *saboteur) machine(victims []*machine, hold time.Duration) (name string, end func() error, err error) {
	each := func(do func(*machine) error) error {
		for _, s := range victims {
			if err := do(s); err != nil {
				return err
			}
		}
		return nil
	}
	signal := func(sig syscall.Signal) error {
		return each(func(s *machine) error { return s.signal(sig) })
	}
	dice, apart := n.rand.IntN(20), len(victims) == 1 && victims[0].disk.image != ""
	switch {
	case dice < 6:
		return "kill", func() error { return each(func(s *machine) error { return s.start() }) }, each((*machine).kill)
	case dice < 9:
		return "power off", func() error { return each((*machine).powerOn) }, each((*machine).powerOff)
	case dice < 11 && apart:
		end, err = victims[0].disk.fill()
		return "full disk", end, err
	case dice < 14 && apart:
		end, err = victims[0].disk.stall(n.rand, hold, 100*time.Millisecond)
		return "slow disk", end, err
	case dice == 14 && apart:
		end, err = victims[0].disk.stall(n.rand, hold, hold)
		return "disk stands still", end, err
	}
	return "pause", func() error { return signal(syscall.SIGCONT) }, signal(syscall.SIGSTOP)
}

// network begins some faults of the network at once.
func (n *saboteur) network() (names []string, end func() error, err error) {
	n.mu.Lock()
	taken := n.wired
	n.wired = true
	n.mu.Unlock()
	if taken {
		return nil, nil, nil
	}
	rig := n.of.rig
	for range 1 + n.rand.IntN(networkAtOnce) {
		order := n.rand.Perm(len(n.of.all))
		name := ""
		switch n.rand.IntN(7) {
		case 0:
			name, err = "cut", rig.Cut(order[0])
		case 1:
			name, err = "lose frames", rig.Loss(order[0], float64(5+n.rand.IntN(40)))
		case 2:
			name, err = "partition", rig.Partition(order[:1], order[1:])
		case 3:
			name, err = "latency", rig.Latency(order[0], between(n.rand, time.Millisecond, 150*time.Millisecond), 20*time.Millisecond)
		default:
			name, err = "cut one way", rig.CutOneWay(order[0], order[1])
		}
		names = append(names, name)
		if err != nil {
			break
		}
	}
	return names, func() error {
		defer func() { n.mu.Lock(); n.wired = false; n.mu.Unlock() }()
		return rig.HealAll()
	}, err
}

// exchange takes a server away for good, with its disk, and has a new one join in its place. The
// rack must have three voters when it begins.
func (n *saboteur) exchange(s *machine) error {
	for !n.take([]*machine{s}) {
		time.Sleep(10 * time.Millisecond) // until a fault has ended
	}
	defer n.release([]*machine{s})
	n.count("server removed")
	if err := s.kill(); err != nil {
		return err
	}
	if err := n.of.remove(s); err != nil {
		return err
	}
	if err := s.empty(); err != nil {
		return err
	}
	n.count("server added")
	return s.join()
}

// remove ends the membership of a server that is gone.
func (m *machines) remove(s *machine) error {
	c := m.client(0)
	defer c.Close()
	return m.insist("remove "+s.host.Name(), func(ctx context.Context) error {
		list, err := c.Servers(ctx)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(list, func(l api.Server) bool { return l.Addr == s.addr() })
		if i < 0 {
			return nil
		}
		return c.RemoveServer(ctx, list[i].ID)
	})
}

// insist tries something until it is done.
func (m *machines) insist(what string, try func(context.Context) error) error {
	var err error
	for deadline := time.Now().Add(settleMax); time.Now().Before(deadline) && !m.t.Failed(); {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		err = try(ctx)
		cancel()
		if err == nil {
			return nil
		}
		time.Sleep(50 * time.Millisecond) // polls, does not order anything
	}
	return fmt.Errorf("%s: not within %s: %w\n%s", what, settleMax, err, m.picture())
}

// empty takes away what the server has on its disk.
func (s *machine) empty() error {
	old := s.path("")
	s.mu.Lock()
	s.lives++
	s.mu.Unlock()
	return os.RemoveAll(old)
}

// join starts a server with an empty directory until the rack has taken it in.
func (s *machine) join() error {
	s.joining(true)
	defer s.joining(false)
	c := s.of.client(0)
	defer c.Close()
	return s.of.insist("join "+s.host.Name(), func(ctx context.Context) error {
		if !s.runs() {
			if err := s.start(s.of.joining(s)...); err != nil {
				return err
			}
		}
		self, err := identity.Open(s.path("machine"))
		if err != nil {
			return err
		}
		list, err := c.Servers(ctx)
		if err == nil && !slices.ContainsFunc(list, func(l api.Server) bool { return l.ID == self.Name().ID }) {
			err = fmt.Errorf("it is not a member of %+v", list)
		}
		return err
	})
}

func (s *machine) joining(joins bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.joins = joins
}

func (s *machine) runs() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.program != nil
}

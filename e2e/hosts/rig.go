package hosts

import (
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"slipway/api"
)

// Addresses of a rig's /24: host i has firstAddr+i, the uplink has uplinkAddr.
const (
	firstAddr  = 10
	uplinkAddr = 254
	hostsMax   = uplinkAddr - firstAddr
)

// Config is what a Rig is made of.
type Config struct {
	// Dir holds the rig's state and the disks of its hosts. All names that the machine sees are
	// derived from its absolute path, so that two rigs never meet.
	Dir string
	// Hosts is how many there are: 1 to 244. 0 means as many as there are Names.
	Hosts int
	// Names of the hosts, in their order; h0, h1, … where there are none.
	Names []string
	// Subnet is a /24 for the hosts. The zero value finds one below 10.64.0.0/12 that the machine
	// has no route to.
	Subnet netip.Prefix
	// Bound rigs end with the program that made them, however it ends, and their hosts with the
	// program that switched them on, as long as that keeps its Rig: what a test needs that may
	// be killed. Empty control groups are all that such an end leaves.
	Bound bool
}

// Rig is a number of hosts on one switch. Its methods may be called from several goroutines, and
// from several processes that opened the same directory.
type Rig struct {
	dir    string
	hosts  []*Host
	relays relays

	mu      sync.Mutex
	leashes map[string]io.Closer // of a bound rig: who lets go of one ends the host
}

// New makes a rig of hosts that are switched on and see one another. Disks of an earlier rig in
// the same directory stay. It fails with api.CodeConflict where a rig runs in the directory, and
// leaves nothing behind when it fails.
func New(cfg Config) (*Rig, error) {
	if os.Geteuid() != 0 {
		return nil, api.Errorf(api.CodeDenied, "hosts: namespaces need root; run this as root")
	}
	s, err := cfg.plan()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(s.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("hosts: %w", err)
	}
	r := &Rig{dir: s.Dir}
	unlock, err := r.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	old, err := load(r.dir)
	if err == nil && old.running() {
		return nil, api.Errorf(api.CodeConflict, "hosts: a rig runs in %s; close it first, or open it", r.dir)
	}
	if err == nil { // what was left by one that ended with the machine, or was killed
		err = old.teardown()
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	s.leash = r.leash
	if err := s.build(); err != nil {
		return nil, errors.Join(err, s.teardown())
	}
	r.know(s)
	return r, nil
}

// Open finds the rig that New made in a directory, in this process or another.
func Open(dir string) (*Rig, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("hosts: directory %s: %w", dir, err)
	}
	s, err := load(abs)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, api.Errorf(api.CodeNotFound, "hosts: there is no rig in %s", abs)
	}
	if err != nil {
		return nil, err
	}
	r := &Rig{dir: abs}
	r.know(s)
	return r, nil
}

// know fills in what never changes.
func (r *Rig) know(s *state) {
	r.relays.id = uuid()
	for i, h := range s.Hosts {
		r.hosts = append(r.hosts, &Host{rig: r, index: i, name: h.Name, addr: h.Addr, cgroup: s.cgroup(i)})
	}
}

// leash keeps what a host of a bound rig lives by; that of its last life is let go.
func (r *Rig) leash(name string, c io.Closer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if old := r.leashes[name]; old != nil {
		old.Close()
	}
	if r.leashes == nil {
		r.leashes = map[string]io.Closer{}
	}
	r.leashes[name] = c
}

// letGo ends what lives by this Rig.
func (r *Rig) letGo() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.leashes {
		c.Close()
	}
	r.leashes = nil
}

// plan checks the configuration and fills in what it leaves open.
func (cfg Config) plan() (*state, error) {
	n := cfg.Hosts
	if n == 0 {
		n = len(cfg.Names)
	}
	if n < 1 || n > hostsMax || len(cfg.Names) > 0 && len(cfg.Names) != n {
		return nil, api.Errorf(api.CodeInvalid, "hosts: %d hosts with %d names; give 1 to %d hosts, and a name to each or to none", cfg.Hosts, len(cfg.Names), hostsMax)
	}
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil || cfg.Dir == "" {
		return nil, api.Errorf(api.CodeInvalid, "hosts: directory %q; name one for the rig: %w", cfg.Dir, err)
	}
	for _, own := range []string{"/run", "/sys", "/proc"} {
		if dir == own || strings.HasPrefix(dir, own+"/") {
			return nil, api.Errorf(api.CodeInvalid, "hosts: directory %s: each host has its own %s; choose another", dir, own)
		}
	}
	sum := fnv.New32a()
	sum.Write([]byte(dir))
	s := &state{Dir: dir, Tag: fmt.Sprintf("%08x", sum.Sum32()), Subnet: cfg.Subnet.Masked(), Bound: cfg.Bound}
	if !cfg.Subnet.IsValid() {
		if s.Subnet, err = freeSubnet(sum.Sum32()); err != nil {
			return nil, err
		}
	}
	if s.Subnet.Bits() != 24 || !s.Subnet.Addr().Is4() {
		return nil, api.Errorf(api.CodeInvalid, "hosts: subnet %s; give an IPv4 /24", s.Subnet)
	}
	seen := map[string]bool{}
	for i := range n {
		name := fmt.Sprintf("h%d", i)
		if len(cfg.Names) > 0 {
			name = cfg.Names[i]
		}
		if err := api.CheckName("host", name); err != nil {
			return nil, fmt.Errorf("hosts: %w", err)
		}
		if seen[name] {
			return nil, api.Errorf(api.CodeInvalid, "hosts: two hosts are called %s; name each once", name)
		}
		seen[name] = true
		s.Hosts = append(s.Hosts, hostState{Name: name, Addr: s.addr(firstAddr + i)})
	}
	return s, nil
}

// freeSubnet is the first /24 of 10.64.0.0/12, from where seed points to, that the machine has
// no route to.
func freeSubnet(seed uint32) (netip.Prefix, error) {
	routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("hosts: list routes: %w", err)
	}
	const blocks = 1 << (24 - 12)
	for i := range uint32(blocks) {
		block := (seed + i) % blocks
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(64 + block/256), byte(block % 256), 0}), 24)
		if !routed(routes, p) {
			return p, nil
		}
	}
	return netip.Prefix{}, api.Errorf(api.CodeExhausted, "hosts: the machine has routes to all of 10.64.0.0/12; choose a Subnet")
}

// routed reports whether a route other than the default one leads into a subnet.
func routed(routes []netlink.Route, p netip.Prefix) bool {
	for _, r := range routes {
		if r.Dst == nil {
			continue
		}
		ones, _ := r.Dst.Mask.Size()
		if ip, ok := netip.AddrFromSlice(r.Dst.IP.To4()); ok && ones > 0 && netip.PrefixFrom(ip, ones).Overlaps(p) {
			return true
		}
	}
	return false
}

// Len is how many hosts there are.
func (r *Rig) Len() int { return len(r.hosts) }

// Host returns host i, from 0. It panics where there is none.
func (r *Rig) Host(i int) *Host { return r.hosts[i] }

// Hosts lists all hosts in their order.
func (r *Rig) Hosts() []*Host { return append([]*Host(nil), r.hosts...) }

// Uplink links the machine itself to the switch, and returns its address there: what runs
// outside reaches the hosts then, and they reach what listens on that address. Faults between
// hosts do not touch it; cutting a host off does. It may be called again.
func (r *Rig) Uplink() (netip.Addr, error) {
	var addr netip.Addr
	err := r.locked(func(s *state) error {
		addr = s.addr(uplinkAddr)
		return s.uplink(addr)
	})
	return addr, err
}

// Close ends everything that runs in the hosts and removes them, the switch and the uplink. What
// lies on the hosts' disks stays. A rig that is closed already is no error.
func (r *Rig) Close() error {
	r.stopRelays()
	defer r.letGo()
	unlock, err := r.lock()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unlock()
	s, err := load(r.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return s.teardown()
}

// build makes switch and hosts.
func (s *state) build() error {
	if err := os.MkdirAll(filepath.Join(s.Dir, stateDir), 0o755); err != nil {
		return fmt.Errorf("hosts: %w", err)
	}
	if err := s.save(); err != nil {
		return err
	}
	if err := s.bootSwitch(); err != nil {
		return err
	}
	if err := s.writeHostsFile(); err != nil {
		return err
	}
	for i := range s.Hosts {
		if err := s.powerOn(i); err != nil {
			return err
		}
	}
	return nil
}

// teardown removes all that build has made, as far as it came.
func (s *state) teardown() error {
	var failed error
	for i := range s.Hosts {
		failed = errors.Join(failed, s.powerOff(i))
	}
	failed = errors.Join(failed, s.dropUplink(), s.Switch.kill(), s.Switch.wait(), s.removeCgroup())
	if failed != nil {
		return failed
	}
	if err := os.RemoveAll(filepath.Join(s.Dir, stateDir)); err != nil {
		return fmt.Errorf("hosts: %w", err)
	}
	return nil
}

// bootSwitch makes the namespace of the switch with a bridge in it. No frame leaves it.
func (s *state) bootSwitch() error {
	p, err := s.startPause("switch", nil, unix.CLONE_NEWNET, "echo ready; exec $PAUSE >/dev/null 2>&1")
	if err != nil {
		return err
	}
	s.Switch = p
	if err := s.save(); err != nil {
		return err
	}
	if err := s.release("switch", p); err != nil {
		return fmt.Errorf("hosts: switch: %w", err)
	}
	if err := s.noIPv6(); err != nil {
		return err
	}
	return s.makeBridge()
}

// noIPv6 keeps the switch from having addresses, and talking to hosts, by itself.
func (s *state) noIPv6() error {
	err := onThread(func() error {
		if err := enter(s.Switch, unix.CLONE_NEWNET); err != nil {
			return err
		}
		return os.WriteFile("/proc/sys/net/ipv6/conf/default/disable_ipv6", []byte("1"), 0o644)
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // where there is no IPv6
		return fmt.Errorf("hosts: switch: %w", err)
	}
	return nil
}

func ipNet(a netip.Addr) *net.IPNet {
	return &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(24, 32)}
}

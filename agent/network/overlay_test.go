package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"slipway/api"
)

func TestConfigsThatCannotWork(t *testing.T) {
	dir := t.TempDir()
	good := Config{
		Name: "x", Cluster: netip.MustParsePrefix("10.88.0.0/13"), Subnet: netip.MustParsePrefix("10.88.7.0/24"),
		Underlay: netip.MustParseAddr("10.99.0.1"), dmi: dir,
	}
	if err := good.complete(); err != nil || good.Direct != DirectAuto || good.Port != 4789 || good.Rack != "x" {
		t.Errorf("a good one: %v, %+v", err, good)
	}
	for name, change := range map[string]func(*Config){
		"no IPv4 address":    func(c *Config) { c.Underlay = netip.Addr{} },
		"inside the rack's":  func(c *Config) { c.Underlay = netip.MustParseAddr("10.88.1.1") },
		"no IPv4 subnet":     func(c *Config) { c.Subnet = netip.Prefix{} },
		"subnet 10.96.0.0":   func(c *Config) { c.Subnet = netip.MustParsePrefix("10.96.0.0/24") },
		`"sometimes"`:        func(c *Config) { c.Direct = "sometimes" },
		"subnet 10.88.0.0/9": func(c *Config) { c.Subnet = netip.MustParsePrefix("10.88.0.0/9") },
		"network fd00::/8": func(c *Config) {
			c.Cluster, c.Subnet = netip.MustParsePrefix("fd00::/8"), netip.MustParsePrefix("fd00::/24")
		},
	} {
		c := good
		change(&c)
		name = strings.Replace(name, "10.88.0.0/9", "10.0.0.0/9", 1)
		if err := c.complete(); api.CodeOf(err) != api.CodeInvalid || !strings.Contains(err.Error(), name) {
			t.Errorf("%q: %v", name, err)
		}
	}
	// Clouds drop what has the source address of a process: no direct routes there.
	for vendor, want := range map[string]Direct{"Amazon EC2\n": DirectNever, "Google": DirectNever, "Dell Inc.": DirectAuto} {
		if err := os.WriteFile(filepath.Join(dir, "sys_vendor"), []byte(vendor), 0o600); err != nil {
			t.Fatal(err)
		}
		c := good
		if err := c.complete(); err != nil || c.Direct != want {
			t.Errorf("on a machine of %q: %q, %v; want %q", vendor, c.Direct, err, want)
		}
	}
}

// TestPeersThatCannotBe are refused by name; the others are kept, the node itself is left out.
func TestPeersThatCannotBe(t *testing.T) {
	n := &Network{cfg: Config{
		Cluster: netip.MustParsePrefix("10.88.0.0/16"), Subnet: netip.MustParsePrefix("10.88.1.0/24"), Underlay: netip.MustParseAddr("10.99.0.1"),
	}}
	peer := func(node, addr, subnet string) Peer {
		p := Peer{Node: node}
		p.Addr, _ = netip.ParseAddr(addr)
		p.Subnet, _ = netip.ParsePrefix(subnet)
		return p
	}
	good, err := n.possible([]Peer{
		peer("late", "10.99.0.9", "10.88.9.0/24"), peer("me", "10.99.0.1", "10.88.1.0/24"), peer("early", "10.99.0.2", "10.88.2.7/24"),
		peer("v6", "fd00::2", "10.88.3.0/24"), peer("within", "10.88.0.1", "10.88.4.0/24"), peer("outside", "10.99.0.3", "10.77.0.0/24"),
		peer("mine", "10.99.0.4", "10.88.1.128/25"), peer("twice", "10.99.0.2", "10.88.5.0/24"), peer("overlaps", "10.99.0.6", "10.88.8.0/23"), peer("none", "", ""),
	})
	if len(good) != 2 || good[0] != peer("early", "10.99.0.2", "10.88.2.0/24") || good[1].Node != "late" {
		t.Errorf("kept %v", good)
	}
	for _, name := range []string{"v6", "within", "outside", "mine", "twice", "overlaps", "none"} {
		if err == nil || !strings.Contains(err.Error(), "node "+name+" ") {
			t.Errorf("%s is not refused by name: %v", name, err)
		}
	}
	for _, name := range []string{"me", "early", "late"} {
		if err != nil && strings.Contains("\n"+err.Error(), "\nnode "+name+" ") {
			t.Errorf("%s is refused: %v", name, err)
		}
	}
}

// far is a peer that is on no link of the others; nobody waits for an answer of it.
var far = Peer{"n200", netip.MustParseAddr("192.0.2.200"), netip.MustParsePrefix("10.88.200.0/24")}

// TestPeersComeAndGo: what the kernel holds follows the last SetPeers, whatever it held before.
func TestPeersComeAndGo(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			t.Parallel()
			hosts, peers := rack(t, 2, mode.first)
			one, two := hosts[0], hosts[1]
			peers = append(peers, far)
			one.set(peers)
			a, b := one.process("pone"), two.process("ptwo")
			alone := func() string {
				lines := slices.Sorted(strings.Lines(commands(t, one.ns, "ip -4 route show table all", "ip -4 rule", "ip neigh show nud permanent", "bridge fdb show dev "+one.overlay)))
				return strings.Join(lines, "")
			}
			reaches := func(when string, want bool) {
				t.Helper()
				if err := echo(t, a.NetNS, b.Addr.String(), 10); (err == nil) != want {
					t.Errorf("%s: %v\n%s", when, err, alone())
				}
			}
			reaches("both are peers", true)
			full := alone()
			one.set(peers)
			if again := alone(); again != full {
				t.Errorf("the same peers again changed\n%s\nto\n%s", full, again)
			}
			one.set([]Peer{peers[0], far})
			reaches("the peer is removed", false)
			// Nothing for the rack's network leaves by another way, and nobody waits.
			if _, _, err := ask(t, a.NetNS, api.TCP, b.Addr.String()+":80"); !errors.Is(err, unix.EHOSTUNREACH) {
				t.Errorf("what is on no node is answered with %v", err)
			}
			if left := alone(); strings.Contains(left, "10.88.2.") || strings.Contains(left, "10.99.0.12") {
				t.Errorf("left of the peer:\n%s", left)
			}
			// Stale and wrong entries, of an agent that was killed half-way or of a peer that moved.
			commands(t, one.ns, "ip route add 10.88.2.0/24 via 10.99.0.99 proto 83 src 10.88.1.1", "ip route add 10.88.77.0/24 via 10.99.0.99 proto 83 src 10.88.1.1",
				"ip route add 10.88.78.0/24 via 10.99.0.99",
				"ip neigh add 10.88.2.1 lladdr 02:53:0a:58:02:63 dev "+one.overlay, "ip neigh add 10.88.77.1 lladdr 02:53:0a:58:4d:00 dev "+one.overlay,
				"bridge fdb add 02:53:0a:58:02:00 dst 10.99.0.99 dev "+one.overlay, "bridge fdb add 02:53:0a:58:4d:00 dst 10.99.0.99 dev "+one.overlay)
			one.set(peers)
			reaches("back, over stale entries", true)
			if got := strings.Replace(alone(), "10.88.78.0/24 via 10.99.0.99 dev eth0 \n", "", 1); got != full {
				t.Errorf("stale entries make\n%s\nof\n%s", got, full)
			}
			// The peer has another host now, and comes back to its own.
			one.set([]Peer{{"n2", netip.MustParseAddr("10.99.0.44"), peers[1].Subnet}, far})
			reaches("on a host that does not exist", false)
			one.set(peers)
			reaches("on its own host again", true)
			commands(t, one.ns, "ip link del "+one.Bridge()) // a machine without anything
			one.do(func() error { return one.Remove(t.Context(), "pone") })
			one.open()
			a = one.process("pone")
			reaches("with a new bridge", true)
			// An address that is gone for a while, as when a lease ran out, is worth another try.
			commands(t, one.ns, "ip addr del 10.99.0.11/24 dev eth0")
			wrong := append(slices.Clone(peers), Peer{Node: "nwrong"})
			if err := within(t, one.ns, func() error { return one.SetPeers(t.Context(), wrong) }); api.CodeOf(err) != api.CodeUnavailable ||
				!strings.Contains(err.Error(), "10.99.0.11") || !strings.Contains(err.Error(), "nwrong") {
				t.Errorf("without its address, and with a peer that cannot be: %v", err)
			}
			commands(t, one.ns, "ip addr add 10.99.0.11/24 dev eth0")
			if err := within(t, one.ns, func() error { return one.SetPeers(t.Context(), wrong) }); api.CodeOf(err) != api.CodeInvalid {
				t.Errorf("with a peer that cannot be: %v", err)
			}
			reaches("with its address again", true)
		})
	}
}

// TestNewAgentInterruptsNothing: traffic goes on while one agent takes over from another, with the
// peers of before and no server to tell them.
func TestNewAgentInterruptsNothing(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			t.Parallel()
			hosts, peers := rack(t, 2, mode.first)
			one, two := hosts[0], hosts[1]
			a, b := one.process("pone"), two.process("ptwo", ports(8080, 80)...)
			var c net.Conn
			if err := within(t, a.NetNS, func() (err error) { c, err = net.Dial("udp4", b.Addr.String()+":80"); return err }); err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			stop, ended := make(chan struct{}), make(chan error, 1)
			var asked, slowest = 0, time.Duration(0)
			go func() {
				answer := make([]byte, 64)
				for {
					select {
					case <-stop:
						ended <- nil
						return
					default:
					}
					began := time.Now()
					c.SetDeadline(began.Add(patience)) // a lost packet is never sent again
					if _, err := c.Write([]byte("?")); err != nil {
						ended <- err
						return
					}
					if _, err := c.Read(answer); err != nil {
						ended <- fmt.Errorf("after %d answers: %w", asked, err)
						return
					}
					asked++
					slowest = max(slowest, time.Since(began))
				}
			}()
			for range 5 {
				one.open()
				two.open()
				one.set(peers)
				two.set(peers)
			}
			close(stop)
			if err := <-ended; err != nil || asked < 100 {
				t.Errorf("%d answers, %v", asked, err)
			}
			t.Logf("%d answers, none lost, the slowest after %s", asked, slowest)
			if name, seen, err := ask(t, a.NetNS, api.TCP, two.cfg.Underlay.String()+":8080"); err != nil || name != "ptwo" || seen != a.Addr.String() {
				t.Errorf("a host port after that: %q sees %q, %v", name, seen, err)
			}
		})
	}
}

// TestCloseLeavesNothing, nor does an agent that is told of no cluster any more.
func TestCloseLeavesNothing(t *testing.T) {
	t.Parallel()
	hosts := machines(t, 3, DirectAuto)
	before := make([]string, 3)
	for i, h := range hosts {
		before[i] = h.state()
	}
	for i, h := range hosts {
		if i == 2 {
			h.cfg.Direct = DirectNever // some of its routes are of the overlay
		}
		h.open()
		h.set(peersOf(hosts))
		h.process("p")
		if h.state() == before[i] {
			t.Errorf("an open network shows nowhere:\n%s", before[i])
		}
	}
	third := hosts[2]
	third.cfg.Cluster, third.cfg.Subnet = netip.Prefix{}, netip.Prefix{}
	third.open()
	if left := third.state(); strings.Contains(left, "proto 83") || strings.Contains(left, third.overlay) || third.Subnet().String() != "10.88.3.0/24" {
		t.Errorf("left of the peers on %s:\n%s", third.Subnet(), left)
	}
	if mtu := mtuOf(t, third.ns, third.Bridge()); mtu != 1500 {
		t.Errorf("the bridge of a node alone has MTU %d", mtu)
	}
	if mtu := mtuOf(t, filepath.Join(third.namespaces(), "p"), "eth0"); mtu != 1500 {
		t.Errorf("a process of a node alone has MTU %d", mtu)
	}
	for i, h := range hosts {
		h.do(func() error { return h.Close(t.Context()) })
		if after := h.state(); after != before[i] {
			t.Errorf("before:\n%s\nafter:\n%s", before[i], after)
		}
		if _, err := os.Stat(h.cfg.Dir); err == nil {
			t.Errorf("directory %s is left", h.cfg.Dir)
		}
	}
}

// TestARackOfOneMachine has no peers, and nothing on the machine for them.
func TestARackOfOneMachine(t *testing.T) {
	t.Parallel()
	h := machines(t, 1, DirectAuto)[0]
	h.cfg.Underlay = netip.MustParseAddr("127.0.0.1")
	h.open()
	h.set([]Peer{{"n1", h.cfg.Underlay, h.cfg.Subnet}})
	a, b := h.process("pone"), h.process("ptwo")
	if name, seen, err := ask(t, a.NetNS, api.TCP, b.Addr.String()+":80"); name != "ptwo" || seen != a.Addr.String() || err != nil {
		t.Errorf("%q sees %q, %v", name, seen, err)
	}
	if links := h.state(); strings.Contains(links, h.overlay) {
		t.Errorf("there is an overlay:\n%s", links)
	}
	if mtu := mtuOf(t, a.NetNS, "eth0"); mtu != 1450 {
		t.Errorf("a process has MTU %d", mtu)
	}
}

// TestANodeThatJoinsAgain has another subnet. It is not taken while a process lives on the old one.
func TestANodeThatJoinsAgain(t *testing.T) {
	t.Parallel()
	hosts, peers := rack(t, 2, DirectNever)
	one, two := hosts[0], hosts[1]
	one.process("pold")
	living := exec.Command("nsenter", "--net="+filepath.Join(one.namespaces(), "pold"), "sleep", "60")
	if err := living.Start(); err != nil {
		t.Fatal(err)
	}
	defer living.Wait()
	defer living.Process.Kill()
	eventually(t, "the process is not in its namespace", func() string {
		inhabited, err := inhabitedNamespaces(procDir)
		var st unix.Stat_t
		if failed := unix.Stat(filepath.Join(one.namespaces(), "pold"), &st); failed != nil || err != nil || !inhabited[st.Ino] {
			return fmt.Sprint(failed, err, inhabited)
		}
		return ""
	})
	one.cfg.Subnet = netip.MustParsePrefix("10.88.9.0/24")
	err := within(t, one.ns, func() error { _, err := New(t.Context(), one.cfg); return err })
	for _, word := range []string{"10.88.9.0/24", "10.88.1.0/24", "pold"} {
		if api.CodeOf(err) != api.CodeConflict || !strings.Contains(err.Error(), word) {
			t.Errorf("with a process in the old subnet, %q: %v", word, err)
		}
	}
	if addrs := commands(t, one.ns, "ip -4 addr show dev "+one.Bridge()); !strings.Contains(addrs, "10.88.1.1/24") {
		t.Errorf("the refused subnet changed the bridge:\n%s", addrs)
	}
	if err := living.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	living.Wait()
	one.open()
	peers[0].Subnet = one.cfg.Subnet
	one.set(peers)
	two.set(peers)
	if left := one.state(); strings.Contains(left, "10.88.1.") {
		t.Errorf("left of the old subnet:\n%s", left)
	}
	a, b := one.process("pnew"), two.process("ptwo")
	if name, seen, err := ask(t, a.NetNS, api.TCP, b.Addr.String()+":80"); name != "ptwo" || seen != "10.88.9.2" || err != nil {
		t.Errorf("from the new subnet: %q sees %q, %v", name, seen, err)
	}
}

// TestAddressesRest: one that was given back comes last, whoever is the agent and whoever lives on
// the highest address.
func TestAddressesRest(t *testing.T) {
	t.Parallel()
	h := machines(t, 1, DirectNever)[0]
	h.cfg.Subnet = netip.MustParsePrefix("10.88.1.0/28") // .1 is the gateway, .15 the broadcast
	h.open()
	var order []string
	h.do(func() error {
		for i := range 13 { // all there are
			if _, err := h.Add(t.Context(), api.ProcessID(fmt.Sprint("p", i))); err != nil {
				return err
			}
		}
		for i := range 12 { // the last one keeps the highest
			if err := h.Remove(t.Context(), api.ProcessID(fmt.Sprint("p", i))); err != nil {
				return err
			}
		}
		return nil
	})
	for range 4 {
		h.open() // an agent each
		h.do(func() error {
			e, err := h.Add(t.Context(), "pnext")
			order = append(order, e.Addr.String())
			return err
		})
		h.do(func() error { return h.Remove(t.Context(), "pnext") })
	}
	if got := strings.Join(order, " "); got != "10.88.1.2 10.88.1.3 10.88.1.4 10.88.1.5" {
		t.Errorf("addresses are given out in the order %s", got)
	}
}

// TestRepairs: what a firewall or a flapping link takes away comes back by itself.
func TestRepairs(t *testing.T) {
	t.Parallel()
	hosts, peers := rack(t, 2, DirectAuto)
	one, two := hosts[0], hosts[1]
	one.set(append(peers, far))
	a, b := one.process("pone"), two.process("ptwo", ports(8080, 80)...)
	var running sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	for _, h := range hosts {
		running.Go(func() {
			if err := within(t, h.ns, func() error { return h.Run(ctx) }); err != nil {
				t.Error(err)
			}
		})
	}
	defer running.Wait()
	defer cancel()
	commands(t, one.ns, "ip link set eth0 down", "ip link set eth0 up")
	eventually(t, "a route over a link that was down", func() string {
		return commands(t, one.ns, "ip route show 10.88.2.0/24 via 10.99.0.12")
	}, "10.88.2.0/24 dev eth0")
	if err := echo(t, a.NetNS, b.Addr.String(), 10); err != nil {
		t.Error(err)
	}
	commands(t, two.ns, "nft flush ruleset")
	eventually(t, "the rules of a flushed firewall", func() string {
		return commands(t, two.ns, "nft list tables")
	}, two.table)
	if name, _, err := ask(t, one.ns, api.TCP, two.cfg.Underlay.String()+":8080"); err != nil || name != "ptwo" {
		t.Errorf("a host port after that: %q, %v", name, err)
	}
	commands(t, one.ns, "ip link del "+one.overlay)
	eventually(t, "the overlay", func() string { return commands(t, one.ns, "ip -br link") }, one.overlay)
}

// eventually waits until look returns one of the words, or nothing if there are none.
func eventually(t *testing.T, what string, look func() string, words ...string) {
	t.Helper()
	deadline := time.Now().Add(40 * time.Second)
	for {
		got := look()
		ok := len(words) == 0 && got == ""
		for _, w := range words {
			ok = ok || strings.Contains(got, w)
		}
		if ok {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: still %q", what, got)
		}
	}
}

package network

import (
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/vishvananda/netlink"
	"pgregory.net/rapid"

	"slipway/api"
)

// modes are the ways in which two nodes may reach one another.
var modes = []struct {
	name        string
	first, rest Direct
}{{"overlay", DirectNever, DirectNever}, {"direct", DirectAuto, DirectAuto}}

// serve listens on every address of a host.
func serve(t *testing.T, h *host, port int, name string) {
	answer(t, Endpoint{NetNS: h.ns}, port, name)
}

// TestProcessesOfSeveralNodes: each reaches the others at their own addresses, and of another node
// nothing but its processes.
func TestProcessesOfSeveralNodes(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			t.Parallel()
			hosts, _ := rack(t, 3, mode.first)
			one, two, three := hosts[0], hosts[1], hosts[2]
			a, b, c := one.process("pone"), two.process("ptwo", ports(8080, 80)...), three.process("pthree")
			for _, h := range hosts {
				serve(t, h, 22, "program")
				serve(t, h, 53, "dns")
			}
			self := func(e Endpoint) string { return e.Addr.String() }
			for _, x := range []struct{ what, from, to, name, seen string }{
				{"a process of another node", a.NetNS, self(b) + ":80", "ptwo", self(a)},
				{"and back", b.NetNS, self(a) + ":80", "pone", self(b)},
				{"a third node", a.NetNS, self(c) + ":80", "pthree", self(a)},
				{"a process, from the node of another", one.ns, self(b) + ":80", "ptwo", one.Gateway().String()},
				{"the DNS of its node", a.NetNS, one.Gateway().String() + ":53", "dns", self(a)},
				{"a host port, from another node", one.ns, two.cfg.Underlay.String() + ":8080", "ptwo", one.cfg.Underlay.String()},
				{"a host port, from a process of another node", a.NetNS, two.cfg.Underlay.String() + ":8080", "ptwo", self(a)},
				{"a host port, from its own node", two.ns, two.cfg.Underlay.String() + ":8080", "ptwo", two.cfg.Underlay.String()},
				{"a program of a node, from another", one.ns, two.cfg.Underlay.String() + ":22", "program", one.cfg.Underlay.String()},
			} {
				for _, protocol := range []api.Protocol{api.TCP, api.UDP} {
					if name, seen, err := ask(t, x.from, protocol, x.to); err != nil || name != x.name || seen != x.seen {
						t.Errorf("%s, %s to %s: %q sees %q, %v; want %q and %q", x.what, protocol, x.to, name, seen, err, x.name, x.seen)
					}
				}
			}
			closed := map[string]string{
				"a program of another node":                         two.cfg.Underlay.String() + ":22",
				"a program of another node, by the bridge":          two.Gateway().String() + ":22",
				"the DNS of another node":                           two.Gateway().String() + ":53",
				"the DNS of another node, by its address":           two.cfg.Underlay.String() + ":53",
				"a program of its own node":                         one.cfg.Underlay.String() + ":22",
				"a host port, by the port of the process behind it": two.cfg.Underlay.String() + ":80",
			}
			var asked sync.WaitGroup
			for what, to := range closed {
				asked.Go(func() {
					if name, _, err := ask(t, a.NetNS, api.TCP, to); err == nil {
						t.Errorf("a process reaches %s at %s: %q", what, to, name)
					}
				})
			}
			asked.Wait()
			if name, _, err := ask(t, one.ns, api.TCP, two.Gateway().String()+":53"); err == nil {
				t.Errorf("a node reaches the DNS of another: %q", name)
			}
			for _, to := range []Endpoint{b, c} {
				if err := echo(t, a.NetNS, self(to), 1<<20); err != nil {
					t.Errorf("1 MiB to %s and back: %v", to.Addr, err)
				}
			}
			for _, h := range hosts {
				for where, link := range map[string]string{h.ns: h.Bridge(), a.NetNS: "eth0", b.NetNS: "eth0"} {
					if mtu := mtuOf(t, where, link); mtu != 1450 {
						t.Errorf("link %s has MTU %d", link, mtu)
					}
				}
			}
		})
	}
}

// TestTheKernelFollows: whatever peers were there before, the kernel holds what the new ones need
// and nothing else.
func TestTheKernelFollows(t *testing.T) {
	t.Parallel()
	h := machines(t, 1, DirectAuto)[0]
	h.open()
	rapid.Check(t, func(rt *rapid.T) {
		var peers []Peer
		for i := range rapid.IntRange(0, 6).Draw(rt, "peers") {
			// On the link of the host, or not; the same addresses move between nodes.
			host := rapid.SampledFrom([]string{"10.99.0.", "192.0.2."}).Draw(rt, "link")
			peers = append(peers, Peer{
				fmt.Sprint("n", i), netip.MustParseAddr(host + fmt.Sprint(100+(i+rapid.IntRange(0, 1).Draw(rt, "moved"))%7)),
				netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 88, byte(10 + i), 0}), rapid.IntRange(24, 26).Draw(rt, "bits")),
			})
		}
		err := within(t, h.ns, func() error {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.peers, _ = h.possible(peers) // two at one address: the second is refused
			if err := h.reroute(); err != nil {
				return err
			}
			direct, overlay := map[netip.Addr]int{}, 0
			for _, p := range h.peers {
				if link, ok := h.onLink(p.Addr); ok != strings.HasPrefix(p.Addr.String(), "10.99.") {
					return fmt.Errorf("%s is on link %d: %v", p.Addr, link, ok)
				} else if ok {
					direct[p.Addr] = link
				}
			}
			link, err := netlink.LinkByName(h.overlay)
			if there := err == nil; there != (len(direct) < len(h.peers)) {
				return fmt.Errorf("the overlay is there: %v, with %d peers on the link of %d", there, len(direct), len(h.peers))
			} else if there {
				overlay = link.Attrs().Index
			}
			want := h.reach(overlay, direct)
			have, err := h.readReach(overlay)
			if err != nil {
				return err
			}
			if !maps.Equal(have.routes, want.routes) || !maps.Equal(have.stations, want.stations) || !maps.Equal(have.remotes, want.remotes) {
				return fmt.Errorf("the kernel has\n%v\nfor\n%v", have, want)
			}
			return nil
		})
		if err != nil {
			rt.Fatal(err)
		}
	})
}

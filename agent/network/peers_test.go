package network

import (
	"sync"
	"testing"

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

package network

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"slipway/api"
)

// TestSourcesAreTheirOwn: a process cannot speak for another, nor a machine outside for a process.
func TestSourcesAreTheirOwn(t *testing.T) {
	t.Parallel()
	hosts := machines(t, 3, DirectAuto)
	one, two, stranger := hosts[0], hosts[1], hosts[2]
	peers := append(peersOf(hosts[:2]), far)
	for _, h := range hosts[:2] {
		h.open()
		h.set(peers)
	}
	for _, h := range hosts { // the rules have to do without the kernel's check
		commands(t, h.ns, "sysctl -q -w net.ipv4.conf.all.rp_filter=0")
	}
	a, near, there := one.process("pone"), one.process("pnear", ports(9900, 99)...), two.process("pfar")
	commands(t, a.NetNS, "ip addr add 10.88.1.77/32 dev eth0", "ip addr add 10.88.2.77/32 dev eth0", "ip addr add 192.0.2.1/32 dev eth0", "ip addr add 10.88.1.1/32 dev eth0")
	// The stranger builds an overlay of its own, with the rack's number, and routes past it.
	o := one.overlay
	commands(t, stranger.ns, fmt.Sprintf("ip link add %s address 02:53:0a:58:01:00 mtu 1450 type vxlan id %d local 10.99.0.13 dstport 4789 nolearning", o, vni(two.Network.cfg.Rack)),
		"ip addr add 10.88.1.0/32 dev "+o, "ip addr add 10.88.1.99/32 dev lo", "ip link set up dev "+o, "ip route add 10.88.2.0/25 via 10.88.2.1 dev "+o+" onlink",
		"ip neigh add 10.88.2.1 lladdr 02:53:0a:58:02:00 dev "+o+" nud permanent", "bridge fdb add 02:53:0a:58:02:00 dev "+o+" dst 10.99.0.12",
		"ip addr add 10.88.2.99/32 dev lo", "ip route add 10.88.1.0/24 via 10.99.0.11")
	// Packets within a bridge meet the rules where the kernel is told so, and nowhere else.
	filtered := strings.TrimSpace(commands(t, one.ns, "sysctl -n -e net.bridge.bridge-nf-call-iptables")) == "1"
	ears := map[string]net.PacketConn{near.NetNS: listen(t, near.NetNS, ":99"), there.NetNS: listen(t, there.NetNS, ":99")}
	seen := func(from, source string, to Endpoint, at, word string) bool {
		word += " of " + source
		err := within(t, from, func() error {
			d := net.Dialer{LocalAddr: &net.UDPAddr{IP: net.ParseIP(source)}}
			c, err := d.Dial("udp4", at)
			if err != nil {
				return err
			}
			defer c.Close()
			_, err = c.Write([]byte(word))
			return err
		})
		if err != nil {
			t.Errorf("%s: %v", word, err)
		}
		return heard(ears[to.NetNS], word)
	}
	for _, x := range []struct {
		what, from, source string
		to                 Endpoint
		want               bool
	}{
		{"its own, near", a.NetNS, a.Addr.String(), near, true},
		{"its own, far", a.NetNS, a.Addr.String(), there, true},
		{"one of no node, near", a.NetNS, "192.0.2.1", near, !filtered},
		{"one of no node, far", a.NetNS, "192.0.2.1", there, false},
		{"one of the other node, near", a.NetNS, "10.88.2.77", near, !filtered},
		{"one of the other node, far", a.NetNS, "10.88.2.77", there, false},
		{"the gateway's, near", a.NetNS, "10.88.1.1", near, !filtered},
		{"a peer's, by a strange overlay", stranger.ns, "10.88.1.0", there, false},
		{"a process's, by a strange overlay", stranger.ns, "10.88.1.99", there, false},
		{"a process's of that node, by a strange route", stranger.ns, "10.88.1.99", near, false},
		{"a stranger's own, by a strange route", stranger.ns, "10.99.0.13", near, false},
	} {
		if got := seen(x.from, x.source, x.to, x.to.Addr.String()+":99", "source "+x.what); got != x.want {
			t.Errorf("a source that is %s (%s) is heard by %s: %v, want %v", x.what, x.source, x.to.Addr, got, x.want)
		}
	}
	for source, want := range map[string]bool{"10.99.0.13": true, "10.88.1.99": false} {
		if got := seen(stranger.ns, source, near, "10.99.0.11:9900", "port"); got != want {
			t.Errorf("at a port of the node, a stranger who says that it is %s is heard: %v, want %v", source, got, want)
		}
	}
	serve(t, one, 53, "dns")
	if name, _, err := ask(t, near.NetNS, api.UDP, one.Gateway().String()+":53"); name != "dns" || err != nil {
		t.Errorf("the DNS of its node answers a process with %q, %v", name, err)
	}
	for _, protocol := range []api.Protocol{api.TCP, api.UDP} {
		if name, _, err := ask(t, stranger.ns, protocol, one.Gateway().String()+":53"); err == nil {
			t.Errorf("the DNS of a node answers a stranger with %q", name)
		}
	}
	// As soon as it is a peer, what it sends over the overlay arrives: the packets above were good.
	two.set(append(peers, Peer{"n3", stranger.cfg.Underlay, netip.MustParsePrefix("10.88.3.0/24")}))
	for source, want := range map[string]bool{"10.88.1.99": true, "10.99.0.13": false} {
		if got := seen(stranger.ns, source, there, there.Addr.String()+":99", "peer"); got != want {
			t.Errorf("what a peer sends as %s over the overlay arrives: %v, want %v", source, got, want)
		}
	}
	if ip6 := commands(t, one.ns, "ip -6 addr show dev "+one.Bridge()); ip6 != "" {
		t.Errorf("processes reach the node past the rules at\n%s", ip6)
	}
}

// listen opens a UDP port of a network namespace until the test ends.
func listen(t *testing.T, netns, at string) (u net.PacketConn) {
	t.Helper()
	if err := within(t, netns, func() (err error) {
		u, err = net.ListenPacket("udp4", at)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { u.Close() })
	return u
}

// heard tells whether the word arrives; nobody says it twice.
func heard(u net.PacketConn, word string) bool {
	u.SetReadDeadline(time.Now().Add(700 * time.Millisecond))
	b := make([]byte, 512)
	for {
		k, _, err := u.ReadFrom(b)
		if err != nil || string(b[:k]) == word {
			return err == nil
		}
	}
}

// TestTwoRacksOnTheSameNodes use one UDP port and do not meet.
func TestTwoRacksOnTheSameNodes(t *testing.T) {
	t.Parallel()
	hosts, _ := rack(t, 2, DirectNever)
	var others []*host
	for i, h := range hosts {
		other := &host{t: t, ns: h.ns, cfg: h.cfg}
		other.cfg.Name, other.cfg.Dir = h.cfg.Name+"other", h.cfg.Dir+"other"
		other.cfg.Cluster, other.cfg.Subnet = netip.MustParsePrefix("10.90.0.0/16"), netip.MustParsePrefix(fmt.Sprintf("10.90.%d.0/24", i+1))
		others = append(others, other)
	}
	// The subnet of another rack is refused.
	taken := others[0].cfg
	taken.Cluster, taken.Subnet = hosts[0].cfg.Cluster, hosts[0].cfg.Subnet
	if err := within(t, hosts[0].ns, func() error { _, err := New(t.Context(), taken); return err }); api.CodeOf(err) != api.CodeConflict || !strings.Contains(err.Error(), hosts[0].Bridge()) {
		t.Errorf("a subnet that another rack has: %v", err)
	}
	for _, o := range others {
		o.open()
		o.set(peersOf(others))
	}
	a, b := hosts[0].process("pone"), hosts[1].process("ptwo", ports(8080, 80)...)
	c, d := others[0].process("pthree"), others[1].process("pfour", ports(8081, 80)...)
	for _, pair := range [][2]Endpoint{{a, b}, {c, d}, {d, c}} {
		if err := echo(t, pair[0].NetNS, pair[1].Addr.String(), 1000); err != nil {
			t.Errorf("%s does not reach %s: %v", pair[0].Addr, pair[1].Addr, err)
		}
	}
	for port, from := range map[int]Endpoint{8080: a, 8081: c} {
		if _, seen, err := ask(t, from.NetNS, api.TCP, fmt.Sprint(hosts[1].cfg.Underlay, ":", port)); err != nil || seen != from.Addr.String() {
			t.Errorf("host port %d of the own rack sees %q, %v", port, seen, err)
		}
	}
	var asked sync.WaitGroup
	for _, pair := range [][2]Endpoint{{a, d}, {c, b}, {a, c}} {
		asked.Go(func() {
			if err := echo(t, pair[0].NetNS, pair[1].Addr.String(), 10); err == nil {
				t.Errorf("%s reaches %s of another rack", pair[0].Addr, pair[1].Addr)
			}
		})
	}
	asked.Wait()
}

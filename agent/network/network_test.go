package network

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"pgregory.net/rapid"

	"slipway/api"
)

func TestNextAddress(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		bits := rapid.IntRange(24, 29).Draw(t, "bits")
		subnet := netip.PrefixFrom(netip.MustParseAddr("10.90.0.0"), bits)
		used := map[netip.Addr]bool{subnet.Addr().Next(): true}
		var last netip.Addr
		for i := 0; ; i++ {
			a, err := next(subnet, last, used)
			if err != nil {
				if i != 1<<(32-bits)-3 {
					t.Fatalf("full after %d addresses of a /%d", i, bits)
				}
				return
			}
			if used[a] || !subnet.Contains(a) || a == subnet.Addr() || !subnet.Contains(a.Next()) {
				t.Fatalf("gave %s", a)
			}
			used[a], last = true, a
		}
	})
}

// machine is what a network could leave behind.
func machine(t *testing.T) string {
	t.Helper()
	links, err := netlink.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, l := range links {
		if strings.HasPrefix(l.Attrs().Name, "sl") {
			fmt.Fprintln(&b, l.Attrs().Name)
		}
	}
	return b.String()
}

func open(t *testing.T, name string) *Network {
	t.Helper()
	if os.Geteuid() != 0 || testing.Short() {
		t.Skip("needs root")
	}
	n, err := New(t.Context(), Config{Name: name, Dir: t.TempDir(), Domain: "test.local"})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestProcessesReachOneAnother(t *testing.T) {
	name := "test-" + t.TempDir()
	n := open(t, name)
	defer func() {
		if err := n.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if _, err := netlink.LinkByName(n.Bridge()); err == nil {
			t.Error("the bridge is left")
		}
		if out, err := exec.Command("nft", "list", "table", "ip", n.table).CombinedOutput(); err == nil {
			t.Errorf("the table is left: %s", out)
		}
	}()
	a, err := n.Add(t.Context(), "pone")
	if err != nil {
		t.Fatal(err)
	}
	b, err := n.Add(t.Context(), "ptwo")
	if err != nil {
		t.Fatal(err)
	}
	if a.Addr == b.Addr {
		t.Fatalf("both have %s", a.Addr)
	}
	again, err := n.Add(t.Context(), "pone")
	if err != nil || again != a {
		t.Errorf("the second Add gave %+v, %v; want %+v", again, err, a)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	ping := func(ns string, args ...string) error {
		out, err := exec.Command("nsenter", append([]string{"--net=" + ns}, args...)...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	}
	if err := ping(a.NetNS, "busybox", "ping", "-c1", "-W2", b.Addr.String()); err != nil {
		t.Errorf("one process does not reach the other: %v", err)
	}
	if err := ping(a.NetNS, "busybox", "nc", "-w1", n.Gateway().String(), fmt.Sprint(port)); err == nil {
		t.Error("a process reaches a port of the node")
	}
	if err := n.Collect(t.Context(), map[api.ProcessID]bool{"ptwo": true}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(a.NetNS); err == nil {
		t.Error("the namespace of an unknown process is left")
	}
	if _, err := os.Stat(b.NetNS); err != nil {
		t.Error("the namespace of a known process is gone")
	}
}

func TestTwoRacksDoNotMeet(t *testing.T) {
	before := machine(t)
	a, b := open(t, "one"+t.TempDir()), open(t, "two"+t.TempDir())
	if a.Subnet().Overlaps(b.Subnet()) {
		t.Errorf("subnets %s and %s overlap", a.Subnet(), b.Subnet())
	}
	for _, n := range []*Network{a, b} {
		if _, err := n.Add(t.Context(), api.ProcessID("p"+n.Bridge())); err != nil {
			t.Error(err)
		}
	}
	for _, n := range []*Network{a, b} {
		if err := n.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if after := machine(t); after != before {
		t.Errorf("links before:\n%safter:\n%s", before, after)
	}
}

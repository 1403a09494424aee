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
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"slipway/agent/dns"
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

// exists reports whether the machine has a link of that name.
func exists(name string) bool {
	_, err := netlink.LinkByName(name)
	return err == nil
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
	a, b := open(t, "one"+t.TempDir()), open(t, "two"+t.TempDir())
	if a.Subnet().Overlaps(b.Subnet()) {
		t.Errorf("subnets %s and %s overlap", a.Subnet(), b.Subnet())
	}
	var links []string
	for _, n := range []*Network{a, b} {
		id := api.ProcessID("p" + n.Bridge())
		if _, err := n.Add(t.Context(), id); err != nil {
			t.Error(err)
		}
		links = append(links, n.Bridge(), vethName(id))
	}
	for _, name := range links {
		if !exists(name) {
			t.Errorf("no link %s", name)
		}
	}
	for _, n := range []*Network{a, b} {
		if err := n.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
	for _, name := range links {
		if exists(name) {
			t.Errorf("link %s is left", name)
		}
	}
}

// TestHalfMadeNetworksAreFinished: whoever made them was killed at any point after the address.
func TestHalfMadeNetworksAreFinished(t *testing.T) {
	n := open(t, "half"+t.TempDir())
	defer func() {
		if err := n.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	e, err := n.Add(t.Context(), "pone")
	if err != nil {
		t.Fatal(err)
	}
	for name, undo := range map[string][]string{
		"no route":     {"nsenter", "--net=" + e.NetNS, "ip", "route", "del", "default"},
		"inside down":  {"nsenter", "--net=" + e.NetNS, "ip", "link", "set", "eth0", "down"},
		"outside down": {"ip", "link", "set", vethName("pone"), "down"},
		"no link":      {"ip", "link", "del", vethName("pone")},
		"no address":   {"nsenter", "--net=" + e.NetNS, "ip", "addr", "flush", "dev", "eth0"},
	} {
		if out, err := exec.Command(undo[0], undo[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", name, err, out)
		}
		again, err := n.Add(t.Context(), "pone")
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		out, err := exec.Command("nsenter", "--net="+again.NetNS, "busybox", "ping", "-c1", "-W2", n.Gateway().String()).CombinedOutput()
		if err != nil {
			t.Errorf("%s: the gateway is out of reach: %v: %s", name, err, out)
		}
		routes, err := exec.Command("nsenter", "--net="+again.NetNS, "ip", "route", "show", "default").CombinedOutput()
		if err != nil || !strings.Contains(string(routes), n.Gateway().String()) {
			t.Errorf("%s: default route %q, %v", name, routes, err)
		}
	}
}

// TestBridgeKeepsItsAddress: connections of other processes stand still when it changes.
func TestBridgeKeepsItsAddress(t *testing.T) {
	name := "mac" + t.TempDir()
	n := open(t, name)
	defer func() {
		if err := n.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	addr := func() string {
		link, err := netlink.LinkByName(n.Bridge())
		if err != nil {
			t.Fatal(err)
		}
		return link.Attrs().HardwareAddr.String()
	}
	was := addr()
	for i := range 12 {
		if _, err := n.Add(t.Context(), api.ProcessID(fmt.Sprint("p", i))); err != nil {
			t.Fatal(err)
		}
		if now := addr(); now != was {
			t.Fatalf("a process came, and the bridge went from %s to %s", was, now)
		}
	}
	for i := range 12 {
		if err := n.Remove(t.Context(), api.ProcessID(fmt.Sprint("p", i))); err != nil {
			t.Fatal(err)
		}
		if now := addr(); now != was {
			t.Fatalf("a process went, and the bridge went from %s to %s", was, now)
		}
	}
	if _, err := New(t.Context(), n.cfg); err != nil || addr() != was {
		t.Errorf("opened again: %v, bridge %s, was %s", err, addr(), was)
	}
}

// TestNamesResolve looks names up as a process does: with its own resolv.conf, by the C library,
// from its namespace.
func TestNamesResolve(t *testing.T) {
	n := open(t, "names"+t.TempDir())
	server := dns.New(n.Gateway().String()+":53", "test.local")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	defer func() {
		cancel()
		if err := errors.Join(<-ended, n.Close(t.Context())); err != nil {
			t.Error(err)
		}
	}()
	at := func(addr string) []netip.AddrPort {
		return []netip.AddrPort{netip.AddrPortFrom(netip.MustParseAddr(addr), 0)}
	}
	server.Set(map[string][]netip.AddrPort{"web.myapp": at("10.88.0.7"), "db.myapp": at("10.88.0.8"), "web.other": at("10.88.0.9"), "com.myapp": at("10.88.0.10")})
	e, err := n.Add(t.Context(), "pone")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(file, n.ResolvConf("myapp"), 0o644); err != nil {
		t.Fatal(err)
	}
	lookup := func(name string) string {
		cmd := exec.Command("nsenter", "--net="+e.NetNS, "unshare", "-m", "sh", "-c", `mount --bind "$0" /etc/resolv.conf && getent ahostsv4 "$1"`, file, name)
		out, _ := cmd.Output() // a name that does not exist is an exit status of its own
		addr, _, _ := strings.Cut(string(out), " ")
		return addr
	}
	want := map[string]string{
		"web": "10.88.0.7", "db": "10.88.0.8", "web.myapp": "10.88.0.7", "web.other": "10.88.0.9",
		"web.other.test.local": "10.88.0.9", "com.myapp": "10.88.0.10", "nobody.myapp.test.local": "",
	}
	deadline := time.Now().Add(20 * time.Second) // for the server to listen
	for name, addr := range want {
		for lookup(name) != addr {
			if time.Now().After(deadline) {
				t.Errorf("%s resolves to %q, want %q", name, lookup(name), addr)
				break
			}
		}
	}
}

// remains lists what the networks of processes hold of the machine: links, mounts, files, threads.
func remains(t *testing.T, n *Network) string {
	t.Helper()
	links, err := netlink.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	bridge, err := netlink.LinkByName(n.Bridge())
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		if l.Attrs().MasterIndex == bridge.Attrs().Index {
			fmt.Fprintln(&b, "link", l.Attrs().Name)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, n.namespaces()) {
			fmt.Fprint(&b, "mount ", line)
		}
	}
	entries, err := os.ReadDir(n.namespaces())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		fmt.Fprintln(&b, "file", e.Name())
	}
	return b.String()
}

// open descriptors and threads of this process.
func held(t *testing.T) (fds, threads int) {
	t.Helper()
	for dir, n := range map[string]*int{"/proc/self/fd": &fds, "/proc/self/task": &threads} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		*n = len(entries)
	}
	return fds, threads
}

// TestNothingLeaks makes and removes networks again and again, in order and in the ways that a
// crash leaves them, and compares the machine before and after.
func TestNothingLeaks(t *testing.T) {
	n := open(t, "leaks"+t.TempDir())
	defer func() {
		if err := n.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	cycle := func(round int) {
		t.Helper()
		var group errgroup.Group
		for i := range 8 {
			id := api.ProcessID(fmt.Sprintf("p%dx%d", round, i))
			group.Go(func() error {
				if _, err := n.Add(t.Context(), id); err != nil {
					return err
				}
				switch i % 4 {
				case 0: // the namespace went, as after a reboot: file and link are left
					return unix.Unmount(filepath.Join(n.namespaces(), string(id)), unix.MNT_DETACH)
				case 1: // the link went
					link, err := netlink.LinkByName(vethName(id))
					if err != nil {
						return err
					}
					return netlink.LinkDel(link)
				case 2: // an Add that broke off after the file was made
					return os.WriteFile(filepath.Join(n.namespaces(), string(id)+"y"), nil, 0o600)
				}
				return nil
			})
		}
		if err := group.Wait(); err != nil {
			t.Fatal(err)
		}
		// Half of them are made again, as by an agent that repeats its last step.
		for i := range 4 {
			if _, err := n.Add(t.Context(), api.ProcessID(fmt.Sprintf("p%dx%d", round, i))); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 2 {
			for range 2 { // twice is no error
				if err := n.Remove(t.Context(), api.ProcessID(fmt.Sprintf("p%dx%d", round, i))); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := n.Collect(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
	}
	cycle(0) // what is made once stays: threads of the runtime, pollers
	if left := remains(t, n); left != "" {
		t.Fatalf("left behind:\n%s", left)
	}
	fds, threads := held(t)
	for round := range 10 {
		cycle(round + 1)
	}
	if left := remains(t, n); left != "" {
		t.Errorf("left behind:\n%s", left)
	}
	if f, th := held(t); f > fds+4 || th > threads+16 {
		t.Errorf("%d descriptors and %d threads became %d and %d", fds, threads, f, th)
	}
}

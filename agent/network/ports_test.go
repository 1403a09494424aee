package network

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"slipway/api"
)

// patience bounds every wait of these tests.
const patience = 3 * time.Second

// within runs f on a thread that is in a network namespace; "" is the machine's own.
func within(t *testing.T, path string, f func() error) error {
	t.Helper()
	if path == "" {
		return f()
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		ns, err := netns.GetFromPath(path)
		if err == nil {
			defer ns.Close()
			err = netns.Set(ns)
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

// answer serves a port of a process over both protocols: it says who it is and whom it sees.
func answer(t *testing.T, e Endpoint, port int, name string) {
	t.Helper()
	err := within(t, e.NetNS, func() error {
		l, err := net.Listen("tcp4", fmt.Sprint(":", port))
		if err != nil {
			return err
		}
		t.Cleanup(func() { l.Close() })
		u, err := net.ListenPacket("udp4", fmt.Sprint(":", port))
		if err != nil {
			return err
		}
		t.Cleanup(func() { u.Close() })
		go func() {
			for c, err := l.Accept(); err == nil; c, err = l.Accept() {
				go func() {
					defer c.Close()
					fmt.Fprintf(c, "%s %s\n", name, c.RemoteAddr())
					io.Copy(c, c)
				}()
			}
		}()
		go func() {
			b := make([]byte, 64)
			for _, from, err := u.ReadFrom(b); err == nil; _, from, err = u.ReadFrom(b) {
				u.WriteTo(fmt.Appendf(nil, "%s %s\n", name, from), from)
			}
		}()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// ask connects from a namespace and returns who answered and whom that one saw.
func ask(t *testing.T, from string, protocol api.Protocol, addr string) (name, seen string, err error) {
	t.Helper()
	var c net.Conn
	err = within(t, from, func() (err error) {
		c, err = net.DialTimeout(string(protocol)+"4", addr, patience)
		return err
	})
	if err != nil {
		return "", "", err
	}
	defer c.Close()
	return hear(c)
}

// hear says a word and returns the answer.
func hear(c net.Conn) (name, seen string, err error) {
	c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Write([]byte("?")); err != nil {
		return "", "", err
	}
	_, err = fmt.Fscan(bufio.NewReader(c), &name, &seen) // datagrams are read whole
	if host, _, cut := net.SplitHostPort(seen); cut == nil {
		seen = host
	}
	return name, seen, err
}

// outsider is a machine of its own on a link to this one: its namespace, and the two addresses.
func outsider(t *testing.T) (ns, node, own string) {
	t.Helper()
	pid := os.Getpid() // two runs at once have links and addresses of their own
	link, peer := fmt.Sprintf("slwt%da", pid), fmt.Sprintf("slwt%db", pid)
	network := uint32(10<<24|64<<16) + uint32(pid)<<2&(64<<16-1)
	address := func(host uint32) string {
		return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, network+host))).String()
	}
	ns, node, own = filepath.Join(t.TempDir(), "outside"), address(1), address(2)
	if err := createNamespace(ns); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(ns, unix.MNT_DETACH); err != nil { // a program that is just being started still holds what its parent had open
			t.Errorf("unmount %s: %v", ns, err)
		}
	})
	in := "nsenter --net=" + ns + " ip "
	for _, line := range []string{
		"ip link add " + link + " type veth peer name " + peer + " netns " + ns, "ip addr add " + node + "/30 dev " + link, "ip link set " + link + " up",
		in + "addr add " + own + "/30 dev " + peer, in + "link set " + peer + " up", in + "link set lo up",
	} {
		f := strings.Fields(line)
		if out, err := exec.Command(f[0], f[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", line, err, out)
		}
	}
	t.Cleanup(func() { exec.Command("ip", "link", "del", link).Run() }) // it may have gone with its namespace
	return ns, node, own
}

func closed(t *testing.T, n *Network) {
	t.Helper()
	if err := n.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(n.portsDir()); err == nil {
		t.Error("the directory of ports is left")
	}
	if out, err := exec.Command("nft", "list", "table", "ip", n.table).CombinedOutput(); err == nil {
		t.Errorf("the table is left: %s", out)
	}
}

func ports(host, port int) []api.HostPort {
	return []api.HostPort{{Host: host, Port: port, Protocol: api.TCP}, {Host: host, Port: port, Protocol: api.UDP}}
}

// TestHostPorts: a port of the node leads to a process, wherever one asks from, until it is taken
// back. A restarted agent changes nothing about it.
func TestHostPorts(t *testing.T) {
	n := open(t, "ports"+t.TempDir())
	defer func() { closed(t, n) }()
	const host = 27431
	web, err := n.Add(t.Context(), "pweb", ports(host, 80)...)
	if err != nil {
		t.Fatal(err)
	}
	other, err := n.Add(t.Context(), "pother")
	if err != nil {
		t.Fatal(err)
	}
	answer(t, web, 80, "web")
	outside, node, own := outsider(t)
	places := []struct{ name, ns, addr, seen string }{
		{"the node's loopback", "", "127.0.0.1", n.Gateway().String()},
		{"another address of the loopback", "", "127.9.9.9", n.Gateway().String()},
		{"the node, by its address", "", node, node},
		{"the node, by the bridge's address", "", n.Gateway().String(), n.Gateway().String()},
		{"another process", other.NetNS, node, n.Gateway().String()},
		{"another process, by the bridge's address", other.NetNS, n.Gateway().String(), n.Gateway().String()},
		{"the process itself", web.NetNS, node, n.Gateway().String()},
		{"another machine", outside, node, own},
	}
	reach := func(when string, open bool) {
		t.Helper()
		for _, p := range places {
			for _, protocol := range []api.Protocol{api.TCP, api.UDP} {
				name, seen, err := ask(t, p.ns, protocol, fmt.Sprint(p.addr, ":", host))
				if open && (err != nil || name != "web" || seen != p.seen) {
					t.Errorf("%s, from %s over %s: %q sees %s, %v; want %s", when, p.name, protocol, name, seen, err, p.seen)
				}
				if !open && err == nil {
					t.Errorf("%s, from %s over %s: %q answers", when, p.name, protocol, name)
				}
				if !open && protocol == api.TCP {
					break // no answer of UDP takes its time; once is enough, below
				}
			}
		}
	}
	reach("published", true)
	long, err := net.Dial("tcp4", fmt.Sprint("127.0.0.1:", host))
	if err != nil {
		t.Fatal(err)
	}
	defer long.Close()
	if n, err = New(t.Context(), n.cfg); err != nil {
		t.Fatal(err)
	}
	reach("with a new agent", true)
	if name, _, err := hear(long); name != "web" || err != nil {
		t.Errorf("a connection of before: %q, %v", name, err)
	}
	if again, err := n.Add(t.Context(), "pweb", ports(host, 80)...); err != nil || again.Addr != web.Addr {
		t.Errorf("added again: %+v, %v", again, err)
	}
	if err := n.Collect(t.Context(), map[api.ProcessID]bool{"pother": true}); err != nil {
		t.Fatal(err)
	}
	reach("taken back", false)
	if _, _, err := ask(t, "", api.UDP, fmt.Sprint("127.0.0.1:", host)); err == nil {
		t.Error("taken back, over UDP: it answers")
	}
	if rules := n.rules(); strings.Contains(rules, fmt.Sprint(host)) {
		t.Errorf("rules are left:\n%s", rules)
	}
}

// TestHostPortsAreVacant: a port leads to one process at a time, and to none while a program of
// the node listens on it.
func TestHostPortsAreVacant(t *testing.T) {
	n := open(t, "vacant"+t.TempDir())
	defer func() { closed(t, n) }()
	const host = 27433
	if _, err := n.Add(t.Context(), "pone", ports(host, 80)...); err != nil {
		t.Fatal(err)
	}
	fails := func(why string, ask []api.HostPort, words ...string) {
		t.Helper()
		_, err := n.Add(t.Context(), "ptwo", ask...)
		if api.CodeOf(err) != api.CodeConflict {
			t.Errorf("%s: %v", why, err)
			return
		}
		for _, word := range words {
			if !strings.Contains(err.Error(), word) {
				t.Errorf("%s: %q does not say %q", why, err, word)
			}
		}
		if _, err := os.Stat(filepath.Join(n.namespaces(), "ptwo")); err == nil {
			t.Errorf("%s: a namespace is left", why)
		}
	}
	fails("held by another process", ports(host, 90), "host port 27433/tcp", "process pone")
	me := fmt.Sprintf("process %d network.test", os.Getpid())
	for _, addr := range []string{"127.0.0.1:0", "[::]:0", "0.0.0.0:0"} {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		taken := l.Addr().(*net.TCPAddr).Port
		fails("TCP at "+addr, []api.HostPort{{Host: taken, Port: 80, Protocol: api.TCP}}, fmt.Sprintf("host port %d/tcp", taken), me)
		l.Close()
		u, err := net.ListenPacket("udp", addr)
		if err != nil {
			t.Fatal(err)
		}
		taken = int(netip.MustParseAddrPort(u.LocalAddr().String()).Port())
		fails("UDP at "+addr, []api.HostPort{{Host: taken, Port: 80, Protocol: api.UDP}}, fmt.Sprintf("host port %d/udp", taken), me)
		u.Close()
	}
	// Once it is given back, another process can have it.
	if err := n.Remove(t.Context(), "pone"); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Add(t.Context(), "ptwo", ports(host, 80)...); err != nil {
		t.Error(err)
	}
}

// TestUDPFollowsItsPort: a client that never stops sending reaches whatever process has the port
// now.
func TestUDPFollowsItsPort(t *testing.T) {
	n := open(t, "udp"+t.TempDir())
	defer func() { closed(t, n) }()
	const host = 27435
	client, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	to := &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: host}
	said := func() string {
		if _, err := client.WriteTo([]byte("?"), to); err != nil {
			return err.Error()
		}
		b := make([]byte, 64)
		client.SetReadDeadline(time.Now().Add(patience))
		k, from, err := client.ReadFrom(b)
		if err != nil {
			return err.Error()
		}
		name, _, _ := strings.Cut(string(b[:k]), " ")
		return name + " at " + from.String()
	}
	if _, err := client.WriteTo([]byte("too early"), to); err != nil {
		t.Fatal(err)
	}
	for _, id := range []api.ProcessID{"pone", "ptwo", "pthree"} {
		e, err := n.Add(t.Context(), id, ports(host, 53)...)
		if err != nil {
			t.Fatal(err)
		}
		answer(t, e, 53, string(id))
		if got := said(); got != fmt.Sprintf("%s at 127.0.0.1:%d", id, host) {
			t.Errorf("%s has the port: %s", id, got)
		}
		if err := n.Remove(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
}

// TestPortsOfAKilledAgent: whatever it left of its files, a new one starts, and leads a port
// nowhere but to the process that has it.
func TestPortsOfAKilledAgent(t *testing.T) {
	n := open(t, "killed"+t.TempDir())
	defer func() { closed(t, n) }()
	if _, err := n.Add(t.Context(), "pone", ports(27437, 80)...); err != nil {
		t.Fatal(err)
	}
	for name, doc := range map[string]string{".pone": "{", "pgone": `{"addr":"10.88.0.9","ports":[{"host":27438,"port":80,"protocol":"tcp"}]}`, "ptorn": `{"addr":`} {
		if err := os.WriteFile(filepath.Join(n.portsDir(), name), []byte(doc), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	again, err := New(t.Context(), n.cfg)
	if err != nil {
		t.Fatal(err)
	}
	n = again
	if rules := n.rules(); !strings.Contains(rules, "27437") || strings.Contains(rules, "27438") {
		t.Errorf("rules:\n%s", rules)
	}
	left, err := os.ReadDir(n.portsDir())
	if err != nil || len(left) != 1 || left[0].Name() != "pone" {
		t.Errorf("files %v, %v", left, err)
	}
}

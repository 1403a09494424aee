package network

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"slipway/api"
)

// host is a machine of its own: a network namespace whose eth0 leads to a switch that others are
// on. Its kernel checks sources strictly, as some distributions have it.
type host struct {
	t   *testing.T
	ns  string
	cfg Config
	*Network
}

// machines makes hosts on one switch, each with a subnet of the rack's network. Nothing of them is
// left at the end. No other test sees them: those that have hosts run in parallel.
func machines(t *testing.T, count int, direct Direct) []*host {
	t.Helper()
	if os.Geteuid() != 0 || testing.Short() {
		t.Skip("needs root")
	}
	dir := t.TempDir()
	wire := namespace(t, filepath.Join(dir, "switch"))
	commands(t, wire, "ip link add br0 type bridge", "ip link set br0 up")
	var out []*host
	for i := 1; i <= count; i++ {
		h := &host{t: t, ns: namespace(t, filepath.Join(dir, fmt.Sprint("host", i)))}
		commands(t, h.ns,
			fmt.Sprintf("ip link add eth0 type veth peer name p%d netns %s", i, wire), fmt.Sprintf("ip addr add 10.99.0.%d/24 dev eth0", 10+i),
			"ip link set eth0 up", "ip link set lo up", "sysctl -q -w net.ipv4.conf.all.rp_filter=1")
		commands(t, wire, fmt.Sprintf("ip link set p%d master br0 up", i))
		h.cfg = Config{
			Name: dir, Dir: filepath.Join(dir, fmt.Sprint("run", i)), Domain: "test.local", Direct: direct, dmi: dir,
			Cluster: netip.MustParsePrefix("10.88.0.0/16"), Subnet: netip.MustParsePrefix(fmt.Sprintf("10.88.%d.0/24", i)),
			Underlay: netip.MustParseAddr(fmt.Sprintf("10.99.0.%d", 10+i)),
		}
		out = append(out, h)
	}
	return out
}

// rack opens the network of every host and makes all peers of all.
func rack(t *testing.T, count int, direct Direct) ([]*host, []Peer) {
	t.Helper()
	hosts := machines(t, count, direct)
	peers := peersOf(hosts)
	for _, h := range hosts {
		h.open()
		h.set(peers)
	}
	return hosts, peers
}

func peersOf(hosts []*host) (out []Peer) {
	for i, h := range hosts {
		out = append(out, Peer{fmt.Sprint("n", i+1), h.cfg.Underlay, h.cfg.Subnet})
	}
	return out
}

// namespace makes one that goes with the test.
func namespace(t *testing.T, path string) string {
	t.Helper()
	if err := createNamespace(path); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(path, unix.MNT_DETACH); err != nil { // a program that is just being started still holds what its parent had open
			t.Errorf("unmount %s: %v", path, err)
		}
	})
	return path
}

// commands runs lines in a namespace.
func commands(t *testing.T, ns string, lines ...string) string {
	t.Helper()
	var all strings.Builder
	for _, line := range lines {
		out, err := exec.Command("nsenter", append([]string{"--net=" + ns}, strings.Fields(line)...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v: %s", line, err, out)
		}
		all.Write(out)
	}
	return all.String()
}

// do runs f on a thread of the host.
func (h *host) do(f func() error) {
	h.t.Helper()
	if err := within(h.t, h.ns, f); err != nil {
		h.t.Fatal(err)
	}
}

// open makes the network of the host, or takes it over as a new agent does.
func (h *host) open() {
	h.t.Helper()
	first := h.Network == nil
	h.do(func() (err error) { h.Network, err = New(h.t.Context(), h.cfg); return err })
	if first {
		h.t.Cleanup(func() {
			if err := within(h.t, h.ns, func() error { return h.Close(context.Background()) }); err != nil {
				h.t.Error(err)
			}
		})
	}
}

func (h *host) set(peers []Peer) {
	h.t.Helper()
	h.do(func() error { return h.SetPeers(h.t.Context(), peers) })
}

// process makes the network of one, in which port 80 answers with its name.
func (h *host) process(id api.ProcessID, ports ...api.HostPort) Endpoint {
	h.t.Helper()
	var e Endpoint
	h.do(func() (err error) { e, err = h.Add(h.t.Context(), id, ports...); return err })
	answer(h.t, e, 80, string(id))
	return e
}

// state is all of a host's network that a Network may change.
func (h *host) state() string {
	h.t.Helper()
	return commands(h.t, h.ns, "ip -br link", "ip -4 addr", "ip -4 route show table all", "ip -4 rule", "ip neigh show nud permanent", "nft list tables")
}

// echo sends bytes to port 80 of an address and compares what comes back.
func echo(t *testing.T, from, addr string, size int) error {
	t.Helper()
	var c net.Conn
	if err := within(t, from, func() (err error) { c, err = net.DialTimeout("tcp4", addr+":80", patience); return err }); err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	sent := make([]byte, size)
	for i := range sent {
		sent[i] = byte(i * 7 >> 3)
	}
	wrote := make(chan error, 1)
	go func() {
		_, err := c.Write(sent)
		wrote <- err
		c.(*net.TCPConn).CloseWrite()
	}()
	got, err := io.ReadAll(c)
	if err != nil {
		return err
	}
	if err := <-wrote; err != nil {
		return err
	}
	if i := slices.Index(got, '\n'); i < 0 || !slices.Equal(got[i+1:], sent) {
		return fmt.Errorf("%d bytes came back, of %d", len(got), size)
	}
	return nil
}

// mtuOf reads the MTU of a link in a namespace.
func mtuOf(t *testing.T, ns, link string) int {
	t.Helper()
	fd, err := netns.GetFromPath(ns)
	if err != nil {
		t.Fatal(err)
	}
	defer fd.Close()
	handle, err := netlink.NewHandleAt(fd)
	if err != nil {
		t.Fatal(err)
	}
	defer handle.Close()
	l, err := handle.LinkByName(link)
	if err != nil {
		t.Fatalf("%s: %v", link, err)
	}
	return l.Attrs().MTU
}

package main

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"

	"slipway/api"
)

// Ports of a rack, beside those of its routers.
const (
	clientPort   = 7420
	registryPort = 7421
	raftPort     = 7422
	metricsPort  = 7423
	gossipPort   = 7424
	vxlanPort    = 4789
)

// portsOf lists what a role listens on.
func portsOf(o *checkOptions) (out []portFact) {
	add := func(protocol api.Protocol, port int, use, flag string) {
		out = append(out, portFact{protocol: protocol, port: port, use: use, flag: flag})
	}
	if o.role.serves() {
		add(api.TCP, clientPort, "clients and agents", "addr")
		add(api.TCP, registryPort, "the registry and metrics of the server", "registry-addr")
		add(api.TCP, raftPort, "the other servers", "raft-addr")
	}
	if o.role == roleServer {
		add(api.TCP, gossipPort, "gossip of the servers", "gossip-addr")
		add(api.UDP, gossipPort, "gossip of the servers", "gossip-addr")
	}
	if o.role.runs() {
		add(api.TCP, metricsPort, "metrics of the node", "metrics-addr")
		add(api.TCP, o.http, "HTTP to apps", "http")
		add(api.TCP, o.https, "HTTPS to apps", "https")
	}
	if o.role == roleAgent {
		add(api.UDP, vxlanPort, "the network between processes", "")
	}
	return out
}

// tryPorts takes each port and gives it back.
func tryPorts(ctx context.Context, o *checkOptions) []portFact {
	out := portsOf(o)
	for i := range out {
		p := &out[i]
		host := o.listen
		if p.port == metricsPort {
			host = "127.0.0.1"
		}
		if err := tryPort(ctx, p.protocol, net.JoinHostPort(host, strconv.Itoa(p.port))); err != nil {
			p.err = err.Error()
			if errors.Is(err, syscall.EADDRINUSE) {
				p.holder = findHolder(p.protocol, host, p.port)
			}
		}
	}
	return out
}

func tryPort(ctx context.Context, protocol api.Protocol, addr string) error {
	var c net.ListenConfig
	if protocol == api.UDP {
		l, err := c.ListenPacket(ctx, "udp", addr)
		if err != nil {
			return err
		}
		return l.Close()
	}
	l, err := c.Listen(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	return l.Close()
}

// findHolder finds out who has a port of an address, of any if it is "", as well as it can be known.
func findHolder(protocol api.Protocol, host string, port int) holder {
	for _, version := range []string{"", "6"} {
		if inode := boundInode("/proc/self/net/"+string(protocol)+version, protocol, host, port); inode != "" && inode != "0" {
			return holderOf(inode)
		}
	}
	if protocol != api.UDP {
		return holder{}
	}
	links, err := netlink.LinkList()
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) { // what changed meanwhile may be missed
		return holder{}
	}
	for _, l := range links {
		if vx, ok := l.(*netlink.Vxlan); ok && vx.Port == port {
			return holder{device: vx.Name}
		}
	}
	return holder{}
}

// boundInode finds the socket without a peer on a port, in a file such as /proc/net/tcp. One that
// is bound to another address of IPv4 than host is not in the way.
func boundInode(file string, protocol api.Protocol, host string, port int) string {
	// States of sockets that have no peer (net/tcp_states.h): TCP listens, UDP is "closed".
	waiting := map[api.Protocol]string{api.TCP: "0A", api.UDP: "07"}[protocol]
	f, err := os.Open(file)
	if err != nil {
		return ""
	}
	defer f.Close()
	suffix := fmt.Sprintf(":%04X", port)
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) < 10 || fields[3] != waiting || !strings.HasSuffix(fields[1], suffix) {
			continue
		}
		at := strings.TrimSuffix(fields[1], suffix)
		if ip := net.ParseIP(host).To4(); ip == nil || len(at) != 8 || at == "00000000" || at == fmt.Sprintf("%02X%02X%02X%02X", ip[3], ip[2], ip[1], ip[0]) {
			return fields[9]
		}
	}
	return ""
}

// holderOf finds the process that has a socket, and the unit that it belongs to.
func holderOf(inode string) (h holder) {
	want := "socket:[" + inode + "]"
	links, _ := filepath.Glob("/proc/[0-9]*/fd/*") // the pattern is well formed
	for _, link := range links {
		if to, err := os.Readlink(link); err != nil || to != want {
			continue
		}
		dir := filepath.Dir(filepath.Dir(link))
		h.pid, _ = strconv.Atoi(filepath.Base(dir)) // digits, by the pattern
		name, _ := os.ReadFile(filepath.Join(dir, "comm"))
		h.program = cmp.Or(strings.TrimSpace(string(name)), "a program")
		groups, _ := os.ReadFile(filepath.Join(dir, "cgroup"))
		h.unit = unitOf(string(groups))
		return h
	}
	return h
}

// unitOf finds the unit of systemd in what /proc/<pid>/cgroup holds.
func unitOf(groups string) string {
	for line := range strings.Lines(groups) {
		for part := range strings.SplitSeq(strings.TrimSpace(line), "/") {
			if strings.HasSuffix(part, ".service") && !strings.HasPrefix(part, "user@") {
				return part
			}
		}
	}
	return ""
}

// ourLink reports whether a link belongs to the network of a rack: its bridge or its overlay.
func ourLink(name string) bool {
	return strings.HasPrefix(name, "slw") || strings.HasPrefix(name, "slx")
}

// overlaps lists the routes that lead to addresses of a network, those of a rack's own devices
// left out.
func overlaps(network netip.Prefix) (out []routeFact) {
	routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) { // what changed meanwhile may be missed
		return nil
	}
	for _, r := range routes {
		if r.Dst == nil {
			continue
		}
		to, err := netip.ParsePrefix(r.Dst.String())
		if err != nil || to.Bits() == 0 || !to.Overlaps(network) {
			continue
		}
		link, err := netlink.LinkByIndex(r.LinkIndex)
		if err != nil || ourLink(link.Attrs().Name) {
			continue
		}
		out = append(out, routeFact{to: to, link: link.Attrs().Name})
	}
	return out
}

// What a peer is asked.
const (
	dialMax   = 3 * time.Second
	dialCount = 5
)

// splitPeer takes an address apart that was checked before.
func splitPeer(addr string) (host, port string) {
	host, port, _ = net.SplitHostPort(addr)
	return host, port
}

// askPeers reaches for all peers at once.
func askPeers(ctx context.Context, addrs []string) []peerFact {
	out := make([]peerFact, len(addrs))
	var group sync.WaitGroup
	for i, addr := range addrs {
		group.Go(func() { out[i] = askPeer(ctx, addr) })
	}
	group.Wait()
	return out
}

func askPeer(ctx context.Context, addr string) peerFact {
	host, port := splitPeer(addr)
	p := peerFact{addr: addr, link: linkTo(host)}
	d := net.Dialer{Timeout: dialMax}
	for range dialCount {
		start := time.Now()
		conn, err := d.DialContext(ctx, "tcp", addr)
		if err != nil {
			p.err, p.cause = kindOf(err), err.Error()
			return p
		}
		p.trips = append(p.trips, time.Since(start))
		_ = conn.Close() // nothing was sent
	}
	slices.Sort(p.trips)
	p.dated = p.askTime(ctx, net.JoinHostPort(host, strconv.Itoa(registryPort)))
	if n, err := strconv.Atoi(port); !p.dated && (err != nil || !slices.Contains([]int{clientPort, registryPort, raftPort, gossipPort}, n)) {
		p.dated = p.askTime(ctx, addr) // a registry on a port of its own
	}
	return p
}

// kindOf sorts errors of connecting.
func kindOf(err error) dialError {
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return dialUnknown
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		return dialRefused
	}
	if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
		return dialSilent
	}
	return dialOther
}

// askTime compares clocks by the date in an answer of a peer's registry, which is cut to whole
// seconds. The peer is not verified, for there may be no rack yet to verify it with: nothing is
// told to it, and its answer goes into a finding only.
func (p *peerFact) askTime(ctx context.Context, addr string) bool {
	ctx, cancel := context.WithTimeout(ctx, dialMax)
	defer cancel()
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} //nolint:gosec // see above
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, "https://"+addr+"/", nil)
	if err != nil {
		return false
	}
	start := time.Now()
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return false
	}
	_ = resp.Body.Close() // HEAD has none
	took := time.Since(start)
	date, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		return false
	}
	p.offset = date.Add(time.Second / 2).Sub(start.Add(took / 2))
	p.precision = time.Second/2 + took/2
	return true
}

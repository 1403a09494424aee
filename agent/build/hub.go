package build

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// The hub is the network namespace of the engine. Steps hang on its bridge; nothing else in it
// leads anywhere, so these addresses collide with nobody's.
const (
	bridgeName = "build0"
	hubPrefix  = "10.254.0.0/16"
	hubAddr    = "10.254.0.1"
	hubBits    = 16
	relayPort  = 1
	dnsPort    = 53
)

// hubRules send every TCP connection of steps and engine to the relay, and refuse the rest of
// what steps send, so that a step fails at once where it would wait.
var hubRules = fmt.Sprintf(`table ip build {
	chain redirect_steps {
		type nat hook prerouting priority -100;
		iifname %[1]q meta l4proto tcp redirect to :%[2]d
	}
	chain redirect_engine {
		type nat hook output priority -100;
		ip daddr != 127.0.0.0/8 meta l4proto tcp redirect to :%[2]d
	}
	chain refuse {
		type filter hook prerouting priority -150;
		iifname %[1]q meta l4proto tcp accept
		iifname %[1]q ip daddr %[3]s udp dport %[4]d accept
		iifname %[1]q ip protocol udp reject
		iifname %[1]q drop
	}
}
`, bridgeName, relayPort, hubAddr, dnsPort)

// makeHub sets up the namespace that this process was started in.
func makeHub(ctx context.Context) error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("loopback: %w", err)
	}
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: bridgeName}}
	if err := netlink.LinkAdd(bridge); err != nil {
		return fmt.Errorf("bridge: %w", err)
	}
	addr := &netlink.Addr{IPNet: &net.IPNet{IP: net.ParseIP(hubAddr), Mask: net.CIDRMask(hubBits, 32)}}
	if err := netlink.AddrAdd(bridge, addr); err != nil {
		return fmt.Errorf("bridge address: %w", err)
	}
	if err := netlink.LinkSetUp(bridge); err != nil {
		return fmt.Errorf("bridge: %w", err)
	}
	// The route only lets connections of the engine begin; the rules catch them before they
	// reach the bridge.
	route := &netlink.Route{LinkIndex: bridge.Attrs().Index, Scope: netlink.SCOPE_LINK}
	route.Dst = &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}
	if err := netlink.RouteAdd(route); err != nil {
		return fmt.Errorf("default route: %w", err)
	}
	nft := exec.CommandContext(ctx, "nft", "-f", "-")
	nft.Stdin = strings.NewReader(hubRules)
	if out, err := nft.CombinedOutput(); err != nil {
		return fmt.Errorf("nft: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

// relay carries the connections of the hub to the outside, from the machine's own namespace,
// as far as egress allows.
type relay struct {
	host    hostNet
	egress  egress
	servers []string // the machine's name servers, host:port
}

// connectionsMax bounds the connections, and the name queries, that are relayed at once. More
// wait in the kernel's queue.
const connectionsMax = 1024

// run serves until ctx ends.
func (r *relay) run(ctx context.Context) error {
	tcp, err := net.Listen("tcp4", fmt.Sprintf("0.0.0.0:%d", relayPort))
	if err != nil {
		return err
	}
	udp, err := net.ListenPacket("udp4", net.JoinHostPort(hubAddr, fmt.Sprint(dnsPort)))
	if err != nil {
		tcp.Close()
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		<-ctx.Done()
		return errors.Join(tcp.Close(), udp.Close())
	})
	group.Go(func() error { return r.serveTCP(ctx, tcp) })
	group.Go(func() error { return r.serveDNS(ctx, udp) })
	if err := group.Wait(); ctx.Err() == nil || err != nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

func (r *relay) serveTCP(ctx context.Context, l net.Listener) error {
	var group errgroup.Group
	group.SetLimit(connectionsMax)
	defer group.Wait() //nolint:errcheck // connections fail on their own
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		group.Go(func() error {
			defer conn.Close()
			return r.carry(ctx, conn.(*net.TCPConn))
		})
	}
}

// carry joins one connection with the one it was meant to be. A refused destination closes
// it, which a client sees as "connection reset" or an empty answer.
func (r *relay) carry(ctx context.Context, in *net.TCPConn) error {
	dst, err := originalDst(in)
	if err != nil {
		return err
	}
	addr := dst.String()
	if dst.Addr().String() == hubAddr && dst.Port() == dnsPort && len(r.servers) > 0 {
		addr = r.servers[0]
	} else if err := r.egress.check(dst.Addr()); err != nil {
		return in.SetLinger(0) // Close sends a reset
	}
	out, err := r.host.dial(ctx, "tcp", addr)
	if err != nil {
		return in.SetLinger(0)
	}
	defer out.Close()
	return join(ctx, in, out.(*net.TCPConn))
}

// join copies both ways until both have ended, or ctx has.
func join(ctx context.Context, a, b *net.TCPConn) error {
	stop := context.AfterFunc(ctx, func() { a.Close(); b.Close() })
	defer stop()
	var group errgroup.Group
	pipe := func(dst, src *net.TCPConn) func() error {
		return func() error {
			_, err := dst.ReadFrom(src)
			if err != nil {
				// One broken half breaks the other, which may wait for ever otherwise.
				a.Close()
				b.Close()
				return err
			}
			return dst.CloseWrite()
		}
	}
	group.Go(pipe(a, b))
	group.Go(pipe(b, a))
	return group.Wait()
}

// originalDst returns where a redirected connection wanted to go (SO_ORIGINAL_DST of
// netfilter, a sockaddr_in).
func originalDst(c *net.TCPConn) (netip.AddrPort, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return netip.AddrPort{}, err
	}
	var sockaddr [16]byte
	var failed error
	err = raw.Control(func(fd uintptr) {
		var v *unix.IPv6Mreq // 20 bytes, of which the first 16 are the address
		if v, failed = unix.GetsockoptIPv6Mreq(int(fd), unix.IPPROTO_IP, unix.SO_ORIGINAL_DST); failed == nil {
			sockaddr = v.Multiaddr
		}
	})
	if err := errors.Join(err, failed); err != nil {
		return netip.AddrPort{}, err
	}
	port := uint16(sockaddr[2])<<8 | uint16(sockaddr[3])
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(sockaddr[4:8])), port), nil
}

// nameServers reads those of a resolv.conf.
func nameServers(file string) []string {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil
	}
	var out []string
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) >= 2 && f[0] == "nameserver" {
			out = append(out, net.JoinHostPort(f[1], fmt.Sprint(dnsPort)))
		}
	}
	return out
}

package network

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"slipway/api"
)

// mtu of bridge and processes.
const mtu = 1500

// Config is what a Network is made of.
type Config struct {
	// Name tells racks on one machine apart; bridge, table and directory carry it.
	Name string
	// Subnet of the bridge; its first address is the gateway. The zero value finds a free one
	// below 10.88.0.0/13 and keeps it in Dir.
	Subnet netip.Prefix
	// Dir holds the namespaces; it is gone after a reboot, as they are.
	Dir string
	// Domain is what names are searched in: <app>.<Domain>.
	Domain string
	Log    *slog.Logger
}

// Network is the network of one node.
type Network struct {
	cfg    Config
	bridge string
	table  string

	mu    sync.Mutex // guards creation and removal: addresses are chosen from what exists
	last  netip.Addr // the newest address given out; the next search begins behind it
	ports map[api.ProcessID]published
}

// Endpoint is the network of one process.
type Endpoint struct {
	NetNS    string // path of the namespace
	Addr     netip.Addr
	Gateway  netip.Addr
	Hostname string
}

// New makes bridge and rules, or finds those of before.
func New(ctx context.Context, cfg Config) (*Network, error) {
	h := fnv.New32a()
	h.Write([]byte(cfg.Name))
	tag := fmt.Sprintf("%08x", h.Sum32())
	n := &Network{cfg: cfg, bridge: "slw" + tag, table: "slipway_" + tag}
	for _, dir := range []string{n.namespaces(), n.portsDir()} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, fmt.Errorf("network: %w", err)
		}
	}
	if err := n.chooseSubnet(); err != nil {
		return nil, err
	}
	if err := n.ensureBridge(); err != nil {
		return nil, err
	}
	if err := n.loadPorts(); err != nil {
		return nil, err
	}
	return n, n.applyRules(ctx)
}

func (n *Network) namespaces() string { return filepath.Join(n.cfg.Dir, "netns") }

// Gateway is the node's address on the bridge.
func (n *Network) Gateway() netip.Addr { return n.cfg.Subnet.Masked().Addr().Next() }

// Subnet is where the addresses of processes come from.
func (n *Network) Subnet() netip.Prefix { return n.cfg.Subnet }

// Bridge is the name of the bridge.
func (n *Network) Bridge() string { return n.bridge }

// chooseSubnet takes the subnet of the bridge that exists, or the first /20 of 10.88.0.0/13
// that overlaps nothing the node has an address or a route in.
func (n *Network) chooseSubnet() error {
	if n.cfg.Subnet.IsValid() {
		return nil
	}
	if link, err := netlink.LinkByName(n.bridge); err == nil {
		addrs, err := netlink.AddrList(link, netlink.FAMILY_V4)
		if err == nil && len(addrs) == 1 {
			ones, _ := addrs[0].Mask.Size()
			if ip, ok := netip.AddrFromSlice(addrs[0].IP.To4()); ok {
				n.cfg.Subnet = netip.PrefixFrom(ip, ones).Masked()
				return nil
			}
		}
	}
	taken, err := takenPrefixes()
	if err != nil {
		return err
	}
	h := fnv.New32a()
	h.Write([]byte(n.cfg.Name))
	const blocks = 128 // /20 in a /13
	for i := range uint32(blocks) {
		block := (h.Sum32() + i) % blocks
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(88 + block/16), byte(block % 16 * 16), 0}), 20)
		free := true
		for _, t := range taken {
			free = free && !t.Overlaps(p)
		}
		if free {
			n.cfg.Subnet = p
			return nil
		}
	}
	return api.Errorf(api.CodeExhausted, "no free subnet below 10.88.0.0/13; choose one with --subnet")
}

// takenPrefixes lists what the node's routes lead to.
func takenPrefixes() ([]netip.Prefix, error) {
	routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	var out []netip.Prefix
	for _, r := range routes {
		if r.Dst == nil {
			continue
		}
		ones, _ := r.Dst.Mask.Size()
		if ip, ok := netip.AddrFromSlice(r.Dst.IP.To4()); ok && ones > 0 {
			out = append(out, netip.PrefixFrom(ip, ones))
		}
	}
	return out, nil
}

// ensureBridge makes the bridge with the gateway's address on it.
func (n *Network) ensureBridge() error {
	mac := bridgeMAC(n.bridge)
	link, err := netlink.LinkByName(n.bridge)
	if err != nil {
		link = &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: n.bridge, MTU: mtu, HardwareAddr: mac}}
		err = netlink.LinkAdd(link)
	} else if !bytes.Equal(link.Attrs().HardwareAddr, mac) {
		err = netlink.LinkSetHardwareAddr(link, mac)
	}
	if err != nil {
		return fmt.Errorf("create bridge %s: %w", n.bridge, err)
	}
	addr := &netlink.Addr{IPNet: ipNet(n.Gateway(), n.cfg.Subnet.Bits())}
	if err := netlink.AddrReplace(link, addr); err != nil {
		return fmt.Errorf("address of bridge %s: %w", n.bridge, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("bridge %s: %w", n.bridge, err)
	}
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644); err != nil {
		return fmt.Errorf("switch on IP forwarding: %w", err)
	}
	// Ports of the node lead to processes from its loopback as well. Nothing else gets in this
	// way: the input chain drops what processes send to the node.
	if err := os.WriteFile("/proc/sys/net/ipv4/conf/"+n.bridge+"/route_localnet", []byte("1"), 0o644); err != nil {
		return fmt.Errorf("let the loopback address reach bridge %s: %w", n.bridge, err)
	}
	return nil
}

// bridgeMAC is the hardware address of a bridge: its own, locally administered. A bridge without
// one takes the lowest of its ports, and when a process that starts or ends changes that, all
// others talk to the old one until they ask again: their connections stand still for 200 ms and
// more.
func bridgeMAC(name string) net.HardwareAddr {
	h := fnv.New64a()
	h.Write([]byte(name))
	mac := binary.BigEndian.AppendUint64(nil, h.Sum64())[:6]
	mac[0] = mac[0]&^1 | 2 // unicast, locally administered
	return mac
}

func ipNet(a netip.Addr, bits int) *net.IPNet {
	return &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(bits, 32)}
}

// Close removes everything: namespaces, bridge and rules. Processes lose their network.
func (n *Network) Close(ctx context.Context) error {
	err := n.Collect(ctx, nil)
	if link, missing := netlink.LinkByName(n.bridge); missing == nil {
		err = errors.Join(err, netlink.LinkDel(link))
	}
	err = errors.Join(err, n.dropRules(ctx))
	for _, dir := range []string{n.namespaces(), n.portsDir(), n.cfg.Dir} {
		if again := os.Remove(dir); again != nil && !errors.Is(again, fs.ErrNotExist) && !errors.Is(again, unix.ENOTEMPTY) {
			err = errors.Join(err, again)
		}
	}
	if err != nil {
		return fmt.Errorf("remove network %s: %w", n.bridge, err)
	}
	return nil
}

// Collect removes the namespaces and ports of processes that are not known.
func (n *Network) Collect(ctx context.Context, known map[api.ProcessID]bool) error {
	entries, err := os.ReadDir(n.namespaces())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("list namespaces: %w", err)
	}
	there := map[api.ProcessID]bool{}
	for _, e := range entries {
		there[api.ProcessID(e.Name())] = !strings.HasPrefix(e.Name(), ".")
	}
	n.mu.Lock()
	for id := range n.ports {
		there[id] = true
	}
	n.mu.Unlock()
	var failed error
	for id, remove := range there {
		if remove && !known[id] {
			failed = errors.Join(failed, n.Remove(ctx, id))
		}
	}
	return failed
}

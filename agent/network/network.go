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

// Config is what a Network is made of.
type Config struct {
	// Name tells racks on one machine apart; bridge, table and directory carry it.
	Name string
	// Subnet of the bridge; its first address is the gateway. The zero value finds a free one
	// below 10.88.0.0/13, and finds it again as long as the bridge is there. With a Cluster it
	// has to be given.
	Subnet netip.Prefix
	// Cluster holds the addresses of all processes of the rack; every node has a subnet of it.
	// The zero value is a rack of one node.
	Cluster netip.Prefix
	// Rack is the same on all nodes of a rack, and no other's: packets between nodes carry a
	// number made of it. "" is Name.
	Rack string
	// Underlay is where the other nodes reach this one: an IPv4 address of the machine.
	Underlay netip.Addr
	// Direct says whether a peer on the same link is reached without the overlay.
	Direct Direct
	// Port is the UDP port of the overlay; 0 is 4789.
	Port uint16
	// Dir holds the namespaces, the peers and what is known of addresses; it is gone after a
	// reboot, as they are.
	Dir string
	// Domain is what names are searched in: <app>.<Domain>.
	Domain string
	Log    *slog.Logger

	dmi string // where the kernel tells who made the machine
}

// Network is the network of one node.
type Network struct {
	cfg     Config
	bridge  string
	overlay string
	table   string
	routing int // the kernel's table of routes for what processes send to other nodes

	mu    sync.Mutex // guards creation and removal: addresses are chosen from what exists
	mtu   int        // of bridge and processes, in bytes
	last  netip.Addr // the newest address given out; the next search begins behind it
	ports map[api.ProcessID]published
	peers []Peer
	// listed is the table of rules as the kernel shows it; "" after it was written, until it is
	// looked at.
	listed string
}

// Endpoint is the network of one process.
type Endpoint struct {
	NetNS    string // path of the namespace
	Addr     netip.Addr
	Gateway  netip.Addr
	Hostname string
}

// New makes bridge, overlay and rules, or finds those of before, with the peers of before.
// Whoever lives on them notices nothing. It fails with CodeConflict when the node has processes
// in another subnet than the one it is given.
func New(ctx context.Context, cfg Config) (*Network, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	h := fnv.New32a()
	h.Write([]byte(cfg.Name))
	tag := fmt.Sprintf("%08x", h.Sum32())
	n := &Network{
		cfg: cfg, bridge: "slw" + tag, overlay: "slx" + tag, table: "slipway_" + tag,
		routing: 1<<30 | int(h.Sum32()>>2), // far from those that people number
	}
	for _, dir := range []string{n.namespaces(), n.portsDir()} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, fmt.Errorf("network: %w", err)
		}
	}
	if err := n.settle(); err != nil {
		return nil, err
	}
	if err := n.ensureBridge(); err != nil {
		return nil, err
	}
	if err := n.loadPorts(); err != nil {
		return nil, err
	}
	n.loadLast()
	n.loadPeers()
	if err := n.reconcile(ctx); errors.As(err, new(unreached)) {
		// The link to a peer may not be up yet. The next SetPeers will do it, or Run.
		n.cfg.Log.Warn("peers of before not all reached", "err", err)
	} else if err != nil {
		return nil, err
	}
	return n, nil
}

func (n *Network) namespaces() string { return filepath.Join(n.cfg.Dir, "netns") }

// Gateway is the node's address on the bridge.
func (n *Network) Gateway() netip.Addr { return n.cfg.Subnet.Masked().Addr().Next() }

// Subnet is where the addresses of processes come from.
func (n *Network) Subnet() netip.Prefix { return n.cfg.Subnet }

// Cluster is where the addresses of all processes of the rack come from; for a node alone, that is
// its subnet.
func (n *Network) Cluster() netip.Prefix {
	if n.cfg.Cluster.IsValid() {
		return n.cfg.Cluster
	}
	return n.cfg.Subnet
}

// Bridge is the name of the bridge.
func (n *Network) Bridge() string { return n.bridge }

// ensureBridge makes the bridge with the gateway's address on it, and no other.
func (n *Network) ensureBridge() error {
	mac := bridgeMAC(n.bridge)
	link, err := netlink.LinkByName(n.bridge)
	if err != nil {
		link = &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: n.bridge, MTU: mtuAlone, HardwareAddr: mac}}
		err = netlink.LinkAdd(link)
	} else if !bytes.Equal(link.Attrs().HardwareAddr, mac) {
		err = netlink.LinkSetHardwareAddr(link, mac)
	}
	if err != nil {
		return fmt.Errorf("create bridge %s: %w", n.bridge, err)
	}
	if err := address(link, ipNet(n.Gateway(), n.cfg.Subnet.Bits())); err != nil {
		return fmt.Errorf("bridge: %w", err)
	}
	if err := noIPv6(n.bridge); err != nil {
		return err
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

// address gives a link this address and takes all others away; routes that were bound to those go
// with them.
func address(link netlink.Link, want *net.IPNet) error {
	name := link.Attrs().Name
	there, err := netlink.AddrList(link, netlink.FAMILY_V4)
	if err != nil {
		return fmt.Errorf("addresses of %s: %w", name, err)
	}
	for _, a := range there {
		if a.IPNet.String() == want.String() {
			continue
		}
		if err := netlink.AddrDel(link, &a); err != nil {
			return fmt.Errorf("address %s of %s: %w", a.IPNet, name, err)
		}
	}
	if err := netlink.AddrReplace(link, &netlink.Addr{IPNet: want}); err != nil {
		return fmt.Errorf("address %s of %s: %w", want, name, err)
	}
	return nil
}

// noIPv6 keeps a link of the node without IPv6: processes would reach the node's programs by its
// link-local address, past all rules.
func noIPv6(link string) error {
	err := os.WriteFile("/proc/sys/net/ipv6/conf/"+link+"/disable_ipv6", []byte("1"), 0o644)
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // a kernel without IPv6
		return fmt.Errorf("keep link %s without IPv6: %w", link, err)
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

// Close removes everything: namespaces, bridge, overlay, routes and rules. Processes lose their
// network.
func (n *Network) Close(ctx context.Context) error {
	err := n.Collect(ctx, nil)
	if link, missing := netlink.LinkByName(n.bridge); missing == nil {
		err = errors.Join(err, netlink.LinkDel(link))
	}
	err = errors.Join(err, n.dropOverlay(), n.dropRules(ctx))
	for _, dir := range []string{n.namespaces(), n.portsDir(), n.lastFile(), n.peersFile(), n.cfg.Dir} {
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

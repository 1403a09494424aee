package network

import (
	"bytes"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"slipway/api"
)

const (
	mtuAlone     = 1500 // of a rack of one node, in bytes
	overhead     = 50   // of one packet in another by vxlan over IPv4, in bytes
	portDefault  = 4789 // of vxlan (RFC 7348)
	rulePriority = 10088
)

// Direct says how a peer on the same link is reached.
type Direct string

const (
	// DirectAuto reaches it without the overlay, except on machines of clouds whose networks
	// drop what has the source address of a process.
	DirectAuto Direct = "auto"
	// DirectNever always takes the overlay.
	DirectNever Direct = "never"
)

// complete fills in what a Config leaves open and refuses what cannot work.
func (c *Config) complete() error {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Rack == "" {
		c.Rack = c.Name
	}
	if c.Port == 0 {
		c.Port = portDefault
	}
	if c.Direct == "" {
		c.Direct = DirectAuto
	}
	if c.dmi == "" {
		c.dmi = "/sys/class/dmi/id"
	}
	c.Subnet = c.Subnet.Masked()
	if !c.Cluster.IsValid() {
		return nil
	}
	c.Cluster = c.Cluster.Masked()
	switch {
	case c.Direct != DirectAuto && c.Direct != DirectNever:
		return api.Errorf(api.CodeInvalid, "direct routes %q: say %q or %q", c.Direct, DirectAuto, DirectNever)
	case !c.Cluster.Addr().Is4() || !c.Subnet.IsValid() || !inside(c.Subnet, c.Cluster):
		return api.Errorf(api.CodeInvalid, "the subnet %s of this node is no IPv4 subnet of the rack's network %s", c.Subnet, c.Cluster)
	case !c.Underlay.Is4():
		return api.Errorf(api.CodeInvalid, "the address %s of this node is no IPv4 address; start the agent with one that other nodes reach", c.Underlay)
	case c.Cluster.Contains(c.Underlay):
		return api.Errorf(api.CodeInvalid, "the address %s of this node lies inside the rack's network %s; give the rack another network", c.Underlay, c.Cluster)
	}
	if c.Direct == DirectAuto && filtersSources(c.dmi) {
		c.Direct = DirectNever
	}
	return nil
}

// filtersSources reports whether the machine is one of a cloud that drops packets whose source is
// not the machine's address, unless it is told otherwise.
func filtersSources(dir string) bool {
	var made string
	for _, name := range []string{"sys_vendor", "bios_vendor", "product_name", "product_version"} {
		doc, _ := os.ReadFile(filepath.Join(dir, name)) // a machine without that one says less
		made += " " + strings.ToLower(string(doc))
	}
	for _, cloud := range []string{
		"amazon", "google", "microsoft corporation", "alibaba", "digitalocean", "hetzner", "openstack", "oraclecloud", "scaleway", "vultr", "akamai", "linode", "ovh",
	} {
		if strings.Contains(made, cloud) {
			return true
		}
	}
	return false
}

// vni is the number that packets of a rack carry between nodes: 24 bits, never 0.
func vni(rack string) int {
	h := fnv.New64a()
	h.Write([]byte(rack))
	return int(h.Sum64()%(1<<24-1)) + 1
}

// overlayMAC is the hardware address of a node's end of the overlay. It follows from the node's
// subnet, so that nodes need not tell one another.
func overlayMAC(subnet netip.Prefix) net.HardwareAddr {
	a := subnet.Masked().Addr().As4()
	return net.HardwareAddr{2, 'S', a[0], a[1], a[2], a[3]} // locally administered
}

// underlayMTU is the MTU of the link that has the node's address, in bytes. The loopback, of a rack
// on one machine, counts as an ordinary link: it is not what leads outside.
func (n *Network) underlayMTU() (int, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return 0, fmt.Errorf("list links: %w", err)
	}
	addrs, err := netlink.AddrList(nil, netlink.FAMILY_V4)
	if err != nil {
		return 0, fmt.Errorf("list addresses: %w", err)
	}
	for _, a := range addrs {
		if prefixOf(a.IPNet).Addr() != n.cfg.Underlay {
			continue
		}
		for _, l := range links {
			if l.Attrs().Index == a.LinkIndex {
				if l.Attrs().Flags&net.FlagLoopback != 0 {
					return mtuAlone, nil
				}
				return l.Attrs().MTU, nil
			}
		}
	}
	return 0, api.Errorf(api.CodeInvalid, "no link of this machine has the address %s, which other nodes would reach it by; start the agent with one that it has, or wait until it has that one", n.cfg.Underlay)
}

// ensureOverlay makes the vxlan device, or changes the one that is there as little as possible,
// and returns its index.
func (n *Network) ensureOverlay() (index int, err error) {
	want := &netlink.Vxlan{
		LinkAttrs: netlink.LinkAttrs{Name: n.overlay, MTU: n.mtu, HardwareAddr: overlayMAC(n.cfg.Subnet)},
		VxlanId:   vni(n.cfg.Rack), SrcAddr: n.cfg.Underlay.AsSlice(), Port: int(n.cfg.Port),
	}
	link, missing := netlink.LinkByName(n.overlay)
	if missing == nil && !sameOverlay(link, want) {
		if err := netlink.LinkDel(link); err != nil {
			return 0, fmt.Errorf("replace overlay %s: %w", n.overlay, err)
		}
		missing = unix.ENODEV
	}
	if missing != nil {
		switch err := netlink.LinkAdd(want); {
		case errors.Is(err, unix.EEXIST):
			return 0, api.Errorf(api.CodeConflict, "overlay %s: another device of this machine has number %d on UDP port %d; give the rack another port", n.overlay, want.VxlanId, want.Port)
		case err != nil:
			return 0, fmt.Errorf("create overlay %s: %w", n.overlay, err)
		}
		link = want
	}
	if !bytes.Equal(link.Attrs().HardwareAddr, want.HardwareAddr) {
		if err := netlink.LinkSetHardwareAddr(link, want.HardwareAddr); err != nil {
			return 0, fmt.Errorf("overlay %s: %w", n.overlay, err)
		}
	}
	if err := fit(link, n.mtu, netlink.LinkSetMTU); err != nil {
		return 0, fmt.Errorf("overlay %s: %w", n.overlay, err)
	}
	if err := noIPv6(n.overlay); err != nil {
		return 0, err
	}
	// The host of a peer answers processes over the overlay, by which this node itself would not send
	// to it: strict checks of sources, where the machine has them, must not drop that. The loose ones
	// want an address.
	if err := address(link, ipNet(n.cfg.Subnet.Addr(), 32)); err != nil {
		return 0, fmt.Errorf("overlay: %w", err)
	}
	if err := os.WriteFile("/proc/sys/net/ipv4/conf/"+n.overlay+"/rp_filter", []byte("2"), 0o644); err != nil {
		return 0, fmt.Errorf("overlay %s: %w", n.overlay, err)
	}
	switch err := netlink.LinkSetUp(link); {
	case errors.Is(err, unix.EADDRINUSE):
		return 0, api.Errorf(api.CodeConflict, "overlay %s: UDP port %d of the node is in use; stop what listens there, or give the rack another port", n.overlay, n.cfg.Port)
	case err != nil:
		return 0, fmt.Errorf("overlay %s: %w", n.overlay, err)
	}
	return link.Attrs().Index, nil
}

// sameOverlay reports whether a link differs from the wanted one only in what can be changed.
func sameOverlay(link netlink.Link, want *netlink.Vxlan) bool {
	have, ok := link.(*netlink.Vxlan)
	return ok && have.VxlanId == want.VxlanId && have.SrcAddr.Equal(want.SrcAddr) && have.Port == want.Port && !have.Learning
}

// dropOverlay removes device, routes and rule, of a rack that had peers once as well.
func (n *Network) dropOverlay() error {
	return errors.Join(n.dropDevice(), n.ensureRule(false), n.applyReach(0, reach{}))
}

func (n *Network) dropDevice() error {
	link, missing := netlink.LinkByName(n.overlay)
	if missing != nil {
		return nil
	}
	if err := netlink.LinkDel(link); err != nil {
		return fmt.Errorf("remove overlay %s: %w", n.overlay, err)
	}
	return nil
}

// resize makes bridge and processes use the MTU of the network.
func (n *Network) resize() error {
	bridge, err := netlink.LinkByName(n.bridge)
	if err != nil {
		return fmt.Errorf("bridge %s: %w", n.bridge, err)
	}
	if err := fit(bridge, n.mtu, netlink.LinkSetMTU); err != nil {
		return fmt.Errorf("bridge %s: %w", n.bridge, err)
	}
	links, err := netlink.LinkList()
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	var outside []netlink.Link
	for _, l := range links {
		if l.Attrs().MasterIndex == bridge.Attrs().Index && l.Attrs().MTU != n.mtu {
			outside = append(outside, l)
		}
	}
	if len(outside) == 0 {
		return nil
	}
	entries, err := os.ReadDir(n.namespaces())
	if err != nil {
		return fmt.Errorf("list namespaces: %w", err)
	}
	for _, e := range entries {
		// One that is half made gets its MTU with the rest.
		if err := n.resizeInside(filepath.Join(n.namespaces(), e.Name())); err != nil {
			n.cfg.Log.Debug("MTU of a process not set", "process", e.Name(), "err", err)
		}
	}
	// The node's ends come last: whoever is killed before will do both again.
	for _, l := range outside {
		if err := netlink.LinkSetMTU(l, n.mtu); err != nil && !errors.Is(err, unix.ENODEV) {
			return fmt.Errorf("link %s: %w", l.Attrs().Name, err)
		}
	}
	return nil
}

func (n *Network) resizeInside(path string) error {
	ns, err := netns.GetFromPath(path)
	if err != nil {
		return err
	}
	defer ns.Close()
	handle, err := netlink.NewHandleAt(ns)
	if err != nil {
		return err
	}
	defer handle.Close()
	link, err := handle.LinkByName("eth0")
	if err != nil {
		return err
	}
	return fit(link, n.mtu, handle.LinkSetMTU)
}

// fit sets the MTU of a link that has another.
func fit(link netlink.Link, mtu int, set func(netlink.Link, int) error) error {
	if link.Attrs().MTU == mtu {
		return nil
	}
	if err := set(link, mtu); err != nil {
		return fmt.Errorf("MTU %d: %w", mtu, err)
	}
	return nil
}

// prefixOf converts what the kernel says; the zero value for anything but IPv4.
func prefixOf(n *net.IPNet) netip.Prefix {
	if n == nil {
		return netip.Prefix{}
	}
	ones, _ := n.Mask.Size()
	a, _ := netip.AddrFromSlice(n.IP.To4())
	return netip.PrefixFrom(a, ones)
}

func addrOf(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip.To4())
	return a
}

// inside reports whether a lies in b and is not the whole of it.
func inside(a, b netip.Prefix) bool { return a.Bits() > b.Bits() && b.Contains(a.Addr()) }

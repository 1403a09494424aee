package hosts

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"slipway/api"
)

// Names in the namespaces of the switch and of the hosts.
const (
	bridgeName = "switch"
	uplinkPort = "uplink"
	hostLink   = "eth0"
)

// port is the switch's end of a host's link.
func port(i int) string { return fmt.Sprintf("p%d", i) }

// uplinkName is the machine's end of the uplink.
func (s *state) uplinkName() string { return "slh" + s.Tag }

// mac is the hardware address that goes with an address: a host that boots again has its old one.
func mac(a netip.Addr) net.HardwareAddr { return append(net.HardwareAddr{2, 0x68}, a.AsSlice()...) }

// handle gives access to the links of a pause's network namespace.
func (p pause) handle() (*netlink.Handle, error) {
	ns, err := p.namespace("net")
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	h, err := netlink.NewHandleAt(netns.NsHandle(ns.Fd()))
	if err != nil {
		return nil, fmt.Errorf("hosts: enter network of process %d: %w", p.PID, err)
	}
	return h, nil
}

// makeBridge makes the switch. It floods multicast to all, as a simple one does.
func (s *state) makeBridge() error {
	h, err := s.Switch.handle()
	if err != nil {
		return err
	}
	defer h.Close()
	off := false
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: bridgeName}, MulticastSnooping: &off}
	if err := h.LinkAdd(bridge); err != nil {
		return fmt.Errorf("hosts: create switch: %w", err)
	}
	if err := h.LinkSetUp(bridge); err != nil {
		return fmt.Errorf("hosts: switch: %w", err)
	}
	return nil
}

// plug links a host to the switch. The switch's end stays down: applyFaults decides.
func (s *state) plug(i int) error {
	inSwitch, err := s.Switch.handle()
	if err != nil {
		return err
	}
	defer inSwitch.Close()
	bridge, err := inSwitch.LinkByName(bridgeName)
	if err != nil {
		return fmt.Errorf("find switch: %w", err)
	}
	host := s.Hosts[i]
	ns, err := host.Pause.namespace("net")
	if err != nil {
		return err
	}
	defer ns.Close()
	pair := &netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: port(i), MasterIndex: bridge.Attrs().Index},
		PeerName:  hostLink, PeerNamespace: netlink.NsFd(int(ns.Fd())), PeerHardwareAddr: mac(host.Addr),
	}
	if err := inSwitch.LinkAdd(pair); err != nil {
		return fmt.Errorf("create link: %w", err)
	}
	inHost, err := host.Pause.handle()
	if err != nil {
		return err
	}
	defer inHost.Close()
	for _, name := range []string{"lo", hostLink} {
		link, err := inHost.LinkByName(name)
		if err != nil {
			return fmt.Errorf("find %s: %w", name, err)
		}
		if name == hostLink {
			if err := inHost.AddrAdd(link, &netlink.Addr{IPNet: ipNet(host.Addr)}); err != nil {
				return fmt.Errorf("address %s: %w", host.Addr, err)
			}
		}
		if err := inHost.LinkSetUp(link); err != nil {
			return fmt.Errorf("bring %s up: %w", name, err)
		}
	}
	return nil
}

// withPort calls f with the switch's end of a host's link, if there is one.
func (s *state) withPort(i int, f func(*netlink.Handle, netlink.Link) error) error {
	h, err := s.Switch.handle()
	if errors.Is(err, fs.ErrNotExist) {
		return nil // without a switch there are no links
	}
	if err != nil {
		return err
	}
	defer h.Close()
	link, err := h.LinkByName(port(i))
	if _, missing := errors.AsType[netlink.LinkNotFoundError](err); missing {
		return nil
	}
	if err == nil {
		err = f(h, link)
	}
	if errors.Is(err, unix.ENODEV) { // it went away with the host
		return nil
	}
	if err != nil {
		return fmt.Errorf("port of %s: %w", s.Hosts[i].Name, err)
	}
	return nil
}

// silence takes the carrier from a host.
func (s *state) silence(i int) error {
	return s.withPort(i, func(h *netlink.Handle, l netlink.Link) error { return h.LinkSetDown(l) })
}

// unplug removes the link of a host.
func (s *state) unplug(i int) error {
	return s.withPort(i, func(h *netlink.Handle, l netlink.Link) error { return h.LinkDel(l) })
}

// uplink links the machine to the switch, if it is not.
func (s *state) uplink(addr netip.Addr) error {
	if _, err := netlink.LinkByName(s.uplinkName()); err == nil {
		return nil
	}
	routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return fmt.Errorf("hosts: list routes: %w", err)
	}
	if routed(routes, s.Subnet) {
		return api.Errorf(api.CodeConflict, "hosts: uplink: the machine has a route to %s already; make the rig with another Subnet", s.Subnet)
	}
	if err := s.connectUplink(addr); err != nil {
		return errors.Join(fmt.Errorf("hosts: uplink: %w", err), s.dropUplink())
	}
	return nil
}

func (s *state) connectUplink(addr netip.Addr) error {
	inSwitch, err := s.Switch.handle()
	if err != nil {
		return err
	}
	defer inSwitch.Close()
	bridge, err := inSwitch.LinkByName(bridgeName)
	if err != nil {
		return fmt.Errorf("find switch: %w", err)
	}
	ns, err := s.Switch.namespace("net")
	if err != nil {
		return err
	}
	defer ns.Close()
	outside := &netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: s.uplinkName(), HardwareAddr: mac(addr)},
		PeerName:  uplinkPort, PeerNamespace: netlink.NsFd(int(ns.Fd())),
	}
	if err := netlink.LinkAdd(outside); err != nil {
		return fmt.Errorf("create link: %w", err)
	}
	inside, err := inSwitch.LinkByName(uplinkPort)
	if err != nil {
		return fmt.Errorf("find %s: %w", uplinkPort, err)
	}
	if err := inSwitch.LinkSetMaster(inside, bridge); err != nil {
		return fmt.Errorf("plug in %s: %w", uplinkPort, err)
	}
	if err := inSwitch.LinkSetUp(inside); err != nil {
		return fmt.Errorf("bring %s up: %w", uplinkPort, err)
	}
	if err := netlink.AddrAdd(outside, &netlink.Addr{IPNet: ipNet(addr)}); err != nil {
		return fmt.Errorf("address %s: %w", addr, err)
	}
	if err := netlink.LinkSetUp(outside); err != nil {
		return fmt.Errorf("bring %s up: %w", s.uplinkName(), err)
	}
	return nil
}

// dropUplink removes the uplink; it goes away with the switch as well, but a moment later.
func (s *state) dropUplink() error {
	link, err := netlink.LinkByName(s.uplinkName())
	if _, missing := errors.AsType[netlink.LinkNotFoundError](err); missing {
		return nil
	}
	if err == nil {
		err = netlink.LinkDel(link)
	}
	if err != nil && !strings.Contains(err.Error(), "no such device") {
		return fmt.Errorf("hosts: remove uplink %s: %w", s.uplinkName(), err)
	}
	return nil
}

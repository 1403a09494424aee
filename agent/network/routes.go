package network

import (
	"errors"
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	protocol  = 83      // tells our routes and rules from others in the kernel
	mark      = 1 << 28 // one bit, of packets by which processes ask something of the host of a peer
	tableMain = unix.RT_TABLE_MAIN
	// lastMetric is of the route that refuses: any other to the same network wins.
	lastMetric = 1<<32 - 2
)

// applyReach makes the kernel hold what is wanted: what is missing first, nearest the wire first,
// then what is too much in the opposite order. An overlay of 0 is one that does not exist.
func (n *Network) applyReach(overlay int, want reach) error {
	have, err := n.readReach(overlay)
	if err != nil {
		return err
	}
	var failed error
	each(want.remotes, have.remotes, func(r remote) { failed = errors.Join(failed, n.addRemote(overlay, r)) })
	each(want.stations, have.stations, func(s station) { failed = errors.Join(failed, n.addStation(overlay, s)) })
	each(want.routes, have.routes, func(r route) { failed = errors.Join(failed, n.addRoute(r)) })
	each(have.routes, want.routes, func(r route) { failed = errors.Join(failed, n.removeRoute(r, want)) })
	each(have.stations, want.stations, func(s station) { failed = errors.Join(failed, removeStation(overlay, s, want)) })
	each(have.remotes, want.remotes, func(r remote) { failed = errors.Join(failed, removeRemote(overlay, r, want)) })
	return failed
}

// each calls f for what is in a and not in b.
func each[K comparable](a, b map[K]bool, f func(K)) {
	for k := range a {
		if !b[k] {
			f(k)
		}
	}
}

// readReach reads what the kernel holds of ours.
func (n *Network) readReach(overlay int) (reach, error) {
	r := reach{routes: map[route]bool{}, stations: map[station]bool{}, remotes: map[remote]bool{}}
	// All tables: that is what the mask of a table means beside table 0.
	routes, err := netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Protocol: protocol}, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_PROTOCOL)
	if err != nil {
		return r, fmt.Errorf("list routes: %w", err)
	}
	for _, k := range routes {
		// The source tells racks of one machine apart.
		if addrOf(k.Src) == n.Gateway() {
			r.routes[route{k.Table, prefixOf(k.Dst), addrOf(k.Gw), k.LinkIndex, k.Flags&unix.RTNH_F_ONLINK != 0}] = true
		}
	}
	if overlay == 0 {
		return r, nil
	}
	neighbours, err := netlink.NeighList(overlay, netlink.FAMILY_V4)
	if err != nil {
		return r, fmt.Errorf("list stations of overlay %s: %w", n.overlay, err)
	}
	for _, k := range neighbours {
		if k.State == netlink.NUD_PERMANENT {
			r.stations[station{addrOf(k.IP), string(k.HardwareAddr)}] = true
		}
	}
	hosts, err := netlink.NeighList(overlay, unix.AF_BRIDGE)
	if err != nil {
		return r, fmt.Errorf("list hosts of overlay %s: %w", n.overlay, err)
	}
	for _, k := range hosts {
		if k.IP != nil {
			r.remotes[remote{string(k.HardwareAddr), addrOf(k.IP)}] = true
		}
	}
	return r, nil
}

func (n *Network) kernelRoute(r route) *netlink.Route {
	k := &netlink.Route{
		Table: r.table, Dst: ipNet(r.dst.Addr(), r.dst.Bits()), LinkIndex: r.link,
		Src: n.Gateway().AsSlice(), Protocol: protocol, Scope: netlink.SCOPE_UNIVERSE,
	}
	if !r.via.IsValid() {
		k.Type, k.Priority = unix.RTN_UNREACHABLE, lastMetric
		return k
	}
	k.Gw = r.via.AsSlice()
	if r.onlink {
		k.Flags = unix.RTNH_F_ONLINK
	}
	return k
}

func (n *Network) addRoute(r route) error {
	if err := netlink.RouteReplace(n.kernelRoute(r)); err != nil {
		return fmt.Errorf("route to %s by %s: %w", r.dst, r.via, err)
	}
	return nil
}

// removeRoute removes a route whose place no other takes. Where that other could not be made, this
// one may be the way that is left.
func (n *Network) removeRoute(r route, want reach) error {
	for w := range want.routes {
		if w.table == r.table && w.dst == r.dst {
			return nil
		}
	}
	if err := netlink.RouteDel(n.kernelRoute(r)); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("remove route to %s by %s: %w", r.dst, r.via, err)
	}
	return nil
}

func kernelStation(overlay int, s station) *netlink.Neigh {
	return &netlink.Neigh{
		LinkIndex: overlay, Family: netlink.FAMILY_V4, State: netlink.NUD_PERMANENT,
		IP: s.addr.AsSlice(), HardwareAddr: net.HardwareAddr(s.mac),
	}
}

func (n *Network) addStation(overlay int, s station) error {
	if err := netlink.NeighSet(kernelStation(overlay, s)); err != nil {
		return fmt.Errorf("station %s of overlay %s: %w", s.addr, n.overlay, err)
	}
	return nil
}

func removeStation(overlay int, s station, want reach) error {
	for w := range want.stations {
		if w.addr == s.addr {
			return nil
		}
	}
	if err := netlink.NeighDel(kernelStation(overlay, s)); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("remove station %s of the overlay: %w", s.addr, err)
	}
	return nil
}

func kernelRemote(overlay int, r remote) *netlink.Neigh {
	return &netlink.Neigh{
		LinkIndex: overlay, Family: unix.AF_BRIDGE, State: netlink.NUD_PERMANENT, Flags: netlink.NTF_SELF,
		IP: r.host.AsSlice(), HardwareAddr: net.HardwareAddr(r.mac),
	}
}

func (n *Network) addRemote(overlay int, r remote) error {
	if err := netlink.NeighSet(kernelRemote(overlay, r)); err != nil {
		return fmt.Errorf("host %s of overlay %s: %w", r.host, n.overlay, err)
	}
	return nil
}

func removeRemote(overlay int, r remote, want reach) error {
	for w := range want.remotes {
		if w.mac == r.mac {
			return nil
		}
	}
	if err := netlink.NeighDel(kernelRemote(overlay, r)); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("remove host %s of the overlay: %w", r.host, err)
	}
	return nil
}

// ensureRule has what processes ask of the hosts of peers looked up in our table of routes first, or
// no more. Their answers to what those hosts ask are not marked: they go back by the way that the
// question came, which strict checks of sources insist on. Rules of a subnet that the node has no
// more go.
func (n *Network) ensureRule(wanted bool) error {
	rules, err := netlink.RuleList(netlink.FAMILY_V4)
	if err != nil {
		return fmt.Errorf("list routing rules: %w", err)
	}
	there := false
	for _, r := range rules {
		if r.Table != n.routing {
			continue
		}
		if wanted && !there && r.Priority == rulePriority && r.Mark == mark && prefixOf(r.Src) == n.cfg.Subnet {
			there = true
			continue
		}
		if err := netlink.RuleDel(&r); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("remove routing rule from %s: %w", r.Src, err)
		}
	}
	if !wanted || there {
		return nil
	}
	rule, mask := netlink.NewRule(), uint32(mark)
	rule.Family, rule.Table, rule.Priority, rule.Protocol = netlink.FAMILY_V4, n.routing, rulePriority, protocol
	rule.Mark, rule.Mask = mark, &mask
	rule.Src = ipNet(n.cfg.Subnet.Addr(), n.cfg.Subnet.Bits())
	if err := netlink.RuleAdd(rule); err != nil {
		return fmt.Errorf("routing rule from %s: %w", n.cfg.Subnet, err)
	}
	return nil
}

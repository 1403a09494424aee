package network

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"slipway/api"
)

// published is what leads from the node to one process. A file per process holds it, beside the
// namespaces: the rules of a restarted agent are those of before.
type published struct {
	Addr  netip.Addr     `json:"addr"`
	Ports []api.HostPort `json:"ports"`
}

func (n *Network) portsDir() string { return filepath.Join(n.cfg.Dir, "ports") }

// loadPorts reads the files of processes that have the address written there. The others were
// left by a write or a removal that broke off, or by a process whose network has gone.
func (n *Network) loadPorts() error {
	n.ports = map[api.ProcessID]published{}
	entries, err := os.ReadDir(n.portsDir())
	if err != nil {
		return fmt.Errorf("list host ports: %w", err)
	}
	for _, e := range entries {
		file, id := filepath.Join(n.portsDir(), e.Name()), api.ProcessID(e.Name())
		var p published
		doc, err := os.ReadFile(file)
		if err == nil {
			err = json.Unmarshal(doc, &p)
		}
		addr, gone := n.address(filepath.Join(n.namespaces(), e.Name()))
		if err != nil || gone != nil || addr != p.Addr {
			if err := os.Remove(file); err != nil {
				return fmt.Errorf("remove host ports of process %s: %w", id, err)
			}
			continue
		}
		n.ports[id] = p
	}
	return nil
}

// publish makes ports of the node lead to a process, in place of those that did before.
func (n *Network) publish(ctx context.Context, id api.ProcessID, addr netip.Addr, ports []api.HostPort) error {
	was, any := n.ports[id]
	if len(ports) == 0 && !any {
		return nil
	}
	if len(ports) == 0 {
		return n.unpublish(ctx, id)
	}
	if err := n.vacant(id, ports); err != nil {
		return err
	}
	now := published{Addr: addr, Ports: ports}
	if any && was.Addr == addr && slices.Equal(was.Ports, ports) {
		return n.hairpin(id)
	}
	if err := n.keepPorts(id, now); err != nil {
		return err
	}
	n.ports[id] = now
	if err := n.applyRules(ctx); err != nil {
		delete(n.ports, id)
		return errors.Join(err, os.Remove(filepath.Join(n.portsDir(), string(id))))
	}
	return errors.Join(n.hairpin(id), forgetFlows(ports))
}

// keepPorts writes the file of a process, whole or not at all.
func (n *Network) keepPorts(id api.ProcessID, p published) error {
	doc, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("host ports of process %s: %w", id, err)
	}
	// Its name while it is written is nothing that loadPorts would take for a process.
	if err := writeWhole(filepath.Join(n.portsDir(), string(id)), doc); err != nil {
		return fmt.Errorf("host ports of process %s: %w", id, err)
	}
	return nil
}

// unpublish takes the ports of a process back.
func (n *Network) unpublish(ctx context.Context, id api.ProcessID) error {
	was, any := n.ports[id]
	if !any {
		return nil
	}
	delete(n.ports, id)
	if err := n.applyRules(ctx); err != nil {
		n.ports[id] = was
		return fmt.Errorf("host ports of process %s: %w", id, err)
	}
	if err := os.Remove(filepath.Join(n.portsDir(), string(id))); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("host ports of process %s: %w", id, err)
	}
	return forgetFlows(was.Ports)
}

// vacant refuses ports that lead to another process or that a program of the node listens on.
func (n *Network) vacant(id api.ProcessID, ports []api.HostPort) error {
	for _, p := range ports {
		for _, other := range slices.Sorted(maps.Keys(n.ports)) {
			if other != id && (api.Usage{Grant: api.Grant{HostPorts: n.ports[other].Ports}}).HoldsPort(p.Host, p.Protocol) {
				return api.Errorf(api.CodeConflict, "%s leads to process %s", p.Name(), other)
			}
		}
		who, err := listener(procDir, p)
		if err != nil {
			return err
		}
		if who != "" {
			return api.Errorf(api.CodeConflict, "%s is in use by %s on the node; stop that, or choose another port", p.Name(), who)
		}
	}
	return nil
}

// hairpin lets a process reach itself by its port of the node: where the kernel filters bridged
// packets, such a packet leaves by the link that it came in by.
func (n *Network) hairpin(id api.ProcessID) error {
	link, err := netlink.LinkByName(vethName(id))
	if err == nil {
		err = netlink.LinkSetHairpin(link, true)
	}
	if err != nil {
		return fmt.Errorf("link of process %s: %w", id, err)
	}
	return nil
}

// flowsOf matches what the kernel remembers of UDP to ports of the node.
type flowsOf []api.HostPort

// MatchConntrackFlow implements netlink.CustomConntrackFilter.
func (f flowsOf) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	return flow.Forward.Protocol == unix.IPPROTO_UDP &&
		slices.ContainsFunc(f, func(p api.HostPort) bool { return p.Protocol == api.UDP && int(flow.Forward.DstPort) == p.Host })
}

// forgetFlows makes the kernel decide anew where UDP to these ports goes. A client that does not
// stop sending would be led to where the port led before, for ever. Connections of TCP have ends.
func forgetFlows(ports []api.HostPort) error {
	udp := flowsOf(slices.DeleteFunc(slices.Clone(ports), func(p api.HostPort) bool { return p.Protocol != api.UDP }))
	if len(udp) == 0 {
		return nil
	}
	if _, err := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, unix.AF_INET, udp); err != nil {
		return fmt.Errorf("forget the flows of UDP host ports: %w", err)
	}
	return nil
}

// portRules are the rules of the ports that lead to processes: a map, and the chains that use it.
// A node without any has none of them.
func (n *Network) portRules() string {
	var elements []string
	for _, id := range slices.Sorted(maps.Keys(n.ports)) {
		for _, p := range n.ports[id].Ports {
			elements = append(elements, fmt.Sprintf("%s . %d : %s . %d", p.Protocol, p.Host, n.ports[id].Addr, p.Port))
		}
	}
	if len(elements) == 0 {
		return ""
	}
	return fmt.Sprintf(`	map ports {
		type inet_proto . inet_service : ipv4_addr . inet_service
		elements = { %s }
	}
	chain prerouting {
		type nat hook prerouting priority dstnat; policy accept;
		fib daddr type local dnat ip to meta l4proto . th dport map @ports
	}
	chain output {
		type nat hook output priority -100; policy accept;
		fib daddr type local dnat ip to meta l4proto . th dport map @ports
	}
`, strings.Join(elements, ", "))
}

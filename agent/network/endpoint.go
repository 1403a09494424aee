package network

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"slipway/api"
)

// Add makes the network of a process, or finds the one it has, and makes ports of the node lead
// to it. On an error nothing of it is left.
func (n *Network) Add(ctx context.Context, id api.ProcessID, ports ...api.HostPort) (Endpoint, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	e, err := n.add(ctx, id)
	if err == nil {
		err = n.publish(ctx, id, e.Addr, ports)
	}
	if err != nil {
		return Endpoint{}, errors.Join(err, n.remove(context.WithoutCancel(ctx), id))
	}
	return e, nil
}

func (n *Network) add(ctx context.Context, id api.ProcessID) (Endpoint, error) {
	path := filepath.Join(n.namespaces(), string(id))
	e := Endpoint{NetNS: path, Gateway: n.Gateway(), Hostname: string(id)}
	// One that is there may be half made: its maker was killed. What has an address gets the rest.
	if addr, err := n.address(path); err == nil && n.finish(path, vethName(id), addr) == nil {
		e.Addr = addr
		return e, nil
	}
	if err := n.remove(ctx, id); err != nil {
		return Endpoint{}, err
	}
	addr, err := n.free()
	if err != nil {
		return Endpoint{}, err
	}
	if err := n.connect(path, vethName(id), addr); err != nil {
		return Endpoint{}, fmt.Errorf("network of process %s: %w", id, err)
	}
	if err := n.keepLast(addr); err != nil {
		return Endpoint{}, fmt.Errorf("network of process %s: %w", id, err)
	}
	e.Addr = addr
	return e, ctx.Err()
}

// Remove gives a network back; one that is not there is no error.
func (n *Network) Remove(ctx context.Context, id api.ProcessID) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.remove(ctx, id)
}

// remove takes the ports back first: none may lead to an address that somebody else gets.
func (n *Network) remove(ctx context.Context, id api.ProcessID) error {
	if err := n.unpublish(ctx, id); err != nil {
		return err
	}
	if link, err := netlink.LinkByName(vethName(id)); err == nil {
		if err := netlink.LinkDel(link); err != nil && !errors.Is(err, unix.ENODEV) {
			return fmt.Errorf("remove link of process %s: %w", id, err)
		}
	}
	return n.removeNamespace(id)
}

func (n *Network) removeNamespace(id api.ProcessID) error {
	path := filepath.Join(n.namespaces(), string(id))
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unmount namespace of process %s: %w", id, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove namespace of process %s: %w", id, err)
	}
	return nil
}

// vethName is the node's end of a process's link: at most 15 bytes, unique by hash.
func vethName(id api.ProcessID) string {
	h := fnv.New64a()
	h.Write([]byte(id))
	return fmt.Sprintf("slv%011x", h.Sum64()>>20)
}

// connect makes the namespace at path and a link from it to the bridge.
func (n *Network) connect(path, veth string, addr netip.Addr) error {
	if err := createNamespace(path); err != nil {
		return err
	}
	bridge, err := netlink.LinkByName(n.bridge)
	if err != nil {
		return fmt.Errorf("bridge %s: %w", n.bridge, err)
	}
	ns, err := netns.GetFromPath(path)
	if err != nil {
		return fmt.Errorf("open namespace: %w", err)
	}
	defer ns.Close()
	pair := &netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: veth, MTU: n.mtu, MasterIndex: bridge.Attrs().Index},
		PeerName:  "eth0", PeerNamespace: netlink.NsFd(int(ns)),
	}
	if err := netlink.LinkAdd(pair); err != nil {
		return fmt.Errorf("create link: %w", err)
	}
	return n.finish(path, veth, addr)
}

// finish gives both ends of a link what they need. It changes nothing where they have it.
func (n *Network) finish(path, veth string, addr netip.Addr) error {
	outside, err := netlink.LinkByName(veth)
	if err != nil {
		return fmt.Errorf("find link: %w", err)
	}
	if err := fit(outside, n.mtu, netlink.LinkSetMTU); err != nil {
		return fmt.Errorf("link: %w", err)
	}
	if err := netlink.LinkSetUp(outside); err != nil {
		return fmt.Errorf("link: %w", err)
	}
	ns, err := netns.GetFromPath(path)
	if err != nil {
		return fmt.Errorf("open namespace: %w", err)
	}
	defer ns.Close()
	inside, err := netlink.NewHandleAt(ns)
	if err != nil {
		return fmt.Errorf("enter namespace: %w", err)
	}
	defer inside.Close()
	for _, name := range []string{"lo", "eth0"} {
		link, err := inside.LinkByName(name)
		if err != nil {
			return fmt.Errorf("find %s: %w", name, err)
		}
		if name == "eth0" {
			if err := fit(link, n.mtu, inside.LinkSetMTU); err != nil {
				return fmt.Errorf("link: %w", err)
			}
			if err := inside.AddrReplace(link, &netlink.Addr{IPNet: ipNet(addr, n.cfg.Subnet.Bits())}); err != nil {
				return fmt.Errorf("address %s: %w", addr, err)
			}
		}
		if err := inside.LinkSetUp(link); err != nil {
			return fmt.Errorf("bring %s up: %w", name, err)
		}
	}
	if err := inside.RouteReplace(&netlink.Route{Gw: net.IP(n.Gateway().AsSlice())}); err != nil {
		return fmt.Errorf("default route: %w", err)
	}
	return nil
}

// createNamespace makes a network namespace and binds it to path.
func createNamespace(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL, 0o444)
	if err != nil {
		return fmt.Errorf("create namespace: %w", err)
	}
	f.Close()
	made, err := ns.TempNetNS()
	if err != nil {
		return fmt.Errorf("create namespace: %w", err)
	}
	defer made.Close()
	if err := unix.Mount(fmt.Sprintf("/proc/self/fd/%d", made.Fd()), path, "none", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind namespace: %w", err)
	}
	return nil
}

// address reads the address of a namespace.
func (n *Network) address(path string) (netip.Addr, error) {
	ns, err := netns.GetFromPath(path)
	if err != nil {
		return netip.Addr{}, err
	}
	defer ns.Close()
	inside, err := netlink.NewHandleAt(ns)
	if err != nil {
		return netip.Addr{}, err
	}
	defer inside.Close()
	link, err := inside.LinkByName("eth0")
	if err != nil {
		return netip.Addr{}, err
	}
	addrs, err := inside.AddrList(link, netlink.FAMILY_V4)
	if err != nil {
		return netip.Addr{}, err
	}
	for _, a := range addrs {
		if ip, ok := netip.AddrFromSlice(a.IP.To4()); ok && n.cfg.Subnet.Contains(ip) {
			return ip, nil
		}
	}
	return netip.Addr{}, api.Errorf(api.CodeNotFound, "namespace %s has no address in %s", path, n.cfg.Subnet)
}

// free finds an address that no namespace has, beginning behind the newest: an address rests
// as long as possible before another process gets it.
func (n *Network) free() (netip.Addr, error) {
	used := map[netip.Addr]bool{n.Gateway(): true}
	known := n.last.IsValid()
	entries, err := os.ReadDir(n.namespaces())
	if err != nil {
		return netip.Addr{}, fmt.Errorf("list namespaces: %w", err)
	}
	for _, e := range entries {
		if a, err := n.address(filepath.Join(n.namespaces(), e.Name())); err == nil {
			used[a] = true
			if !known && (!n.last.IsValid() || n.last.Less(a)) {
				n.last = a
			}
		}
	}
	return next(n.cfg.Subnet, n.last, used)
}

// next is the first unused host address of a subnet behind last, wrapping round. The first
// address is the gateway's, the highest the broadcast's.
func next(subnet netip.Prefix, last netip.Addr, used map[netip.Addr]bool) (netip.Addr, error) {
	first := subnet.Masked().Addr().Next().Next()
	a := first
	if last.IsValid() && subnet.Contains(last.Next()) && subnet.Contains(last.Next().Next()) {
		a = last.Next()
	}
	for range 1 << (32 - subnet.Bits()) {
		if !subnet.Contains(a.Next()) {
			a = first
		}
		if a != subnet.Masked().Addr() && !used[a] {
			return a, nil
		}
		a = a.Next()
	}
	return netip.Addr{}, api.Errorf(api.CodeExhausted, "every address of %s is in use; give the node a larger --subnet", subnet)
}

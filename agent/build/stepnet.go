package build

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"

	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/moby/buildkit/executor/resources/types"
	"github.com/moby/buildkit/util/network"
	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// stepNet gives each build step a network namespace of its own, joined to the hub's bridge.
// Ports are isolated: two steps cannot talk to each other. It implements network.Provider.
type stepNet struct {
	dir string // where namespaces are mounted

	mu   sync.Mutex
	used map[netip.Addr]bool
	last netip.Addr
}

func newStepNet(dir string) (*stepNet, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	return &stepNet{dir: dir, used: map[netip.Addr]bool{}, last: netip.MustParseAddr(hubAddr)}, nil
}

// New implements network.Provider.
func (s *stepNet) New(context.Context, string, network.NamespaceOptions) (network.Namespace, error) {
	addr, err := s.take()
	if err != nil {
		return nil, err
	}
	ns := &stepNamespace{net: s, addr: addr, path: filepath.Join(s.dir, addr.String())}
	if err := ns.create(); err != nil {
		return nil, errors.Join(fmt.Errorf("network of a build step: %w", err), ns.Close())
	}
	return ns, nil
}

// Close implements network.Provider.
func (s *stepNet) Close() error { return nil }

// take returns an address that no step has, the least recently used one.
func (s *stepNet) take() (netip.Addr, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	prefix := netip.MustParsePrefix(hubPrefix)
	for range 1 << (32 - hubBits) {
		s.last = s.last.Next()
		if !prefix.Contains(s.last.Next()) { // the last one is for broadcasts
			s.last = netip.MustParseAddr(hubAddr).Next()
		}
		if !s.used[s.last] {
			s.used[s.last] = true
			return s.last, nil
		}
	}
	return netip.Addr{}, errors.New("all addresses of build steps are in use")
}

func (s *stepNet) give(addr netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.used, addr)
}

// stepNamespace implements network.Namespace.
type stepNamespace struct {
	net  *stepNet
	addr netip.Addr
	path string
}

// create makes the namespace and both ends of its cable.
func (n *stepNamespace) create() error {
	f, err := os.OpenFile(n.path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	f.Close()
	made, err := ns.TempNetNS()
	if err != nil {
		return fmt.Errorf("create namespace: %w", err)
	}
	defer made.Close()
	if err := unix.Mount(fmt.Sprintf("/proc/self/fd/%d", made.Fd()), n.path, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind namespace: %w", err)
	}

	bridge, err := netlink.LinkByName(bridgeName)
	if err != nil {
		return err
	}
	b := n.addr.As4()
	veth := &netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: fmt.Sprintf("step%d", int(b[2])<<8|int(b[3])), MasterIndex: bridge.Attrs().Index},
		PeerName:      "eth0",
		PeerNamespace: netlink.NsFd(made.Fd()),
	}
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("veth: %w", err)
	}
	if err := netlink.LinkSetIsolated(veth, true); err != nil {
		return fmt.Errorf("isolate: %w", err)
	}
	if err := netlink.LinkSetUp(veth); err != nil {
		return err
	}
	return n.configure(netns.NsHandle(made.Fd()))
}

// configure sets up the inside.
func (n *stepNamespace) configure(ns netns.NsHandle) error {
	inside, err := netlink.NewHandleAt(ns)
	if err != nil {
		return err
	}
	defer inside.Close()
	for _, name := range []string{"lo", "eth0"} {
		link, err := inside.LinkByName(name)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if name == "eth0" {
			addr := &netlink.Addr{IPNet: &net.IPNet{IP: n.addr.AsSlice(), Mask: net.CIDRMask(hubBits, 32)}}
			if err := inside.AddrAdd(link, addr); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		if err := inside.LinkSetUp(link); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	if err := inside.RouteAdd(&netlink.Route{Gw: net.ParseIP(hubAddr)}); err != nil {
		return fmt.Errorf("default route: %w", err)
	}
	return nil
}

// Set implements network.Namespace.
func (n *stepNamespace) Set(spec *specs.Spec) error {
	return oci.WithLinuxNamespace(specs.LinuxNamespace{Type: specs.NetworkNamespace, Path: n.path})(nil, nil, nil, spec)
}

// Close implements network.Namespace. The kernel removes the cable with the namespace.
func (n *stepNamespace) Close() error {
	defer n.net.give(n.addr)
	if err := unix.Unmount(n.path, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unmount %s: %w", n.path, err)
	}
	if err := os.Remove(n.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// Sample implements network.Namespace.
func (n *stepNamespace) Sample() (*types.NetworkSample, error) { return nil, nil } //nolint:nilnil // optional

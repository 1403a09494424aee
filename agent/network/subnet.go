package network

import (
	"fmt"
	"hash/fnv"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"slipway/api"
)

// settle decides on the subnet of the node. The bridge that is there has one already; another one
// may take its place when nobody lives on it.
func (n *Network) settle() error {
	has, err := n.bridgeSubnet()
	if err != nil {
		return err
	}
	switch {
	case !n.cfg.Subnet.IsValid() && has.IsValid():
		n.cfg.Subnet = has
		return nil
	case !n.cfg.Subnet.IsValid():
		return n.chooseSubnet()
	case n.cfg.Subnet == has:
		return nil
	case has.IsValid():
		if err := n.vacate(has); err != nil {
			return err
		}
	}
	return n.vacantSubnet()
}

// bridgeSubnet reads the subnet of the bridge; the zero value where there is none.
func (n *Network) bridgeSubnet() (netip.Prefix, error) {
	link, err := netlink.LinkByName(n.bridge)
	if err != nil {
		return netip.Prefix{}, nil // it is made later
	}
	addrs, err := netlink.AddrList(link, netlink.FAMILY_V4)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("addresses of bridge %s: %w", n.bridge, err)
	}
	for _, a := range addrs {
		if p := prefixOf(a.IPNet); p.IsValid() {
			return p.Masked(), nil
		}
	}
	return netip.Prefix{}, nil
}

// vacate removes the namespaces of a subnet that the node has no more: nobody may live in them.
func (n *Network) vacate(has netip.Prefix) error {
	entries, err := os.ReadDir(n.namespaces())
	if err != nil {
		return fmt.Errorf("list namespaces: %w", err)
	}
	inhabited, err := inhabitedNamespaces(procDir)
	if err != nil {
		return err
	}
	var living []string
	for _, e := range entries {
		var st unix.Stat_t
		if err := unix.Stat(filepath.Join(n.namespaces(), e.Name()), &st); err == nil && inhabited[st.Ino] {
			living = append(living, e.Name())
		}
	}
	if len(living) > 0 {
		return api.Errorf(api.CodeConflict,
			"the servers gave this node the subnet %s, but its processes live in %s: %s. The node was removed from the rack and joined again; stop the containers of these processes, or reboot the machine, then start the agent again",
			n.cfg.Subnet, has, strings.Join(living, ", "))
	}
	for _, e := range entries {
		if err := n.removeNamespace(api.ProcessID(e.Name())); err != nil {
			return err
		}
	}
	return n.forgetLast()
}

// inhabitedNamespaces lists the network namespaces that a process of the machine is in, by inode.
func inhabitedNamespaces(proc string) (map[uint64]bool, error) {
	dirs, err := filepath.Glob(filepath.Join(proc, "[0-9]*"))
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	out := map[uint64]bool{}
	for _, dir := range dirs {
		var st unix.Stat_t
		if err := unix.Stat(filepath.Join(dir, "ns/net"), &st); err == nil { // else it has ended
			out[st.Ino] = true
		}
	}
	return out, nil
}

// chooseSubnet takes the first /20 of 10.88.0.0/13 that overlaps nothing the node has an address
// or a route in.
func (n *Network) chooseSubnet() error {
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
			free = free && !t.Prefix.Overlaps(p)
		}
		if free {
			n.cfg.Subnet = p
			return nil
		}
	}
	return api.Errorf(api.CodeExhausted, "no free subnet below 10.88.0.0/13; choose one with --subnet")
}

// vacantSubnet refuses a subnet that something else of the machine has: another rack, above all.
// Wider networks that contain the whole cluster are no obstacle; the longer prefix wins.
func (n *Network) vacantSubnet() error {
	taken, err := takenPrefixes()
	if err != nil {
		return err
	}
	wide := n.cfg.Subnet.Bits()
	if n.cfg.Cluster.IsValid() {
		wide = n.cfg.Cluster.Bits()
	}
	for _, t := range taken {
		if t.Prefix.Overlaps(n.cfg.Subnet) && t.Prefix.Bits() >= wide && t.link != n.bridge && t.link != n.overlay && t.protocol != protocol {
			return api.Errorf(api.CodeConflict, "the subnet %s of this node overlaps %s, which link %s of the machine has; give the rack another network, or remove that link", n.cfg.Subnet, t.Prefix, t.link)
		}
	}
	return nil
}

// taken is where a route of the node leads.
type taken struct {
	netip.Prefix
	link     string
	protocol netlink.RouteProtocol
}

// takenPrefixes lists what the node's routes lead to, the default route left out.
func takenPrefixes() ([]taken, error) {
	routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	var out []taken
	for _, r := range routes {
		p := prefixOf(r.Dst)
		if !p.IsValid() || p.Bits() == 0 {
			continue
		}
		t := taken{Prefix: p, protocol: r.Protocol}
		if i := slices.IndexFunc(links, func(l netlink.Link) bool { return l.Attrs().Index == r.LinkIndex }); i >= 0 {
			t.link = links[i].Attrs().Name
		}
		out = append(out, t)
	}
	return out, nil
}

func (n *Network) lastFile() string { return filepath.Join(n.cfg.Dir, "last") }

// loadLast reads the newest address that was given out. Without it the search begins behind the
// highest one in use.
func (n *Network) loadLast() {
	doc, _ := os.ReadFile(n.lastFile()) // an agent that never gave one out has no file
	if a, err := netip.ParseAddr(string(doc)); err == nil && n.cfg.Subnet.Contains(a) {
		n.last = a
	}
}

// keepLast notes the newest address: a restarted agent gives out others first.
func (n *Network) keepLast(a netip.Addr) error {
	n.last = a
	return writeWhole(n.lastFile(), []byte(a.String()))
}

func (n *Network) forgetLast() error {
	n.last = netip.Addr{}
	return removeFile(n.lastFile())
}

package network

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"github.com/vishvananda/netlink"

	"slipway/api"
)

// Peer is another node of the rack.
type Peer struct {
	Node   string       `json:"node"`   // for messages
	Addr   netip.Addr   `json:"addr"`   // where its host is reached
	Subnet netip.Prefix `json:"subnet"` // of its processes
}

// SetPeers makes exactly these nodes reachable, and keeps them for the next start. The node itself
// may be among them. It compares with what the kernel has and changes what differs, so that it
// may be called at any time. A peer that cannot be is left out and named in the error
// (CodeInvalid); the others are reachable all the same. What may be better the next time is
// CodeUnavailable.
func (n *Network) SetPeers(ctx context.Context, peers []Peer) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.cfg.Cluster.IsValid() {
		if len(peers) == 0 {
			return nil
		}
		return api.Errorf(api.CodeInvalid, "this node has no network of the rack to reach %d peers by; start the agent with one", len(peers))
	}
	good, refused := n.possible(peers)
	err := errors.Join(n.keepPeers(good), n.reconcile(ctx))
	if err != nil {
		err = api.Errorf(api.CodeUnavailable, "other nodes not reached: %w", err)
	}
	return errors.Join(err, refused)
}

// possible returns the peers that can be reached, in the order of their subnets, without the node
// itself.
func (n *Network) possible(peers []Peer) (good []Peer, refused error) {
	for _, p := range peers {
		p.Subnet = p.Subnet.Masked()
		if p.Addr == n.cfg.Underlay || p.Subnet == n.cfg.Subnet && !p.Addr.IsValid() {
			continue
		}
		why := ""
		same := slices.IndexFunc(good, func(o Peer) bool { return o.Subnet.Overlaps(p.Subnet) || o.Addr == p.Addr })
		switch {
		case !p.Addr.Is4():
			why = "has no IPv4 address"
		case n.cfg.Cluster.Contains(p.Addr):
			why = fmt.Sprintf("has its address inside the rack's network %s", n.cfg.Cluster)
		case !p.Subnet.IsValid() || !inside(p.Subnet, n.cfg.Cluster):
			why = fmt.Sprintf("has a subnet outside the rack's network %s", n.cfg.Cluster)
		case p.Subnet.Overlaps(n.cfg.Subnet):
			why = fmt.Sprintf("has a subnet that overlaps this node's %s", n.cfg.Subnet)
		case same >= 0:
			why = fmt.Sprintf("has something in common with node %s at %s with subnet %s", good[same].Node, good[same].Addr, good[same].Subnet)
		}
		if why != "" {
			refused = errors.Join(refused, api.Errorf(api.CodeInvalid, "node %s at %s with subnet %s cannot be reached: it %s; remove it from the rack and join it again", p.Node, p.Addr, p.Subnet, why))
			continue
		}
		good = append(good, p)
	}
	slices.SortFunc(good, func(a, b Peer) int { return a.Subnet.Compare(b.Subnet) })
	return good, refused
}

// reconcile makes rules, device and routes what they have to be. Rules come before routes: what
// takes a new route finds them. A rack of one node loses what was there for peers.
func (n *Network) reconcile(ctx context.Context) error {
	if !n.cfg.Cluster.IsValid() {
		n.mtu = mtuAlone
		return errors.Join(n.resize(), n.dropOverlay(), removeFile(n.peersFile()), n.applyRules(ctx))
	}
	if err := n.applyRules(ctx); err != nil {
		return err
	}
	return n.reroute()
}

// reroute makes device and routes what they have to be. There is a device where a peer needs it.
func (n *Network) reroute() error {
	underlay, err := n.underlayMTU()
	if err != nil {
		return err
	}
	n.mtu = underlay - overhead
	if err := n.resize(); err != nil {
		return err
	}
	direct := map[netip.Addr]int{}
	for _, p := range n.peers {
		if link, ok := n.onLink(p.Addr); ok {
			direct[p.Addr] = link
		}
	}
	overlay := 0
	if len(direct) < len(n.peers) {
		overlay, err = n.ensureOverlay()
	} else {
		err = n.dropDevice()
	}
	if err != nil {
		return err
	}
	if err := n.ensureRule(true); err != nil {
		return err
	}
	if err := n.applyReach(overlay, n.reach(overlay, direct)); err != nil {
		return unreached{err}
	}
	return nil
}

// unreached is that some peers are not reached, and everything else is as it has to be.
type unreached struct{ error }

// onLink returns the link that this node shares with an address; false when packets to it take a
// router, or when the rack wants the overlay.
func (n *Network) onLink(a netip.Addr) (index int, ok bool) {
	if n.cfg.Direct != DirectAuto {
		return 0, false
	}
	routes, err := netlink.RouteGet(a.AsSlice())
	if err != nil || len(routes) != 1 || routes[0].Gw != nil {
		return 0, false // who cannot be reached now is not reached by the overlay either
	}
	link, err := netlink.LinkByIndex(routes[0].LinkIndex)
	if err != nil || link.Attrs().EncapType != "ether" || link.Attrs().Name == n.bridge || link.Attrs().Name == n.overlay {
		return 0, false // a tunnel knows which sources may pass
	}
	return link.Attrs().Index, true
}

func (n *Network) peersFile() string { return filepath.Join(n.cfg.Dir, "peers.json") }

// keepPeers notes peers for the next start: it has them before a server answers.
func (n *Network) keepPeers(peers []Peer) error {
	if slices.Equal(peers, n.peers) {
		return nil
	}
	n.peers = peers
	doc, err := json.Marshal(peers)
	if err == nil {
		err = writeWhole(n.peersFile(), doc)
	}
	if err != nil {
		return fmt.Errorf("keep peers: %w", err)
	}
	return nil
}

// loadPeers reads the peers of before. What cannot be read or be reached now is left out: the
// servers will say it again.
func (n *Network) loadPeers() {
	if !n.cfg.Cluster.IsValid() {
		return
	}
	doc, err := os.ReadFile(n.peersFile())
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	var peers []Peer
	if err == nil {
		err = json.Unmarshal(doc, &peers)
	}
	if err == nil {
		n.peers, err = n.possible(peers)
	}
	if err != nil {
		n.cfg.Log.Warn("peers of before not all known", "err", err)
	}
}

// reach is what the kernel has to hold, or holds, so that peers are reached.
type reach struct {
	routes   map[route]bool
	stations map[station]bool
	remotes  map[remote]bool
}

// route is one of ours, in what tells it from others. All have the gateway as source, for what the
// node itself sends to processes of peers.
type route struct {
	table  int
	dst    netip.Prefix
	via    netip.Addr // the zero value where packets are refused
	link   int
	onlink bool
}

// station is the end of a peer on the overlay: what it answers to.
type station struct {
	addr netip.Addr
	mac  string
}

// remote is the host that a station is on.
type remote struct {
	mac  string
	host netip.Addr
}

// reach plans how the peers are reached: by a route over the link that both share, or by the
// overlay. By the overlay they are reached at their host's address as well, from processes: so
// that a port of another node sees the process, and so that the rest of that node is closed to it.
// The rest of the rack's network is refused: it would leave by the default route.
func (n *Network) reach(overlay int, direct map[netip.Addr]int) reach {
	r := reach{routes: map[route]bool{}, stations: map[station]bool{}, remotes: map[remote]bool{}}
	r.routes[route{table: tableMain, dst: n.cfg.Cluster}] = true
	for _, p := range n.peers {
		if link, ok := direct[p.Addr]; ok {
			r.routes[route{table: tableMain, dst: p.Subnet, via: p.Addr, link: link}] = true
			continue
		}
		gateway, mac := p.Subnet.Addr().Next(), string(overlayMAC(p.Subnet))
		r.routes[route{table: tableMain, dst: p.Subnet, via: gateway, link: overlay, onlink: true}] = true
		r.routes[route{table: n.routing, dst: netip.PrefixFrom(p.Addr, 32), via: gateway, link: overlay, onlink: true}] = true
		r.stations[station{gateway, mac}] = true
		r.remotes[remote{mac, p.Addr}] = true
	}
	return r
}

package dispatch

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"slipway/api"
	"slipway/api/pb"
	"slipway/raftstore/state"
)

// desk keeps what agents are told: the state that they are told of, and the documents that are
// alike for all of them. Its cost follows what changes. A rack of many nodes is told less often,
// for each word costs as many messages as it has nodes.
type desk struct {
	servers func() *pb.Servers

	mu      sync.Mutex
	view    *state.View
	names   names
	peers   peers
	routes  *pb.ServerMessage // the whole table, of version
	version uint64
	listed  string // the servers, as text
	list    *pb.ServerMessage
	changes map[changesKey]*pb.ServerMessage // for those who have the same

	// What may have changed since the documents were made.
	stale state.Changes
}

// changesKey names a message: the changes of a document since a change.
type changesKey struct {
	document string
	since    uint64
	changes  bool
}

// see takes a newer state in. It leaves the documents as they are.
func (d *desk) see(v *state.View, ch state.Changes) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.view = v
	d.stale.Merge(state.Changes{All: ch.All, Nodes: ch.Nodes, Named: ch.Named})
}

// write brings the documents up to date. It reports whether any of them changed, and how many
// endpoints of names and how many peers did.
func (d *desk) write() (moved bool, named, peers int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	v, stale := d.view, d.stale
	d.stale = state.Changes{}
	was := [...]uint64{d.names.at, d.peers.at}
	if stale.All {
		d.nameAll(v)
		d.listPeers(v)
	}
	for k := range stale.Named {
		d.names.set(nameOf(k), endpoints(v, k))
	}
	for id := range stale.Nodes {
		d.peer(v, id)
	}
	moved = was != [...]uint64{d.names.at, d.peers.at}
	if d.routes == nil || d.version != v.RoutesVersion() {
		table := v.RouteTable()
		d.version, moved = table.Version, true
		d.routes = &pb.ServerMessage{Kind: &pb.ServerMessage_Routes{Routes: &pb.Routes{Version: table.Version, Table: pb.Marshal(table)}}}
	}
	servers := d.servers()
	if text := listed(servers); d.list == nil || text != d.listed {
		d.listed, moved = text, true
		d.list = &pb.ServerMessage{Kind: &pb.ServerMessage_Servers{Servers: servers}}
	}
	if moved {
		d.changes = map[changesKey]*pb.ServerMessage{}
	}
	return moved, int(d.names.at - was[0]), int(d.peers.at - was[1])
}

func nameOf(k api.ServiceKey) string { return string(k.Service) + "." + string(k.App) }

// nameAll reads the addresses of all services.
func (d *desk) nameAll(v *state.View) {
	gone := maps.Clone(d.names.all)
	for s := range v.AllServices() {
		name := nameOf(s.Key)
		delete(gone, name)
		d.names.set(name, endpoints(v, s.Key))
	}
	for name := range gone {
		d.names.set(name, nil)
	}
	if d.names.at == 0 {
		d.names.fill()
	}
}

// endpoints derives what a node's DNS answers with for a service: the addresses of its processes,
// with their port where that is known.
func endpoints(v *state.View, k api.ServiceKey) (out []netip.AddrPort) {
	for p := range v.LiveOf(k) {
		addr, err := netip.ParseAddr(state.Endpoint(p))
		if err != nil || !addr.Is4() { // it has none yet, or one that no network of processes has
			continue
		}
		port := uint16(0)
		if spec, ok := v.Spec(p.Release, p.Service); ok {
			port = uint16(spec.Port.Number)
		}
		out = append(out, netip.AddrPortFrom(addr, port))
	}
	slices.SortFunc(out, netip.AddrPort.Compare)
	return slices.Compact(out)
}

// peer stores what the network sees of a node: one that has a subnet of the rack's is a peer.
func (d *desk) peer(v *state.View, id api.NodeID) {
	n, ok := v.Node(id)
	if !ok || n.Subnet == "" {
		d.peers.drop(string(id))
		return
	}
	if old := d.peers.all[string(id)]; old == nil || old.Addr != n.Addr || old.Subnet != n.Subnet {
		d.peers.put(string(id), &pb.Peer{Node: string(n.ID), Addr: n.Addr, Subnet: n.Subnet})
	}
}

// listPeers reads all nodes.
func (d *desk) listPeers(v *state.View) {
	for id := range maps.Clone(d.peers.all) {
		d.peer(v, api.NodeID(id))
	}
	for n := range v.Nodes() {
		d.peer(v, n.ID)
	}
	if d.peers.at == 0 {
		d.peers.fill()
	}
}

// message returns the message for those who have a document as it was after a change. Each is made
// once: from the changes, unless they are not known any more, or whole.
func (d *desk) message(at changesKey, changes func() (*pb.ServerMessage, bool), whole func() *pb.ServerMessage) *pb.ServerMessage {
	if m := d.changes[at]; m != nil {
		return m
	}
	var m *pb.ServerMessage
	known := false
	if at.changes {
		m, known = changes()
	}
	if !known {
		all := changesKey{document: at.document}
		if m = d.changes[all]; m == nil {
			m = whole()
			d.changes[all] = m
		}
	}
	d.changes[at] = m
	return m
}

func (d *desk) namesSince(since uint64, changes bool) *pb.ServerMessage {
	wrap := func(n *pb.Names) *pb.ServerMessage {
		return &pb.ServerMessage{Kind: &pb.ServerMessage_Names{Names: n}}
	}
	return d.message(changesKey{"names", since, changes}, func() (*pb.ServerMessage, bool) {
		n, known := d.names.changes(since)
		return wrap(n), known
	}, func() *pb.ServerMessage { return wrap(d.names.whole()) })
}

func (d *desk) peersSince(since uint64, changes bool) *pb.ServerMessage {
	wrap := func(p *pb.Peers) *pb.ServerMessage {
		return &pb.ServerMessage{Kind: &pb.ServerMessage_Peers{Peers: p}}
	}
	return d.message(changesKey{"peers", since, changes}, func() (*pb.ServerMessage, bool) {
		p, known := d.peers.changes(since)
		return wrap(p), known
	}, func() *pb.ServerMessage { return wrap(d.peers.whole()) })
}

// listed shows servers as text, to compare them.
func listed(servers *pb.Servers) string {
	var b strings.Builder
	for _, s := range servers.GetServer() {
		b.WriteString(s.Addr + " " + s.Registry + "\n")
	}
	return b.String()
}

// hurries reports whether more than the peers may have changed since the documents were written.
func (d *desk) hurries() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.stale.All || len(d.stale.Named) > 0 || d.version != d.view.RoutesVersion()
}

package dispatch

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"slipway/api"
	"slipway/api/pb"
	"slipway/raftstore"
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

// How often a rack is told: each session waits as long as all of them together may need. Machines
// that join are no hurry, and come in crowds: telling each of each would keep a server from leading.
const (
	documentCost   = 50 * time.Microsecond // a document that changed, for one session
	peersCost      = 10 * documentCost     // when only the peers did
	endpointCost   = 20 * time.Nanosecond  // each endpoint of it
	peerCost       = 100 * time.Nanosecond // each peer
	assignmentCost = 20 * time.Microsecond // an assignment set
	// writeShare is which share of the time may go into writing documents: one of so many.
	writeShare = 4
)

// keep follows the state until ctx ends, and wakes the sessions that have something to hear.
func (s *Server) keep(ctx context.Context, d *desk, updates <-chan raftstore.Update) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var next, calm time.Time // when documents may be written; and when, if there is no hurry
	due := time.Now()        // when the timer fires; zero for never
	for {
		select {
		case <-ctx.Done():
			return
		case u, ok := <-updates:
			if !ok {
				return
			}
			s.dismiss(u.View, u.Changes)
			d.see(u.View, u.Changes)
			at := next
			if !d.hurries() {
				at = maxTime(next, calm)
			}
			if now := time.Now(); now.Before(at) {
				if due.IsZero() || at.Before(due) {
					due = at
					timer.Reset(at.Sub(now))
				}
				s.wake(ctx, u.Changes, false, 0)
				continue
			}
			next, calm = s.publish(ctx, d, u.Changes)
		case <-timer.C:
			due = time.Time{}
			next, calm = s.publish(ctx, d, state.Changes{})
		}
	}
}

// dismiss ends the sessions of nodes that were given up. They were silent; one that speaks again has to
// register before it counts.
func (s *Server) dismiss(v *state.View, ch state.Changes) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id := range ch.Nodes {
		if n, known := v.Node(id); known && n.Status == api.NodeDown && s.sessions[id] != nil {
			s.sessions[id].end()
		}
	}
}

// hurries reports whether more than the peers may have changed since the documents were written.
func (d *desk) hurries() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.stale.All || len(d.stale.Named) > 0 || d.version != d.view.RoutesVersion()
}

// publish writes the documents and wakes those who have not heard of them. It returns when the
// next time may be, and when if only the peers change until then.
func (s *Server) publish(ctx context.Context, d *desk, ch state.Changes) (next, calm time.Time) {
	began := time.Now()
	moved, endpoints, peers := d.write()
	next = began.Add(writeShare * time.Since(began))
	if !moved {
		s.wake(ctx, ch, false, 0)
		return next, next
	}
	cost := documentCost + time.Duration(endpoints)*endpointCost
	sessions := time.Duration(s.wake(ctx, ch, true, cost+time.Duration(peers)*peerCost))
	return maxTime(next, began.Add(sessions*cost)), maxTime(next, began.Add(sessions*peersCost))
}

func maxTime(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// wakeBatch is how many sessions are woken at once; more follow when most of them have begun, or after
// wakeMax. What thousands have to do would stand in the way of the heartbeats between servers, and the
// leader would be one no more.
const (
	wakeBatch = 512
	wakeMax   = 200 * time.Millisecond
)

// What one session that is woken costs a server comes after it was woken: messages are encrypted, and a
// node that has a new assignment answers with a report, which is made durable. Only so much of that is
// begun ahead of time.
const (
	assignedCost = 200 * time.Microsecond
	aheadMax     = 200 * time.Millisecond
)

// pace knows until when the work that was begun will last.
type pace struct{ until time.Time }

// begin adds work, and returns how long to wait before it.
func (p *pace) begin(now time.Time, work time.Duration) time.Duration {
	p.until = maxTime(p.until, now)
	wait := p.until.Sub(now) - aheadMax
	p.until = p.until.Add(work)
	return wait
}

// asleep counts those who were woken and have not looked yet, for want of a processor.
func asleep(sessions []*session) (n int) {
	for _, c := range sessions {
		if !c.rests.Load() {
			n += len(c.wake)
		}
	}
	return n
}

// wake wakes the sessions whose assignments changed, and all others if documents have moved, which cost
// each of them that much. It returns how many there are.
func (s *Server) wake(ctx context.Context, ch state.Changes, moved bool, document time.Duration) int {
	assigned, others := s.concerned(ch, moved || ch.All)
	for batch := range slices.Chunk(assigned, wakeBatch) {
		s.wakeSome(ctx, batch, document+assignedCost)
	}
	for batch := range slices.Chunk(others, wakeBatch) {
		s.wakeSome(ctx, batch, document)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sessions)
}

// wakeSome wakes sessions when it is their turn, unless ctx ends before.
func (s *Server) wakeSome(ctx context.Context, batch []*session, cost time.Duration) {
	if wait := s.pace.begin(time.Now(), time.Duration(len(batch))*cost); wait > 0 {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
	}
	for _, c := range batch {
		c.poke()
	}
	for until := time.Now().Add(wakeMax); len(batch) == wakeBatch && asleep(batch) > wakeBatch/4 && time.Now().Before(until); {
		time.Sleep(time.Millisecond) // polls: a session tells nobody that it has begun
	}
}

// concerned returns the sessions whose assignments changed, and the others, if all are to be woken.
func (s *Server) concerned(ch state.Changes, all bool) (assigned, others []*session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for node := range ch.Assigned {
		if c := s.sessions[node]; c != nil {
			assigned = append(assigned, c)
		}
	}
	for node, c := range s.sessions {
		if all && !ch.Assigned[node] {
			others = append(others, c)
		}
	}
	return assigned, others
}

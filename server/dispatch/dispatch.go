package dispatch

import (
	"context"
	"io"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"slipway/api"
	"slipway/api/pb"
	"slipway/raftstore"
	"slipway/raftstore/state"
)

// Store is what dispatch needs of the replicated state.
type Store interface {
	Propose(ctx context.Context, e state.Entry) (state.Result, error)
	View() *state.View
	// Follow follows the state from the returned view on, without a gap, until ctx ends.
	Follow(ctx context.Context, keep func(state.Changes) state.Changes) (*state.View, <-chan raftstore.Update)
}

// Sources serves uploaded sources to the nodes that build them.
type Sources interface {
	Open(ctx context.Context, digest string) (io.ReadCloser, error)
}

// Config is what a Server is made of.
type Config struct {
	Store     Store
	Secrets   secrets
	Sources   Sources
	Heartbeat time.Duration // the interval that agents of a small rack are told; default 1 s
	Now       func() time.Time
	Log       *slog.Logger
	// Leader returns where the leader serves agents, "" when nobody leads; Servers lists the servers
	// of the rack, the leader first.
	Leader  func() string
	Servers func() *pb.Servers
	// Issue signs a certificate for hosts and returns chain and key in PEM.
	Issue func(hosts ...string) ([]byte, error)
	// Authorize returns an error when the caller in ctx may not speak for node; "" asks for
	// any node at all.
	Authorize func(ctx context.Context, node api.NodeID) error
}

// Server is the service that agents dial.
type Server struct {
	pb.UnimplementedAgentsServer
	cfg Config

	mu       sync.Mutex
	desk     *desk // while this server leads; nil otherwise
	beats    map[api.NodeID]time.Time
	sessions map[api.NodeID]*session
	tunnels  map[string]*Tunnel // opened, waiting for the agent to dial back
	lastID   uint64

	documents documents
}

// New returns a Server.
func New(cfg Config) *Server {
	if cfg.Heartbeat == 0 {
		cfg.Heartbeat = time.Second
	}
	return &Server{
		cfg: cfg, beats: map[api.NodeID]time.Time{}, sessions: map[api.NodeID]*session{},
		tunnels: map[string]*Tunnel{},
	}
}

// Lead lets agents attach, from now until end is called: they belong to the leader, who alone hears
// their heartbeats. end ends their sessions, so that they look for the next leader at once.
func (s *Server) Lead() (end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	v, updates := s.cfg.Store.Follow(ctx, func(ch state.Changes) state.Changes {
		return state.Changes{All: ch.All, Nodes: ch.Nodes, Named: ch.Named, Assigned: ch.Assigned}
	})
	d := &desk{servers: s.cfg.Servers}
	d.see(v, state.Everything())
	d.write()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.desk = d
	clear(s.beats)
	kept := make(chan struct{})
	go func() {
		defer close(kept)
		(&keeper{server: s, desk: d, queue: runnable}).keep(ctx, updates)
	}()
	return func() {
		cancel()
		<-kept
		s.mu.Lock()
		defer s.mu.Unlock()
		s.desk = nil
		for _, c := range s.sessions {
			c.end()
		}
	}
}

// elsewhere is the error for an agent that must go to the leader, and tells it where that is; nil on
// the leader.
func (s *Server) elsewhere(tell func(metadata.MD)) error {
	s.mu.Lock()
	leads := s.desk != nil
	s.mu.Unlock()
	if leads {
		return nil
	}
	addr := s.cfg.Leader()
	if addr == "" {
		return api.Errorf(api.CodeUnavailable, "the rack has no leader")
	}
	tell(metadata.Pairs(pb.LeaderKey, addr))
	return api.Errorf(api.CodeNotLeader, "this server does not lead the rack, %s does", addr)
}

// Heartbeats returns when each node was last heard of, since this server leads.
func (s *Server) Heartbeats() map[api.NodeID]time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[api.NodeID]time.Time, len(s.beats))
	for id, at := range s.beats {
		out[id] = at
	}
	return out
}

// Attached returns the nodes whose sessions have not ended.
func (s *Server) Attached() map[api.NodeID]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[api.NodeID]bool, len(s.sessions))
	for id := range s.sessions {
		out[id] = true
	}
	return out
}

// Register stores what an agent says of its machine and answers with the rack's facts.
func (s *Server) Register(ctx context.Context, r *pb.RegisterRequest) (*pb.RegisterReply, error) {
	node, err := pb.Unmarshal[api.Node](r.Node)
	if err != nil {
		return nil, pb.Error(err)
	}
	if err := s.cfg.Authorize(ctx, node.ID); err != nil {
		return nil, pb.Error(err)
	}
	if err := pb.CheckProtocol("the agent of node "+node.Name, r.Protocol); err != nil {
		s.cfg.Log.Warn("agent refused", "node", node.ID, "version", node.Version, "err", err)
		return nil, pb.Error(err)
	}
	if err := s.elsewhere(func(md metadata.MD) { _ = grpc.SetTrailer(ctx, md) }); err != nil {
		return nil, pb.Error(err)
	}
	if err := s.register(ctx, node); err != nil {
		return nil, pb.Error(err)
	}
	if node.Problem == "" { // an agent that does not start keeps no node alive
		s.heard(node.ID)
	}
	v := s.cfg.Store.View()
	rack, stored := v.Rack(), &api.Node{}
	if known, ok := v.Node(node.ID); ok {
		stored = known
	}
	return &pb.RegisterReply{Rack: rack.Name, Domain: rack.Domain, ClusterId: rack.ClusterID,
		HeartbeatMs: s.interval().Milliseconds(), Subnet: stored.Subnet, Network: rack.Network, Protocol: pb.Protocol}, nil
}

// beatCost is what a server may spend on a heartbeat: a large rack is asked for fewer of them, within
// what its nodes may be silent for.
const (
	beatCost    = 200 * time.Microsecond
	intervalMax = 2 * time.Second
)

// interval is how often an agent is to speak.
func (s *Server) interval() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return max(s.cfg.Heartbeat, min(time.Duration(len(s.sessions))*beatCost, intervalMax))
}

// register stores a node, unless it is stored as it reports itself: all of them register when the
// leader changes.
func (s *Server) register(ctx context.Context, node api.Node) error {
	if s.cfg.Store.View().Registered(node) {
		return nil
	}
	res, err := s.cfg.Store.Propose(ctx, s.entry(node.ID, state.RegisterNode{Node: node}))
	if err == nil && res.Err != nil {
		err = res.Err
	}
	return err
}

func (s *Server) entry(node api.NodeID, c state.Command) state.Entry {
	return state.Entry{At: s.cfg.Now(), Actor: "node/" + string(node), Command: c}
}

// heard notes a sign of life.
func (s *Server) heard(node api.NodeID) {
	s.mu.Lock()
	s.beats[node] = s.cfg.Now()
	s.mu.Unlock()
}

// session is one attached agent. A newer session of the same node takes the place of an older
// one.
type session struct {
	node   api.NodeID
	stream pb.Agents_AttachServer
	end    context.CancelFunc
	desk   *desk
	// changes: the agent knows of messages that carry changes only.
	changes      bool
	peers, names digest        // what it knew when it attached
	wake         chan struct{} // capacity 1: there may be news

	mu sync.Mutex // guards stream.Send

	// inbox has reports that wait to be made durable, which one goroutine does while there are any:
	// the node is heard meanwhile.
	inbox   chan *pb.AgentMessage
	working atomic.Bool
	routers routerReport // of that goroutine
}

// inboxMax is how many reports of a session may wait; the next is not received before.
const inboxMax = 16

// routerReport is what was last proposed of a node's router.
type routerReport struct {
	known    bool
	version  uint64
	draining []api.ProcessID
}

// poke wakes the one who tells.
func (c *session) poke() {
	select {
	case c.wake <- struct{}{}:
	default: // it is about to look
	}
}

func (c *session) send(m *pb.ServerMessage) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stream.Send(m)
}

// Attach serves one agent until its stream ends or a newer session replaces it.
func (s *Server) Attach(stream pb.Agents_AttachServer) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	node := api.NodeID(first.GetNode())
	if err := s.cfg.Authorize(stream.Context(), node); err != nil {
		return pb.Error(err)
	}
	if err := s.elsewhere(stream.SetTrailer); err != nil {
		return pb.Error(err)
	}
	if _, known := s.cfg.Store.View().Node(node); !known {
		return pb.Error(api.Errorf(api.CodeConflict, "node %q is not registered", node))
	}
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	c := &session{node: node, stream: stream, end: func() { cancel(nil) }, changes: first.GetChanges(),
		peers: digest(first.GetPeers()), names: digest(first.GetNames()), wake: make(chan struct{}, 1), inbox: make(chan *pb.AgentMessage, inboxMax)}
	s.mu.Lock()
	if c.desk = s.desk; c.desk == nil {
		s.mu.Unlock()
		return pb.Error(s.elsewhere(stream.SetTrailer)) // the leader of a moment ago
	}
	if old := s.sessions[node]; old != nil {
		old.end()
	}
	s.sessions[node] = c
	s.beats[node] = s.cfg.Now()
	c.poke()
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		if s.sessions[node] == c {
			delete(s.sessions, node)
		}
		s.mu.Unlock()
	}()
	if n, known := s.cfg.Store.View().Node(node); !known || n.Status == api.NodeDown { // since it registered
		return pb.Error(api.Errorf(api.CodeConflict, "node %q was given up; it has to register again", node))
	}
	received := make(chan error, 1)
	go func() {
		defer cancel(nil)
		received <- s.receive(ctx, c, cancel)
	}()
	err = s.tell(ctx, c)
	select {
	case err = <-received:
	default: // the stream's own end unblocks the receiver once this call returns
	}
	if err == io.EOF {
		return nil
	}
	return pb.Error(err)
}

// receive hears what the agent says; fail is told of a report that was not stored.
func (s *Server) receive(ctx context.Context, c *session, fail func(error)) error {
	for {
		m, err := c.stream.Recv()
		if err != nil {
			return err
		}
		s.heard(c.node)
		if m.GetStatuses() == nil && len(m.GetHeartbeat()) == 0 { // nothing has changed
			continue
		}
		select {
		case c.inbox <- m:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if c.working.CompareAndSwap(false, true) {
			go s.work(ctx, c, fail)
		}
	}
}

// work takes in what has come, in order, until there is nothing more.
func (s *Server) work(ctx context.Context, c *session, fail func(error)) {
	for {
		var err error
		select {
		case m := <-c.inbox:
			if statuses := m.GetStatuses(); statuses != nil {
				err = s.statuses(ctx, c, statuses)
			} else {
				err = s.heartbeat(ctx, c, m.GetHeartbeat())
			}
		default:
			c.working.Store(false)
			if len(c.inbox) == 0 || !c.working.CompareAndSwap(false, true) {
				return
			}
		}
		if err != nil {
			fail(err)
			return
		}
	}
}

// heartbeat proposes what changed about the node's router; most heartbeats change nothing.
func (s *Server) heartbeat(ctx context.Context, c *session, doc []byte) error {
	beat, err := pb.Unmarshal[api.Heartbeat](doc)
	if err != nil || beat.Router == nil {
		return err
	}
	draining := make([]api.ProcessID, 0, len(beat.Router.Draining))
	for _, d := range beat.Router.Draining {
		draining = append(draining, d.Process)
	}
	slices.Sort(draining)
	if c.routers.known && c.routers.version == beat.Router.Version && slices.Equal(c.routers.draining, draining) {
		return nil
	}
	_, err = s.cfg.Store.Propose(ctx, s.entry(c.node, state.AckRoutes{Node: c.node, Version: beat.Router.Version, Draining: draining}))
	if err == nil {
		c.routers = routerReport{known: true, version: beat.Router.Version, draining: draining}
	}
	return err
}

// statuses makes reports durable and acknowledges them.
func (s *Server) statuses(ctx context.Context, c *session, m *pb.Statuses) error {
	update := state.UpdateProcesses{Node: c.node, Statuses: make(map[api.ProcessID]api.ProcessStatus, len(m.Process))}
	for id, doc := range m.Process {
		status, err := pb.Unmarshal[api.ProcessStatus](doc)
		if err != nil {
			return err
		}
		update.Statuses[api.ProcessID(id)] = status
	}
	res, err := s.cfg.Store.Propose(ctx, s.entry(c.node, update))
	if err != nil {
		return err
	}
	for _, dropped := range res.Dropped {
		s.cfg.Log.Debug("report dropped", "node", c.node, "reason", dropped)
	}
	return c.send(&pb.ServerMessage{Kind: &pb.ServerMessage_Acknowledged{Acknowledged: m.Seq}})
}

// FetchSource streams an uploaded source.
func (s *Server) FetchSource(r *pb.FetchSourceRequest, stream grpc.ServerStreamingServer[pb.Chunk]) error {
	if err := s.cfg.Authorize(stream.Context(), ""); err != nil {
		return pb.Error(err)
	}
	src, err := s.cfg.Sources.Open(stream.Context(), r.Digest)
	if err != nil {
		return pb.Error(err)
	}
	defer src.Close()
	buf := make([]byte, 256<<10)
	for {
		n, err := src.Read(buf)
		if n > 0 {
			if err := stream.Send(&pb.Chunk{Data: buf[:n]}); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return pb.Error(api.Errorf(api.CodeInternal, "read source %s: %w", r.Digest, err))
		}
	}
}

// IssueCertificate signs a certificate for hosts of the route table; others are refused, so
// that a node cannot have names signed that are not served.
func (s *Server) IssueCertificate(ctx context.Context, r *pb.IssueCertificateRequest) (*pb.IssueCertificateReply, error) {
	if err := s.cfg.Authorize(ctx, ""); err != nil {
		return nil, pb.Error(err)
	}
	served := map[string]bool{}
	for _, route := range s.cfg.Store.View().RouteTable().Routes {
		for _, h := range route.Hosts {
			served[h] = true
		}
	}
	for _, h := range r.Host {
		if !served[h] {
			return nil, pb.Error(api.Errorf(api.CodeDenied, "host %q is not in the route table", h))
		}
	}
	pem, err := s.cfg.Issue(r.Host...)
	if err != nil {
		return nil, pb.Error(err)
	}
	return &pb.IssueCertificateReply{Pem: pem}, nil
}

package fleet

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"slipway/api"
	"slipway/api/client"
	"slipway/api/pb"
)

// agent is one node: the session of a real agent around processes that are made up.
type agent struct {
	fleet *Fleet
	id    api.NodeID
	conn  *client.Conn
	dead  atomic.Bool // the machine has no power

	attached atomic.Bool

	peers, names uint64 // digests of what it was told; it keeps no more of it

	mu      sync.Mutex
	subnet  string
	has     map[api.ProcessID]held              // what is assigned
	pending map[api.ProcessID]api.ProcessStatus // reports to send
	wake    chan struct{}                       // capacity 1
	// sent are the reports that are not acknowledged, by message.
	sent map[uint64]map[api.ProcessID]api.ProcessStatus
	born int // processes that were given an address
	seq  uint64
}

// held is what a node has of a process.
type held struct {
	desired api.Desired
	kind    api.Kind
}

// assignment is what an agent needs to know to make a process up.
type assignment struct {
	Process api.ProcessID   `json:"process"`
	App     api.AppName     `json:"app"`
	Service api.ServiceName `json:"service"`
	Kind    api.Kind        `json:"kind"`
	Desired api.Desired     `json:"desired"`
	Slot    int             `json:"slot"`
	Build   *struct {
		Services []struct {
			Name api.ServiceName `json:"name"`
		} `json:"services"`
	} `json:"build"`
}

// run attaches, again and again, until the fleet ends.
func (a *agent) run(ctx context.Context) {
	for ctx.Err() == nil {
		err := a.session(ctx)
		if a.dead.Load() || ctx.Err() != nil {
			break
		}
		a.fleet.broken.Add(1)
		a.fleet.lastError.Store(fmt.Errorf("node %s: %w", a.id, err))
		select {
		case <-ctx.Done():
		case <-time.After(retry):
		}
	}
	<-ctx.Done()
	a.conn.Close()
}

// node is what the agent says of its machine.
func (a *agent) node() api.Node {
	return api.Node{
		ID: a.id, Name: string(a.id), Addr: "127.0.0.1", BootID: "one", Version: "fleet", Capacity: a.fleet.cfg.Capacity,
		Attributes: map[string]string{"arch": "amd64", "kernel": "6.1.0", "os": "linux"},
	}
}

// session registers, attaches and pumps both ways until one of them fails.
func (a *agent) session(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	agents := pb.NewAgentsClient(a.conn)
	reply, err := a.register(ctx, agents)
	if err != nil {
		return err
	}
	stream, err := agents.Attach(ctx)
	if err != nil {
		return pb.FromError(err)
	}
	if err := stream.Send(&pb.AgentMessage{Kind: &pb.AgentMessage_Node{Node: string(a.id)}, Changes: true, Peers: a.peers, Names: a.names}); err != nil {
		return pb.FromError(err)
	}
	a.attached.Store(true)
	defer a.attached.Store(false)
	sent := make(chan error, 1)
	go func() {
		defer cancel()
		sent <- a.send(ctx, stream, time.Duration(reply.HeartbeatMs)*time.Millisecond)
	}()
	err = a.receive(stream)
	cancel()
	<-sent
	return pb.FromError(err)
}

// register connects, with few others at the same time, and announces the machine.
func (a *agent) register(ctx context.Context, agents pb.AgentsClient) (*pb.RegisterReply, error) {
	select {
	case a.fleet.connecting <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-a.fleet.connecting }()
	reply, err := agents.Register(ctx, &pb.RegisterRequest{Node: pb.Marshal(a.node())})
	if err != nil {
		return nil, pb.FromError(err)
	}
	a.mu.Lock()
	a.subnet = reply.Subnet
	a.mu.Unlock()
	return reply, nil
}

// send reports what changed, and heartbeats in between.
func (a *agent) send(ctx context.Context, stream grpc.BidiStreamingClient[pb.AgentMessage, pb.ServerMessage], every time.Duration) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	a.rewind()
	beat := &pb.AgentMessage{Kind: &pb.AgentMessage_Heartbeat{}}
	for {
		if m := a.take(); m != nil {
			if err := stream.Send(m); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-a.wake:
		case due := <-tick.C:
			if err := stream.Send(beat); err != nil {
				return err
			}
			a.fleet.late(time.Since(due))
		}
	}
}

// take returns a message with all reports that wait, nil for none.
func (a *agent) take() *pb.AgentMessage {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.pending) == 0 {
		return nil
	}
	a.seq++
	m := &pb.Statuses{Seq: a.seq, Process: make(map[string][]byte, len(a.pending))}
	for id, s := range a.pending {
		m.Process[string(id)] = pb.Marshal(s)
	}
	a.sent[a.seq], a.pending = a.pending, map[api.ProcessID]api.ProcessStatus{}
	return &pb.AgentMessage{Kind: &pb.AgentMessage_Statuses{Statuses: m}}
}

// acknowledged notes that a message, and those before it, are durable.
func (a *agent) acknowledged(seq uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for n, statuses := range a.sent {
		if n <= seq {
			a.fleet.reported.Add(int64(len(statuses)))
			delete(a.sent, n)
		}
	}
}

// rewind reports once more what nobody has acknowledged.
func (a *agent) rewind() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for n, statuses := range a.sent {
		for id, s := range statuses {
			if _, newer := a.pending[id]; !newer {
				a.pending[id] = s
			}
		}
		delete(a.sent, n)
	}
}

// receive takes in what the servers say.
func (a *agent) receive(stream grpc.BidiStreamingClient[pb.AgentMessage, pb.ServerMessage]) error {
	for {
		m, err := stream.Recv()
		if err != nil {
			return err
		}
		if a.dead.Load() {
			continue
		}
		switch k := m.Kind.(type) {
		case *pb.ServerMessage_Assignments:
			if err := a.assign(k.Assignments); err != nil {
				return err
			}
		case *pb.ServerMessage_Acknowledged:
			a.acknowledged(k.Acknowledged)
		case *pb.ServerMessage_Peers:
			a.peers = k.Peers.Digest
		case *pb.ServerMessage_Names:
			a.names = k.Names.Digest
			if see := a.fleet.cfg.Names; see != nil {
				see(a.id, k.Names)
			}
		}
	}
}

// assign takes a set, or the changes of one.
func (a *agent) assign(set *pb.AssignmentSet) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	before := a.has
	if !set.Change {
		a.has = make(map[api.ProcessID]held, len(set.Assignment))
	}
	for _, id := range set.Gone {
		delete(a.has, api.ProcessID(id))
	}
	fresh := int64(0)
	for _, doc := range set.Assignment {
		var p assignment
		if err := json.Unmarshal(doc, &p); err != nil {
			return err
		}
		was, known := before[p.Process]
		a.has[p.Process] = held{p.Desired, p.Kind}
		if known && was.desired == p.Desired {
			continue
		}
		if !known && p.Kind == api.KindService {
			fresh++
			if see := a.fleet.cfg.Assigned; see != nil {
				see(a.id, p.App, p.Service, p.Slot)
			}
		}
		if status, ok := a.becomes(&p, known); ok {
			a.pending[p.Process] = status
		}
	}
	a.fleet.delivered.Add(fresh)
	if len(a.pending) > 0 {
		select {
		case a.wake <- struct{}{}:
		default:
		}
	}
	return nil
}

// becomes is the status that a process has at once; false when it has not changed.
func (a *agent) becomes(p *assignment, known bool) (api.ProcessStatus, bool) {
	now := time.Now()
	switch {
	case p.Kind == api.KindBuild:
		s := api.ProcessStatus{State: api.StateExited, Started: now, Finished: now, Images: map[api.ServiceName]api.Image{}}
		if p.Build != nil {
			for _, service := range p.Build.Services {
				s.Images[service.Name] = api.Image{Repository: string(p.App), Digest: "sha256:" + digestOfNothing}
			}
		}
		return s, true
	case p.Desired == api.DesiredStop:
		return api.ProcessStatus{State: api.StateExited, Started: now, Finished: now}, true
	case known:
		return api.ProcessStatus{}, false
	}
	s := api.ProcessStatus{State: api.StateRunning, Health: api.HealthHealthy, Started: now, Healthy: now}
	if a.fleet.cfg.Addresses {
		a.born++
		s.Addr = address(a.subnet, a.born)
	}
	return s, true
}

// digestOfNothing is SHA-256 of no bytes.
const digestOfNothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

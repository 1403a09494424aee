package agent

import (
	"context"
	"io"
	"time"

	"google.golang.org/grpc"

	"slipway/api"
	"slipway/api/pb"
)

// leaveAfter is how often a node is told that it was removed until it ends what it runs.
const leaveAfter = 3

// redialMax bounds the wait between two attempts to reach a server.
const redialMax = 5 * time.Second

// worker keeps the session with a server. With no server reachable it changes nothing: what
// runs keeps running, what is reported waits.
type worker struct {
	agent   *Agent
	conn    grpc.ClientConnInterface
	reports *reports
	// refused counts how often the servers have said that the node was removed.
	refused int
	heard   copies
}

// run attaches, and attaches again whenever a session ends, until ctx ends.
func (w *worker) run(ctx context.Context) error {
	wait := 50 * time.Millisecond
	for ctx.Err() == nil {
		began := w.agent.now()
		err := w.session(ctx)
		if ctx.Err() != nil {
			break
		}
		if w.agent.now().Sub(began) > redialMax {
			wait = 50 * time.Millisecond
		}
		w.agent.log.Warn("session ended", "err", err, "retry_in", wait.String())
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
		wait = min(2*wait, redialMax)
	}
	return nil
}

// session registers the node, attaches and pumps both ways until one of them fails.
func (w *worker) session(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	agents := pb.NewAgentsClient(w.conn)
	node := w.agent.node()
	reply, err := agents.Register(ctx, &pb.RegisterRequest{Node: pb.Marshal(node), Protocol: pb.Protocol})
	if pb.IsRemoved(err) {
		w.leave()
	}
	if err != nil {
		return pb.FromError(err)
	}
	if err := pb.CheckProtocol("the server", reply.Protocol); err != nil {
		return err
	}
	if err := w.agent.admitted(reply); err != nil {
		return err
	}
	stream, err := agents.Attach(ctx)
	if err != nil {
		return pb.FromError(err)
	}
	if err := stream.Send(&pb.AgentMessage{Kind: &pb.AgentMessage_Node{Node: string(node.ID)}, Changes: true, Peers: w.heard.peersDigest, Names: w.heard.namesDigest}); err != nil {
		return pb.FromError(err)
	}
	w.agent.log.Info("attached", "node", node.ID)
	w.agent.metrics.sessions.Inc()
	w.agent.metrics.attached.Set(1)
	defer w.agent.metrics.attached.Set(0)
	sent := make(chan error, 1)
	go func() {
		defer cancel()
		sent <- w.send(ctx, stream, time.Duration(reply.HeartbeatMs)*time.Millisecond)
	}()
	err = w.receive(ctx, stream, agents)
	cancel()
	<-sent
	if err == io.EOF {
		return api.Errorf(api.CodeUnavailable, "server ended the session")
	}
	return pb.FromError(err)
}

// leave gives up what the node does for the rack that it was removed from: others have taken its
// place. Its router lets go first, what runs ends when the servers have said so again and again.
func (w *worker) leave() {
	w.refused++
	a := w.agent
	a.mu.Lock()
	version := a.handed
	a.mu.Unlock()
	keepNewest(a.tables, pb.Marshal(api.RouteTable{Version: version}))
	if w.refused >= leaveAfter && a.routesNowhere() {
		a.assign(api.AssignmentSet{})
	}
}

// send reports what changed, and heartbeats in between.
func (w *worker) send(ctx context.Context, stream pb.Agents_AttachClient, every time.Duration) error {
	tick := time.NewTicker(max(every, 100*time.Millisecond))
	defer tick.Stop()
	w.reports.rewind()
	if err := w.beat(stream); err != nil {
		return err
	}
	for {
		if seq, batch := w.reports.take(); len(batch) > 0 {
			docs := make(map[string][]byte, len(batch))
			for id, status := range batch {
				docs[string(id)] = pb.Marshal(status)
			}
			m := &pb.AgentMessage{Kind: &pb.AgentMessage_Statuses{Statuses: &pb.Statuses{Seq: seq, Process: docs}}}
			if err := stream.Send(m); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-w.reports.wake:
		case <-w.agent.routerMoved:
			if err := w.beat(stream); err != nil {
				return err
			}
		case <-tick.C: // nothing new, but the node lives
			if err := stream.Send(&pb.AgentMessage{Kind: &pb.AgentMessage_Heartbeat{}}); err != nil {
				return err
			}
		}
	}
}

// beat sends a heartbeat with what the node's router serves.
func (w *worker) beat(stream pb.Agents_AttachClient) error {
	return stream.Send(&pb.AgentMessage{Kind: &pb.AgentMessage_Heartbeat{Heartbeat: pb.Marshal(w.agent.heartbeat())}})
}

// receive hands on what comes down.
func (w *worker) receive(ctx context.Context, stream pb.Agents_AttachClient, agents pb.AgentsClient) error {
	heard := &w.heard
	for {
		m, err := stream.Recv()
		if err != nil {
			return err
		}
		switch k := m.Kind.(type) {
		case *pb.ServerMessage_Assignments:
			set, err := heard.assign(k.Assignments)
			if err != nil {
				return err
			}
			w.agent.assign(set)
		case *pb.ServerMessage_Routes:
			keepNewest(w.agent.tables, k.Routes.Table)
		case *pb.ServerMessage_Names:
			names, err := heard.name(k.Names)
			if err != nil {
				return err
			}
			keepNewest(w.agent.names, names)
		case *pb.ServerMessage_Peers:
			peers, err := heard.peer(k.Peers)
			if err != nil {
				return err
			}
			keepNewest(w.agent.peers, peers)
		case *pb.ServerMessage_Servers:
			if w.agent.cfg.Servers != nil {
				w.agent.cfg.Servers(k.Servers)
			}
		case *pb.ServerMessage_Acknowledged:
			w.reports.acknowledge(k.Acknowledged)
		case *pb.ServerMessage_Open:
			w.agent.open(ctx, agents, k.Open)
		}
	}
}

package dispatch

import (
	"context"
	"fmt"

	"slipway/api"
	"slipway/api/pb"
)

// Tunnel is a stream of frames to an agent. Agents cannot be dialled, so that the server asks
// for one over the session and the agent dials back.
type Tunnel struct {
	ctx    context.Context
	stream chan pb.Agents_TunnelServer // the agent's end, once it has come
	open   pb.Agents_TunnelServer
	end    context.CancelFunc
}

// Open asks the agent of node for a stream and waits until it has dialled back. The tunnel
// ends with ctx.
func (s *Server) Open(ctx context.Context, node api.NodeID, open *pb.Open) (*Tunnel, error) {
	s.mu.Lock()
	c := s.sessions[node]
	s.lastID++
	open.Id = fmt.Sprintf("%s-%d", node, s.lastID)
	open.Node = string(node)
	ctx, cancel := context.WithCancel(ctx)
	t := &Tunnel{ctx: ctx, stream: make(chan pb.Agents_TunnelServer, 1), end: cancel}
	s.tunnels[open.Id] = t
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.tunnels, open.Id)
		s.mu.Unlock()
	}()
	if c == nil {
		cancel()
		return nil, api.Errorf(api.CodeUnavailable, "node %s is not connected; try again in a moment", node)
	}
	if err := c.send(&pb.ServerMessage{Kind: &pb.ServerMessage_Open{Open: open}}); err != nil {
		cancel()
		return nil, api.Errorf(api.CodeUnavailable, "reach node %s: %w", node, err)
	}
	select {
	case t.open = <-t.stream:
		return t, nil
	case <-ctx.Done():
		cancel()
		return nil, api.Errorf(api.CodeUnavailable, "node %s did not answer: %w", node, context.Cause(ctx))
	}
}

// Send sends a frame to the agent.
func (t *Tunnel) Send(f *pb.Frame) error { return t.open.Send(f) }

// Recv returns the next frame of the agent; io.EOF after the last.
func (t *Tunnel) Recv() (*pb.Frame, error) { return t.open.Recv() }

// Close ends the tunnel; the agent's side sees its stream end.
func (t *Tunnel) Close() { t.end() }

// Tunnel is where agents dial back.
func (s *Server) Tunnel(stream pb.Agents_TunnelServer) error {
	if err := s.cfg.Authorize(stream.Context(), ""); err != nil {
		return pb.Error(err)
	}
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	id := first.GetOpen().GetId()
	s.mu.Lock()
	t := s.tunnels[id]
	delete(s.tunnels, id)
	s.mu.Unlock()
	if t == nil {
		return pb.Error(api.Errorf(api.CodeNotFound, "stream %q is not wanted any more", id))
	}
	t.stream <- stream
	select {
	case <-t.ctx.Done():
		return nil
	case <-stream.Context().Done():
		t.end()
		return stream.Context().Err()
	}
}

package chaos

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"slipway/raftstore"
)

const (
	// snapshotPatience is how long a server waits until another has taken in a snapshot.
	snapshotPatience = 10 * time.Second
	// inFlightMax is how many appends may be on their way to one server, as many as the
	// transport of the product allows.
	inFlightMax = 2
)

// end is one server's end of the network while it lives: a raft.Transport.
type end struct {
	net      *network
	addr     raft.ServerAddress
	consumer chan raft.RPC
	gate     gate
	agrees   func(raftstore.Claim) bool // set before the end is attached
	// ctx ends when the server does.
	ctx context.Context
	die context.CancelCauseFunc

	mu        sync.Mutex
	heartbeat func(raft.RPC)
}

var (
	_ raft.Transport   = (*end)(nil)
	_ raft.WithPreVote = (*end)(nil)
	_ raft.WithClose   = (*end)(nil)
)

func newEnd(n *network, addr raft.ServerAddress) *end {
	e := &end{net: n, addr: addr, consumer: make(chan raft.RPC)}
	e.ctx, e.die = context.WithCancelCause(context.Background())
	return e
}

// Close implements raft.WithClose: from now on nothing leaves and nothing arrives.
func (e *end) Close() error {
	e.net.detach(e)
	e.die(errReset)
	return nil
}

func (e *end) Consumer() <-chan raft.RPC                               { return e.consumer }
func (e *end) LocalAddr() raft.ServerAddress                           { return e.addr }
func (e *end) EncodePeer(_ raft.ServerID, a raft.ServerAddress) []byte { return []byte(a) }
func (e *end) DecodePeer(b []byte) raft.ServerAddress                  { return raft.ServerAddress(b) }
func (e *end) SetHeartbeatHandler(f func(raft.RPC)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.heartbeat = f
}

// send carries a request to another server; what it returns carries the answer back.
func (e *end) send(ctx context.Context, to raft.ServerAddress, request any, data io.Reader) (func() (any, error), error) {
	if err := e.gate.pass(ctx); err != nil {
		return nil, err
	}
	received := copyOf(request)
	again, err := e.net.carry(ctx, message{e.addr, to, request})
	if err != nil {
		return nil, err
	}
	peer := e.net.at(to)
	if peer == nil {
		return nil, errRefused
	}
	if again && data == nil {
		go peer.takeAgain(e.addr, copyOf(request))
	}
	answer, err := peer.take(ctx, received, data)
	if err != nil {
		return nil, err
	}
	return func() (any, error) {
		r, err := answer()
		if err != nil {
			return nil, err
		}
		if err := peer.gate.pass(ctx); err != nil {
			return nil, err
		}
		if peer.ctx.Err() != nil { // an answer of a dead server never left
			return nil, errReset
		}
		if _, err := e.net.carry(ctx, message{to, e.addr, request}); err != nil {
			return nil, err
		}
		if err := e.gate.pass(ctx); err != nil {
			return nil, err
		}
		return r.Response, r.Error
	}, nil
}

// take hands a request to the server at this end; what it returns waits for the answer.
func (e *end) take(ctx context.Context, request any, data io.Reader) (func() (raft.RPCResponse, error), error) {
	if err := e.gate.pass(ctx); err != nil {
		return nil, err
	}
	answers := make(chan raft.RPCResponse, 1)
	rpc := raft.RPC{Command: request, Reader: data, RespChan: answers}
	e.mu.Lock()
	heartbeat := e.heartbeat
	e.mu.Unlock()
	switch {
	case heartbeat != nil && isHeartbeat(request):
		heartbeat(rpc)
	default:
		select {
		case e.consumer <- rpc:
		case <-e.ctx.Done():
			return nil, errReset
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	return func() (raft.RPCResponse, error) {
		select {
		case r := <-answers:
			return r, nil
		case <-e.ctx.Done():
			return raft.RPCResponse{}, errReset
		case <-ctx.Done():
			return raft.RPCResponse{}, context.Cause(ctx)
		}
	}, nil
}

// takeAgain hands a request over for a second time, later; nobody waits for the answer.
func (e *end) takeAgain(from raft.ServerAddress, request any) {
	ctx, cancel := context.WithTimeout(e.ctx, e.net.waits())
	defer cancel()
	for range 2 { // it comes at another time than the first one
		if _, err := e.net.carry(ctx, message{from, e.addr, request}); err != nil {
			return
		}
	}
	if answer, err := e.take(ctx, request, nil); err == nil {
		_, _ = answer() // of a message that nobody sent
	}
}

// isHeartbeat reports whether a request takes the fast path, as in raft.NetworkTransport.
func isHeartbeat(request any) bool {
	r, ok := request.(*raft.AppendEntriesRequest)
	return ok && r.Term != 0 && len(r.Addr)+len(r.Leader) > 0 && r.PrevLogEntry == 0 && r.PrevLogTerm == 0 &&
		len(r.Entries) == 0 && r.LeaderCommitIndex == 0
}

// call is one request and its answer.
func call[T any](e *end, to raft.ServerAddress, request any, out *T, data io.Reader, limit time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(e.ctx, limit, fmt.Errorf("no answer from %s", to))
	defer cancel()
	answer, err := e.send(ctx, to, request, data)
	if err != nil {
		return err
	}
	response, err := answer()
	if err != nil {
		return err
	}
	*out = *response.(*T)
	return nil
}

func (e *end) AppendEntries(_ raft.ServerID, to raft.ServerAddress, r *raft.AppendEntriesRequest, out *raft.AppendEntriesResponse) error {
	return call(e, to, r, out, nil, e.net.waits())
}
func (e *end) RequestVote(_ raft.ServerID, to raft.ServerAddress, r *raft.RequestVoteRequest, out *raft.RequestVoteResponse) error {
	return call(e, to, r, out, nil, e.net.waits())
}
func (e *end) RequestPreVote(_ raft.ServerID, to raft.ServerAddress, r *raft.RequestPreVoteRequest, out *raft.RequestPreVoteResponse) error {
	return call(e, to, r, out, nil, e.net.waits())
}
func (e *end) TimeoutNow(_ raft.ServerID, to raft.ServerAddress, r *raft.TimeoutNowRequest, out *raft.TimeoutNowResponse) error {
	return call(e, to, r, out, nil, e.net.waits())
}
func (e *end) InstallSnapshot(_ raft.ServerID, to raft.ServerAddress, r *raft.InstallSnapshotRequest, out *raft.InstallSnapshotResponse, data io.Reader) error {
	return call(e, to, r, out, data, snapshotPatience)
}

// AppendEntriesPipeline implements raft.Transport.
func (e *end) AppendEntriesPipeline(_ raft.ServerID, to raft.ServerAddress) (raft.AppendPipeline, error) {
	p := &pipeline{from: e, to: to, flying: make(chan *flight, inFlightMax), done: make(chan raft.AppendFuture, inFlightMax)}
	p.ctx, p.cancel = context.WithCancelCause(e.ctx)
	go p.receive()
	return p, nil
}

// pipeline sends appends one after another without waiting for their answers, which come in
// the same order. The first that fails ends it, as a connection does.
type pipeline struct {
	from   *end
	to     raft.ServerAddress
	ctx    context.Context
	cancel context.CancelCauseFunc
	flying chan *flight
	done   chan raft.AppendFuture
}

// flight is one append on its way.
type flight struct {
	began    time.Time
	request  *raft.AppendEntriesRequest
	response *raft.AppendEntriesResponse
	answer   func() (any, error)
	cancel   context.CancelFunc
	err      error
}

func (f *flight) Error() error                          { return f.err }
func (f *flight) Start() time.Time                      { return f.began }
func (f *flight) Request() *raft.AppendEntriesRequest   { return f.request }
func (f *flight) Response() *raft.AppendEntriesResponse { return f.response }

func (p *pipeline) Consumer() <-chan raft.AppendFuture { return p.done }
func (p *pipeline) Close() error                       { p.cancel(raft.ErrPipelineShutdown); return nil }

func (p *pipeline) AppendEntries(r *raft.AppendEntriesRequest, out *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	ctx, cancel := context.WithTimeoutCause(p.ctx, p.from.net.waits(), fmt.Errorf("no answer from %s", p.to))
	answer, err := p.from.send(ctx, p.to, r, nil)
	if err != nil {
		cancel()
		return nil, err
	}
	f := &flight{began: time.Now(), request: r, response: out, answer: answer, cancel: cancel}
	select {
	case p.flying <- f:
		return f, nil
	case <-p.ctx.Done():
		cancel()
		return nil, context.Cause(p.ctx)
	}
}

func (p *pipeline) receive() {
	for {
		select {
		case <-p.ctx.Done():
			return
		case f := <-p.flying:
			response, err := f.answer()
			f.cancel()
			if err != nil {
				// Raft looks at the response alone; one that says no ends the pipeline.
				f.err, f.response.Success = err, false
				p.cancel(err)
			} else {
				*f.response = *response.(*raft.AppendEntriesResponse)
			}
			select {
			case p.done <- f:
				continue
			default:
			}
			select {
			case p.done <- f:
			case <-p.ctx.Done():
				return
			}
		}
	}
}

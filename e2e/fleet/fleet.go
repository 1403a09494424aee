package fleet

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"slipway/api"
	"slipway/api/pb"
)

// Config is what a Fleet is made of.
type Config struct {
	Nodes    int
	Capacity api.Amount // of each node
	// Addresses gives each process an address in the subnet of its node.
	Addresses bool
	// Assigned is told of each process that a node did not know, Names of each message with names;
	// both must be quick, and may be nil.
	Assigned func(api.NodeID, api.AppName, api.ServiceName, int)
	Names    func(api.NodeID, *pb.Names)
}

// Fleet is many nodes of a rack.
type Fleet struct {
	cfg        Config
	servers    *Servers
	agents     []*agent
	connecting chan struct{} // holds one for each machine that connects
	ctx        context.Context
	stop       context.CancelFunc
	running    sync.WaitGroup

	delivered atomic.Int64 // processes that a node has learned of
	reported  atomic.Int64 // statuses that are durable
	broken    atomic.Int64 // sessions that ended
	lastError atomic.Value // why one of them did
	latest    atomic.Int64 // by how much a heartbeat was late, at most
}

// Joined is how long it took to bring a fleet up.
type Joined struct{ Join, Attach time.Duration }

// Start makes nodes join a rack and attach to it. Close ends them.
func Start(ctx context.Context, servers *Servers, cfg Config) (*Fleet, Joined, error) {
	f := &Fleet{cfg: cfg, servers: servers, connecting: make(chan struct{}, handshakes)}
	f.ctx, f.stop = context.WithCancel(context.Background())
	took, err := f.Grow(ctx, cfg.Nodes)
	if err != nil {
		return nil, took, errors.Join(err, f.Close())
	}
	return f, took, nil
}

// Grow makes n more nodes join and attach.
func (f *Fleet) Grow(ctx context.Context, n int) (took Joined, err error) {
	began, first := time.Now(), len(f.agents)
	if err := f.join(ctx, n); err != nil {
		return took, err
	}
	took.Join = time.Since(began)
	began = time.Now()
	for _, a := range f.agents[first:] {
		f.running.Go(func() { a.run(f.ctx) })
	}
	err = f.Await(ctx, "new nodes attached", func() (attached int64) {
		for _, a := range f.agents[first:] {
			if a.attached.Load() {
				attached++
			}
		}
		return attached
	}, int64(n))
	took.Attach = time.Since(began)
	return took, err
}

// Await waits until a count is reached.
func (f *Fleet) Await(ctx context.Context, what string, count func() int64, want int64) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for count() < want {
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d of %d %s; %d delivered, %d reported, %s\n%s",
				count(), want, what, f.delivered.Load(), f.reported.Load(), f.Broken(), f.servers.Output())
		case <-tick.C:
		}
	}
	return nil
}

// Delivered is how many processes nodes have learned of.
func (f *Fleet) Delivered() int64 { return f.delivered.Load() }

// Reported is how many statuses of processes are durable.
func (f *Fleet) Reported() int64 { return f.reported.Load() }

// Held is how many copies of services the nodes with power have that are to run.
func (f *Fleet) Held() (n int64) {
	for _, a := range f.agents {
		if a.dead.Load() {
			continue
		}
		a.mu.Lock()
		for _, p := range a.has {
			if p.kind == api.KindService && p.desired == api.DesiredRun {
				n++
			}
		}
		a.mu.Unlock()
	}
	return n
}

// late notes by how much a heartbeat came late.
func (f *Fleet) late(by time.Duration) {
	for {
		most := f.latest.Load()
		if int64(by) <= most || f.latest.CompareAndSwap(most, int64(by)) {
			return
		}
	}
}

// Broken tells how many sessions have ended against the will of their agents, why the last did, and by how
// much a heartbeat was sent late: what servers make of those says nothing about them.
func (f *Fleet) Broken() string {
	err, _ := f.lastError.Load().(error)
	return fmt.Sprintf("%d sessions broken, the last by: %v; heartbeats up to %s late", f.broken.Load(), err, time.Duration(f.latest.Load()).Round(time.Millisecond))
}

// Alive is how many nodes have power.
func (f *Fleet) Alive() (n int) {
	for _, a := range f.agents {
		if !a.dead.Load() {
			n++
		}
	}
	return n
}

// Kill takes the power of a node away.
func (f *Fleet) Kill(id api.NodeID) {
	for _, a := range f.agents {
		if a.id == id {
			a.dead.Store(true)
		}
	}
}

// Close ends all nodes.
func (f *Fleet) Close() error {
	f.stop()
	f.running.Wait()
	return nil
}

// address is the n-th address of a subnet, "" without one.
func address(subnet string, n int) string {
	p, err := netip.ParsePrefix(subnet)
	if err != nil {
		return ""
	}
	b := p.Addr().As4()
	b[3] = byte(2 + n%250)
	return netip.AddrFrom4(b).String()
}

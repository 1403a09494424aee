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

	attached  atomic.Int64 // sessions
	delivered atomic.Int64 // processes that a node has learned of
	reported  atomic.Int64 // statuses that are durable
	broken    atomic.Int64 // sessions that ended
	lastError atomic.Value // why one of them did
}

// Joined is how long it took to bring a fleet up.
type Joined struct{ Join, Attach time.Duration }

// Start makes nodes join a rack and attach to it. Close ends them.
func Start(ctx context.Context, servers *Servers, cfg Config) (*Fleet, Joined, error) {
	f := &Fleet{cfg: cfg, servers: servers, connecting: make(chan struct{}, handshakes)}
	f.ctx, f.stop = context.WithCancel(context.Background())
	var took Joined
	began := time.Now()
	if err := f.join(ctx, cfg.Nodes); err != nil {
		return nil, took, err
	}
	took.Join = time.Since(began)
	began = time.Now()
	for _, a := range f.agents {
		f.running.Go(func() { a.run(f.ctx) })
	}
	if err := f.Await(ctx, "attached nodes", func() int64 { return f.attached.Load() }, int64(cfg.Nodes)); err != nil {
		return nil, took, errors.Join(err, f.Close())
	}
	took.Attach = time.Since(began)
	return f, took, nil
}

// Await waits until a count is reached.
func (f *Fleet) Await(ctx context.Context, what string, count func() int64, want int64) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for count() < want {
		select {
		case <-ctx.Done():
			err, _ := f.lastError.Load().(error)
			return fmt.Errorf("%d of %d %s; %d attached, %d delivered, %d reported, %d sessions broken, the last by: %v\n%s",
				count(), want, what, f.attached.Load(), f.delivered.Load(), f.reported.Load(), f.broken.Load(), err, f.servers.Output())
		case <-tick.C:
		}
	}
	return nil
}

// Delivered is how many processes nodes have learned of.
func (f *Fleet) Delivered() int64 { return f.delivered.Load() }

// Broken is how many sessions have ended against the will of their agents.
func (f *Fleet) Broken() int64 { return f.broken.Load() }

// Node returns the ID of the i-th node.
func (f *Fleet) Node(i int) api.NodeID { return f.agents[i].id }

// Kill takes the power of the i-th node away.
func (f *Fleet) Kill(i int) { f.agents[i].dead.Store(true) }

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

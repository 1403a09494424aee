package router

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"slipway/api"
)

// Router takes requests in and hands them to processes.
type Router struct {
	cfg       Config
	logger    *slog.Logger
	httpsPort int // the port that redirects name; 0 if HTTPS is not served
	listeners listeners
	certs     *certificates
	grpc      *http.Transport
	compiler  compiler
	counters  counters
	troubles  troubles
	// table is what requests see.
	table atomic.Pointer[table]
	// settled wakes the drain loop; it holds one wake.
	settled chan struct{}
	// clients counts the open connections of clients.
	clients atomic.Int64
	// tunnels counts upgraded connections, which http.Server does not wait for.
	tunnels sync.WaitGroup
	// handedOver ends Run after another router took the listeners.
	handedOver chan struct{}
	// passing: a handover is under way. leaving: responses ask their clients to reconnect.
	passing, leaving atomic.Bool
	// socket is where the control socket is; it moves in a handover.
	socket   atomic.Pointer[string]
	previous atomic.Pointer[predecessor]
	// applying orders Apply calls: what is in force is what is on disk.
	applying sync.Mutex

	mu sync.Mutex

	// known are the targets of the table in force and those that drain; drains maps the latter
	// to their limit.
	known  map[targetID]*target
	drains map[*target]time.Time
	// revision counts what watchers want to know; news is closed when it moves.
	revision uint64
	news     chan struct{}
}

// New returns a router that listens already, with the table that its state file holds. The
// caller must call Run.
func New(cfg Config) (*Router, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	settled := make(chan struct{}, 1)
	m, err := newMetrics(cfg.Registry)
	if err != nil {
		return nil, fmt.Errorf("router: register metrics: %w", err)
	}
	r := &Router{
		cfg:        cfg,
		logger:     cfg.Logger,
		certs:      newCertificates(cfg),
		grpc:       newGRPCTransport(),
		compiler:   compiler{sticky: cfg.StickyKey, settled: settled, metrics: m},
		troubles:   troubles{logger: cfg.Logger, quiet: make(map[api.ServiceKey]*trouble)},
		settled:    settled,
		handedOver: make(chan struct{}),
		known:      make(map[targetID]*target),
		drains:     make(map[*target]time.Time),
		revision:   uint64(time.Now().UnixNano()), // never one that a predecessor told
		news:       make(chan struct{}),
	}
	if err := r.register(cfg.Registry); err != nil {
		return nil, fmt.Errorf("router: register metrics: %w", err)
	}
	r.certs.reload(r.logger)
	r.install(r.load())
	if err := r.listen(); err != nil {
		return nil, fmt.Errorf("router: %w", err)
	}
	r.httpsPort = r.publicPort()
	return r, nil
}

// HTTPAddr and HTTPSAddr return the addresses that the router listens on; empty for none.
func (r *Router) HTTPAddr() string { return addrOf(r.listeners.http) }

// HTTPSAddr returns the address of the TLS listener.
func (r *Router) HTTPSAddr() string { return addrOf(r.listeners.https) }

func addrOf(l net.Listener) string {
	if l == nil {
		return ""
	}
	return l.Addr().String()
}

func (r *Router) publicPort() int {
	if r.listeners.https == nil {
		return 0
	}
	if r.cfg.HTTPSPort != 0 {
		return r.cfg.HTTPSPort
	}
	if addr, ok := r.listeners.https.Addr().(*net.TCPAddr); ok {
		return addr.Port
	}
	return 443
}

// Run serves until ctx ends or another router takes over. Then it stops accepting, waits for
// the requests in flight up to the shutdown limit, closes upgraded connections and returns.
func (r *Router) Run(ctx context.Context) error {
	defer r.grpc.CloseIdleConnections()
	group, alive := errgroup.WithContext(ctx)
	running, stop := context.WithCancel(alive)
	defer stop()
	loops, stopLoops := context.WithCancel(context.WithoutCancel(ctx))
	defer stopLoops()
	servers := r.servers()
	control := r.controlServer(loops)
	for _, s := range append(servers, control) {
		group.Go(s.serve)
	}
	var background sync.WaitGroup
	background.Go(func() { _ = r.drainLoop(loops) })
	background.Go(func() { r.sweepLoop(loops) })
	if p := r.previous.Load(); p != nil {
		background.Go(func() { r.follow(loops, p) })
	}
	group.Go(func() error {
		select {
		case <-running.Done():
		case <-r.handedOver:
			r.leave(running, servers)
		}
		stop()
		r.shutdown(alive, servers)
		_ = control.http.Close()
		_ = os.Remove(*r.socket.Load())
		return nil
	})
	r.logger.Info("router started", "http", r.HTTPAddr(), "https", r.HTTPSAddr(), "version", r.table.Load().spec.Version)
	err := group.Wait()
	stopLoops()
	background.Wait()
	r.closeIdle()
	r.logger.Info("router stopped")
	return err
}

// leave stops accepting and lets clients that speak now know that they should reconnect, before
// connections on which nobody speaks are closed.
func (r *Router) leave(ctx context.Context, servers []*server) {
	r.leaving.Store(true)
	for _, s := range servers {
		_ = s.listener.Close()
	}
	timer := time.NewTimer(leavePeriod)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// shutdown ends the servers when nothing is in flight any more. Once ctx has ended it waits for
// the shutdown limit; a router that handed over may take its time, for it follows the tables and
// so lets go of what has to end.
func (r *Router) shutdown(ctx context.Context, servers []*server) {
	alive := ctx
	ctx, cancel := context.WithTimeout(context.WithoutCancel(alive), lingerMax)
	defer cancel()
	limit := make(chan struct{})
	unwatch := context.AfterFunc(alive, func() {
		defer close(limit)
		timer := time.NewTimer(r.cfg.ShutdownLimit)
		defer timer.Stop()
		select {
		case <-timer.C:
			cancel()
		case <-ctx.Done():
		}
	})
	defer func() {
		cancel()
		if !unwatch() {
			<-limit
		}
	}()
	var wait sync.WaitGroup
	for _, s := range servers {
		wait.Go(func() {
			if s.http.Shutdown(ctx) != nil {
				_ = s.http.Close()
			}
		})
	}
	wait.Wait()
	r.waitTunnels(ctx)
	r.waitPrevious(ctx)
}

// waitPrevious waits for the router that this one took over from, which hears of tables by this one,
// as long as its own successor does so by it.
func (r *Router) waitPrevious(ctx context.Context) {
	for r.leaving.Load() && ctx.Err() == nil {
		r.mu.Lock()
		news := r.news
		r.mu.Unlock()
		if r.previous.Load() == nil {
			return
		}
		select {
		case <-news:
		case <-ctx.Done():
		}
	}
}

// waitTunnels waits for upgraded connections, and closes them at the end of ctx.
func (r *Router) waitTunnels(ctx context.Context) {
	cut := context.AfterFunc(ctx, func() {
		r.mu.Lock()
		targets := make([]*target, 0, len(r.known))
		for _, tg := range r.known {
			targets = append(targets, tg)
		}
		r.mu.Unlock()
		for _, tg := range targets {
			tg.closeTunnels()
		}
	})
	r.tunnels.Wait()
	cut()
}

// sweepLoop closes connections that were idle for too long and looks at the certificates.
func (r *Router) sweepLoop(ctx context.Context) {
	sweep, certs := time.NewTicker(sweepInterval), time.NewTicker(CertificateInterval)
	defer sweep.Stop()
	defer certs.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-sweep.C:
			r.troubles.sweep(now)
			for _, tg := range r.table.Load().targets {
				tg.sweep(now.Add(-upstreamIdleMax))
			}
		case <-certs.C:
			r.certs.reload(r.logger)
		}
	}
}

func (r *Router) closeIdle() {
	for _, tg := range r.table.Load().targets {
		tg.sweep(time.Now().Add(time.Hour))
	}
}

// Apply puts a table in force. When it returns, every request that has not chosen its target
// yet uses the table.
func (r *Router) Apply(t api.RouteTable) error {
	r.applying.Lock()
	defer r.applying.Unlock()
	if now := r.table.Load().spec.Version; t.Version < now {
		return api.Errorf(api.CodeConflict, "route table %d is older than table %d, which is in force", t.Version, now)
	}
	r.install(t)
	r.store(t)
	r.changed()
	r.logger.Info("route table applied", "version", t.Version, "routes", len(t.Routes))
	return nil
}

// install compiles a table and swaps it in.
func (r *Router) install(spec api.RouteTable) {
	r.mu.Lock()
	defer r.mu.Unlock()
	next, problems := r.compiler.compile(spec, r.known)
	r.reviveLocked(next)
	r.table.Store(next)
	r.retireLocked(next, time.Now())
	r.compiler.metrics.keep(spec)
	r.wake()
	for _, p := range problems {
		r.logger.Warn("part of the route table was left out", "version", spec.Version, "problem", p)
	}
}

// wake makes the drain loop look.
func (r *Router) wake() {
	select {
	case r.settled <- struct{}{}:
	default: // it will look already
	}
}

func (r *Router) revisionNow() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.revision
}

// changed tells the watchers that the status is another.
func (r *Router) changed() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.revision++
	close(r.news)
	r.news = make(chan struct{})
}

// Status returns what the router serves and who still drains.
func (r *Router) Status() api.RouterStatus {
	return api.RouterStatus{
		Version:  r.table.Load().spec.Version,
		Draining: r.draining(),
		Requests: r.counters.requests.Load(),
		Errors:   r.counters.errors.Load(),
		Retries:  r.counters.retries.Load(),
	}
}

package build

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"time"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/plugins/snapshots/overlay"
	"github.com/moby/buildkit/client"
	bkconfig "github.com/moby/buildkit/cmd/buildkitd/config"
	"github.com/moby/buildkit/control"
	"github.com/moby/buildkit/executor/oci"
	"github.com/moby/buildkit/executor/runcexecutor"
	"github.com/moby/buildkit/frontend"
	dockerfile "github.com/moby/buildkit/frontend/dockerfile/builder"
	"github.com/moby/buildkit/frontend/gateway/forwarder"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/solver"
	"github.com/moby/buildkit/solver/bboltcachestorage"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/db/boltutil"
	"github.com/moby/buildkit/util/grpcerrors"
	"github.com/moby/buildkit/util/network"
	"github.com/moby/buildkit/util/network/netproviders"
	"github.com/moby/buildkit/worker"
	"github.com/moby/buildkit/worker/base"
	"github.com/moby/buildkit/worker/runc"
	"go.opentelemetry.io/otel/metric/noop"
	"google.golang.org/grpc"
)

const (
	buildkitVersion = "v0.34.2"
	messageMax      = 64 << 20 // bytes of one gRPC message
	historyEntries  = 20
	sourceCacheKeep = 7 * 24 * time.Hour
)

// engine is a BuildKit daemon without its process.
type engine struct {
	server     *grpc.Server
	controller *control.Controller
	stop       chan struct{}
}

// newEngine opens the cache in c.Root. Its parts live until close.
func newEngine(ctx context.Context, c childConfig, hosts docker.RegistryHosts, steps network.Provider) (*engine, error) {
	sessions, err := session.NewManager()
	if err != nil {
		return nil, err
	}
	opt, err := workerOptions(c, hosts, steps)
	if err != nil {
		return nil, err
	}
	w, err := base.NewWorker(ctx, opt)
	if err != nil {
		return nil, err
	}
	workers := &worker.Controller{}
	if err := workers.Add(w); err != nil {
		return nil, err
	}
	cache, err := bboltcachestorage.NewStore(filepath.Join(c.Root, "cache.db"))
	if err != nil {
		return nil, err
	}
	history, err := boltutil.Open(filepath.Join(c.Root, "history.db"), 0o600, nil)
	if err != nil {
		return nil, err
	}
	e := &engine{stop: make(chan struct{})}
	e.controller, err = control.NewController(control.Opt{
		SessionManager:   sessions,
		WorkerController: workers,
		Frontends:        map[string]frontend.Frontend{"dockerfile.v0": forwarder.NewGatewayForwarder(workers.Infos(), dockerfile.Build)},
		CacheManager:     solver.NewCacheManager(ctx, "local", cache, worker.NewCacheResultStorage(workers)),
		MeterProvider:    noop.NewMeterProvider(),
		HistoryDB:        history,
		CacheStore:       cache,
		LeaseManager:     w.LeaseManager(),
		ContentStore:     w.ContentStore(),
		GarbageCollect:   w.GarbageCollect,
		HistoryConfig:    &bkconfig.HistoryConfig{MaxEntries: new(int64(historyEntries))},
		GracefulStop:     e.stop,
	})
	if err != nil {
		return nil, err
	}
	e.server = grpc.NewServer(
		grpc.UnaryInterceptor(grpcerrors.UnaryServerInterceptor), grpc.StreamInterceptor(grpcerrors.StreamServerInterceptor),
		grpc.MaxRecvMsgSize(messageMax), grpc.MaxSendMsgSize(messageMax))
	e.controller.Register(e.server)
	return e, nil
}

// workerOptions describes the one worker: runc, overlayfs, our networks.
func workerOptions(c childConfig, hosts docker.RegistryHosts, steps network.Provider) (base.WorkerOpt, error) {
	newSnapshotter := func(root string) (snapshots.Snapshotter, error) {
		return overlay.NewSnapshotter(root, overlay.AsynchronousRemove)
	}
	opt, err := runc.NewWorkerOpt(c.Root, runc.SnapshotterFactory{Name: "overlayfs", New: newSnapshotter},
		false, oci.ProcessSandbox, nil, nil, netproviders.Opt{Mode: "host"}, nil, "", "", false, nil, "", c.Cgroup, nil)
	if err != nil {
		return opt, err
	}
	// NewWorkerOpt knows only its own kinds of network, so the executor is made again with
	// ours. "host" is the hub, and is not to be had without an entitlement that nobody gets.
	opt.NetworkProviders = map[pb.NetMode]network.Provider{
		pb.NetMode_UNSET: steps,
		pb.NetMode_NONE:  network.NewNoneProvider(),
	}
	opt.Executor, err = runcexecutor.New(runcexecutor.Opt{
		Root:                filepath.Join(opt.Root, "executor"),
		ProcessMode:         oci.ProcessSandbox,
		DefaultCgroupParent: c.Cgroup,
		ResourceMonitor:     opt.ResourceMonitor,
	}, opt.NetworkProviders)
	if err != nil {
		return opt, err
	}
	opt.ProxyProvider = nil
	opt.RegistryHosts = hosts
	opt.BuildkitVersion = client.BuildkitVersion{Package: "slipway", Version: buildkitVersion}
	opt.GCPolicy = []client.PruneInfo{
		{Filter: []string{"type==source.local,type==exec.cachemount,type==source.git.checkout"},
			KeepDuration: sourceCacheKeep, MaxUsedSpace: int64(c.CacheMax) / 2},
		{All: true, MaxUsedSpace: int64(c.CacheMax)},
	}
	return opt, nil
}

// serve answers on l until ctx ends.
func (e *engine) serve(ctx context.Context, l net.Listener) error {
	stop := context.AfterFunc(ctx, e.server.Stop)
	defer stop()
	err := e.server.Serve(l)
	if ctx.Err() != nil && (err == nil || errors.Is(err, grpc.ErrServerStopped)) {
		return nil
	}
	return fmt.Errorf("serve: %w", err)
}

// close ends what builds are left and closes the databases.
func (e *engine) close() error {
	close(e.stop)
	e.server.Stop()
	return e.controller.Close()
}

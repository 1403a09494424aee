package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"slipway/api"
	"slipway/api/machine"
	"slipway/api/pb"
	"slipway/raftstore"
	"slipway/raftstore/keyring"
	"slipway/server/auth"
	"slipway/server/control"
	"slipway/server/dispatch"
	"slipway/server/gossip"
	"slipway/server/link"
	"slipway/server/objects"
	"slipway/server/registry"
)

// Config is what a Server is made of.
type Config struct {
	Dir string // the data directory
	// Bootstrap makes a new rack; the rest of its facts follow. Join names servers of a rack that
	// exists, and Token is what it is joined with. Both are for an empty data directory.
	Bootstrap bool
	Join      []string
	Token     string
	Rack      string // name
	Domain    string // of the routes
	HTTPPort  int    // of the routers, as clients see them
	HTTPSPort int
	// Network is where the addresses of processes come from; "" lets nodes choose, in a rack of one.
	Network string
	// GRPCAddr serves clients and agents, HTTPAddr registry, metrics and health, RaftAddr the
	// other servers. They find one another on GossipAddr; "" is a server that stays alone.
	GRPCAddr, HTTPAddr, RaftAddr, GossipAddr string
	Version                                  string
	// CertificateLife is how long the certificates of machines are good; 0 is thirty days.
	CertificateLife time.Duration
	// AllowPrivileged takes manifests whose services can take over their node: privileged ones,
	// those that add dangerous capabilities or run without a seccomp profile.
	AllowPrivileged bool
	// Alone makes elections quick; for a rack of one server on one machine.
	Alone bool
	Log   *slog.Logger
	// Listen opens the listeners for clients, agents and registry; nil listens on TCP.
	Listen func(addr string) (net.Listener, error)
	// Transport carries Raft; nil listens on RaftAddr.
	Transport raft.Transport
	// settle is how long an authority is trusted that signs no more; 0 is the default of rotation.
	settle time.Duration
	// Died is told, once, that the replica cannot go on, mostly for its disk: the program is to end at
	// once, without waiting for anything. nil only logs it.
	Died func(error)
	// Metrics receives what the server measures; nil makes a registry.
	Metrics *prometheus.Registry
}

// Server is one server of a rack.
type Server struct {
	cfg       Config
	store     *raftstore.Store
	identity  *machine.Identity
	keyring   *keyring.Keyring
	authority *authority
	link      *link.Link
	gossip    *gossip.Gossip
	forward   *forwarder
	guard     *auth.Guard
	trust     trust
	// machineSecret is what the registry's handler is shown for machines; it never leaves.
	machineSecret string

	// passed is when the leader's loop passed last, in ns since 1970, and saw the state of which index.
	passedAt, passedIndex atomic.Int64

	seenMu sync.Mutex
	seen   map[string]sighting // servers, by ID

	dispatch *dispatch.Server
	control  *control.Server
	registry *registry.Registry
	sources  *objects.Store
	metrics  *metrics
	grpc     *grpc.Server

	grpcListener, httpListener net.Listener
	inside                     *inside // to the gRPC server as well, for insideConn
	insideConn                 *grpc.ClientConn
	ready                      chan struct{}
}

// New opens the data directory and the listeners, and joins the rack if this server is to. Run
// serves.
func New(ctx context.Context, cfg Config) (*Server, error) {
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	if cfg.Metrics == nil {
		cfg.Metrics = prometheus.NewRegistry()
	}
	s := &Server{cfg: cfg, ready: make(chan struct{}), seen: map[string]sighting{}, machineSecret: auth.NewSecret()}
	if err := s.open(ctx); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// open opens everything below the data directory, and the listeners.
func (s *Server) open(ctx context.Context) (err error) {
	if s.identity, s.keyring, err = enter(ctx, s.cfg); err != nil {
		return err
	}
	s.metrics = newMetrics()
	if s.store, err = s.openStore(); err != nil {
		return err
	}
	s.authority = &authority{view: s.store.View, keyring: s.keyring, life: s.cfg.certificateLife()}
	if s.forward, err = newForwarder(s.store.IsLeader, s.leaderAddr, s.identity); err != nil {
		return err
	}
	if err := s.openServices(); err != nil {
		return err
	}
	if err := s.metrics.register(s.cfg.Metrics, s.store); err != nil {
		return fmt.Errorf("register metrics: %w", err)
	}
	s.serveGRPC()
	if err := s.openInside(); err != nil {
		return err
	}
	if err := s.openGossip(); err != nil {
		return err
	}
	return s.listen()
}

// openServices opens what serves clients and agents.
func (s *Server) openServices() (err error) {
	if s.sources, err = objects.Open(filepath.Join(s.cfg.Dir, "sources")); err != nil {
		return err
	}
	s.guard = auth.NewGuard(s.store, time.Now)
	s.guard.Check(s.identity.Check)
	s.registry, err = registry.New(registry.Config{
		Root: filepath.Join(s.cfg.Dir, "registry"), HTTPSecret: s.keyring.Digest([]byte("registry")),
		Authorize: s.mayUseImages, Logger: s.cfg.Log,
		ID: s.identity.Name().ID, Peers: s.peers, Client: s.peerClient(), Shared: shared,
	})
	if err != nil {
		return err
	}
	s.sources.Connect(s.registry.Peers())
	secrets := control.NewSecrets(s.keyring)
	s.dispatch = dispatch.New(dispatch.Config{
		Store: s.store, Secrets: secrets, Sources: sourceFiles{s.sources, s}, Now: time.Now, Log: s.cfg.Log,
		Authorize: auth.AuthorizeNode, Issue: s.authority.issue, Leader: s.leaderAddr,
		Servers: func() *pb.Servers { return serverAddresses(s.store.View(), s.leaderID()) },
	})
	s.control = control.New(control.Config{
		Store: s.store, Keyring: s.keyring, Objects: sourceFiles{s.sources, s}, Agents: tunnels{s.dispatch},
		Callers: callers{}, Scheduler: Planner{}, Mint: randomSeed, Now: time.Now, Log: s.cfg.Log,
		Version: s.cfg.Version, AllowPrivileged: s.cfg.AllowPrivileged, Servers: s.store.Servers, Members: s, SpreadImage: s.spreadImage, Backup: s.Backup,
		NewAuthority: s.authority.replacement, Images: images{s.registry},
	})
	return nil
}

// leaderAddr is where the leader serves clients and agents, "" when nobody leads.
func (s *Server) leaderAddr() string {
	if known, ok := s.store.View().Server(s.leaderID()); ok {
		return known.Addr
	}
	return ""
}

// window is how much a caller may send that was not read yet. One that is fixed saves the messages by
// which gRPC measures a connection, after each heartbeat of each node.
const window = 1 << 20

// thrift makes connections cheap that are many and quiet: buffers live while they are used, and reading
// needs none, for TLS has its own.
var thrift = []grpc.ServerOption{
	grpc.SharedWriteBuffer(true), grpc.ReadBufferSize(0), grpc.InitialWindowSize(window), grpc.InitialConnWindowSize(window),
}

// serveGRPC sets up what clients, agents and machines that join dial.
func (s *Server) serveGRPC() {
	options := append(s.guard.ServerOptions(s.forward), grpc.Creds(newHandshakes(credentials.NewTLS(s.identity.Server()))))
	s.grpc = grpc.NewServer(append(options, thrift...)...)
	pb.RegisterControlServer(s.grpc, s.control)
	pb.RegisterAgentsServer(s.grpc, s.dispatch)
	pb.RegisterMachinesServer(s.grpc, machines{server: s})
}

func (s *Server) listen() (err error) {
	listen := s.cfg.Listen
	if listen == nil {
		listen = func(addr string) (net.Listener, error) { return net.Listen("tcp", addr) }
	}
	if s.grpcListener, err = listen(s.cfg.GRPCAddr); err != nil {
		return fmt.Errorf("listen for clients and agents: %w", err)
	}
	if s.httpListener, err = listen(s.cfg.HTTPAddr); err != nil {
		return fmt.Errorf("listen for the registry: %w", err)
	}
	return nil
}

// hosts are the names that the server's certificate is for.
func hosts(cfg Config) []string {
	names := []string{"localhost", "127.0.0.1", "::1", api.RackHost}
	for _, addr := range []string{cfg.GRPCAddr, cfg.HTTPAddr} {
		if host, _, err := net.SplitHostPort(addr); err == nil && host != "" && host != "0.0.0.0" && host != "::" {
			names = append(names, host)
		}
	}
	if name, err := os.Hostname(); err == nil {
		names = append(names, name)
	}
	return names
}

// GRPCAddr is the address that clients and agents dial.
func (s *Server) GRPCAddr() string { return s.grpcListener.Addr().String() }

// HTTPAddr is the address of registry and metrics.
func (s *Server) HTTPAddr() string { return s.httpListener.Addr().String() }

// Trust returns the authorities that vouch for the servers of the rack, in PEM.
func (s *Server) Trust() []byte { return s.identity.Trust() }

// Run serves until ctx ends or a part fails.
func (s *Server) Run(ctx context.Context) error {
	defer s.close()
	web := &http.Server{Handler: s.leaveOld(s.routes()), TLSConfig: s.identity.Server(), ReadHeaderTimeout: 10 * time.Second,
		ErrorLog: slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelDebug)}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.lead(ctx) })
	group.Go(func() error { return s.keepContent(ctx) })
	group.Go(func() error { return s.collect(ctx) })
	group.Go(func() error { return s.identity.KeepFresh(ctx, s.renew, s.notRenewed) })
	group.Go(func() error { return s.keepTrust(ctx) })
	if s.gossip != nil {
		group.Go(func() error { return s.gossip.Run(ctx) })
	}
	group.Go(func() error {
		if err := s.awaitRack(ctx); err != nil {
			return err
		}
		close(s.ready)
		group.Go(func() error {
			if err := s.grpc.Serve(s.inside); err != nil && ctx.Err() == nil {
				return fmt.Errorf("serve this process: %w", err)
			}
			return nil
		})
		if err := s.grpc.Serve(s.grpcListener); err != nil && ctx.Err() == nil {
			return fmt.Errorf("serve clients and agents: %w", err)
		}
		return nil
	})
	group.Go(func() error {
		if err := web.ServeTLS(s.httpListener, "", ""); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve the registry: %w", err)
		}
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		s.grpc.Stop()
		if err := web.Close(); err != nil {
			return fmt.Errorf("close the registry: %w", err)
		}
		return nil
	})
	err := group.Wait()
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// awaitRack waits until this replica knows its rack: before that it knows no token either, and
// would turn everybody away who merely came early.
func (s *Server) awaitRack(ctx context.Context) error {
	v := s.store.View()
	for v.Rack().ClusterID == "" {
		var err error
		if v, err = s.store.Next(ctx, v.Index()); err != nil {
			return err
		}
	}
	return nil
}

// renew signs a new certificate for this server: every server can.
func (s *Server) renew(context.Context) error {
	key, request, err := machine.NewRequest()
	if err != nil {
		return err
	}
	cert, err := s.authority.certify(s.identity.Name(), hosts(s.cfg), request)
	if err != nil {
		return err
	}
	if err := s.identity.Replace(key, cert.Chain, cert.Trust); err != nil {
		return err
	}
	s.forward.redial()
	return nil
}

func (s *Server) notRenewed(err error) {
	s.cfg.Log.Warn("certificate of this server not renewed", "err", err)
}

// Ready is closed once clients are served.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// close closes what open opened.
func (s *Server) close() {
	for _, l := range []net.Listener{s.grpcListener, s.httpListener} {
		if l != nil {
			l.Close()
		}
	}
	if s.insideConn != nil {
		_ = s.insideConn.Close() // only ErrClientConnClosing, which says what is wanted
		s.inside.Close()
	}
	if s.forward != nil {
		s.forward.close()
	}
	if s.gossip != nil {
		s.gossip.Close()
	}
	if s.link != nil {
		defer s.link.Close()
	}
	if s.store != nil {
		if err := s.store.Close(); err != nil {
			s.cfg.Log.Warn("store not closed cleanly", "err", err)
		}
	}
}

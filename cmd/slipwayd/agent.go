package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	"slipway/agent"
	"slipway/agent/build"
	"slipway/agent/router"
	"slipway/api"
	"slipway/runtime/containerd"
)

// agentFlags are what an agent can be told.
type agentFlags struct {
	containerd string
	addr, host string
	metrics    string
	privileged bool
	devices    []string
}

func (f *agentFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.containerd, "containerd", containerdAuto, `"auto", "own", or the path of a socket`)
	cmd.Flags().StringVar(&f.addr, "node-addr", "127.0.0.1", "address where peers reach the node")
	cmd.Flags().StringVar(&f.host, "router-host", "127.0.0.1", "address that the router listens on")
	cmd.Flags().StringVar(&f.metrics, "metrics-addr", "127.0.0.1:7423", "loopback address of the node's metrics; none if empty")
	cmd.Flags().BoolVar(&f.privileged, "allow-privileged", false, "run privileged services")
	cmd.Flags().StringArrayVar(&f.devices, "device", nil, "devices that services can ask for by NAME, each for one process at a time; may be repeated:\n"+
		"NAME=PATH[,PATH...][;vendor=V;model=M;KEY=VALUE], for example coral=/dev/apex_0;vendor=google. GPUs of NVIDIA and AMD are found")
}

// rackAccess is how a node reaches the servers of its rack.
type rackAccess struct {
	Rack     string // name
	GRPC     string // address
	Registry string // address
	CA       []byte // PEM
	Token    string
	HTTP     int // ports of the router
	HTTPS    int
}

func agentCommand() *cobra.Command {
	var f agentFlags
	var dir, ca, token, logFile string
	var access rackAccess
	var debug bool
	cmd := &cobra.Command{
		Use: "agent", Short: "Run a node", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if access.CA, err = os.ReadFile(ca); err != nil {
				return api.Errorf(api.CodeInvalid, "read the rack's CA: %w", err)
			}
			secret, err := os.ReadFile(token)
			if err != nil {
				return api.Errorf(api.CodeInvalid, "read the node's token: %w", err)
			}
			access.Token = string(secret)
			log, err := newLogger(logFile, debug)
			if err != nil {
				return err
			}
			p, err := locate(dir)
			if err != nil {
				return err
			}
			return runAgent(cmd.Context(), p, f, access, log)
		},
	}
	f.register(cmd)
	cmd.Flags().StringVar(&dir, "dir", "/var/lib/slipway", "data directory")
	cmd.Flags().StringVar(&access.GRPC, "server", "127.0.0.1:7420", "address of a server")
	cmd.Flags().StringVar(&access.Registry, "registry", "127.0.0.1:7421", "address of the rack's registry")
	cmd.Flags().StringVar(&access.Rack, "rack", "main", "name of the rack")
	cmd.Flags().StringVar(&ca, "ca", "", "file with the rack's CA")
	cmd.Flags().StringVar(&token, "token", "", "file with a token of role node")
	cmd.Flags().IntVar(&access.HTTP, "http", 8080, "port of the router for HTTP")
	cmd.Flags().IntVar(&access.HTTPS, "https", 8443, "port of the router for HTTPS")
	cmd.Flags().StringVar(&logFile, "log", "", "log file; stderr if empty")
	cmd.Flags().BoolVar(&debug, "debug", false, "log more")
	return cmd
}

// runAgent runs a node until ctx ends. Containers, router and containerd outlive it.
func runAgent(ctx context.Context, p paths, f agentFlags, access rackAccess, log *slog.Logger) error {
	socket, own, err := ensureContainerd(ctx, p, f.containerd)
	if err != nil {
		return err
	}
	logger, err := sliplog()
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(access.CA) {
		return api.Errorf(api.CodeInvalid, "the rack's CA is not a certificate in PEM")
	}
	engine, err := containerd.New(ctx, containerd.Config{
		Socket: socket, Namespace: p.namespace(), Dir: p.run("containers"), Sliplog: logger, Cgroup: p.namespace(), Init: initProgram(),
		Hosts: rackHosts(access, pool), Log: log,
	})
	if err != nil {
		return err
	}
	defer engine.Close()
	conn, err := dial(access, pool)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := stickyKey(p); err != nil {
		return err
	}
	registry := newRegistry()
	proxy := router.Dial(p.routerSocket())
	node, err := agent.OpenNode(ctx, agent.Options{
		Dir: p.data("node"), Run: p.run("net"), Addr: f.addr, Rack: access.Rack, ID: mintNode(), Version: version,
		Server: conn, Runtime: engine, Ingress: proxy, Privileged: f.privileged, Devices: f.devices,
		Metrics: registry, Log: log,
		Build: build.Config{
			Root: p.data("build"), Cgroup: p.namespace() + "-build",
			Registry: build.Registry{Addr: access.Registry, ServerName: api.RackHost, CA: access.CA, User: "node", Password: access.Token},
		},
	})
	if err != nil {
		return err
	}
	ingress, err := routerDaemon(p, f.host, access.HTTP, access.HTTPS)
	if err != nil {
		return err
	}
	metrics, err := listenMetrics(f.metrics, log)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return supervise(ctx, ingress, log) })
	if own != nil {
		group.Go(func() error { return supervise(ctx, own, log) })
	}
	group.Go(func() error { return node.Run(ctx) })
	group.Go(func() error { return serveMetrics(ctx, metrics, registry, proxy, log) })
	return group.Wait()
}

// initProgram is where Debian's package tini keeps it; "" where it is not installed.
func initProgram() string {
	const tini = "/usr/bin/tini-static"
	if _, err := os.Stat(tini); err != nil {
		return ""
	}
	return tini
}

// rackHosts maps the name of the rack's registry to its address.
func rackHosts(access rackAccess, pool *x509.CertPool) docker.RegistryHosts {
	client := &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: api.RackHost}, MaxIdleConnsPerHost: 8, IdleConnTimeout: 30 * time.Second,
	}}
	auth := docker.NewDockerAuthorizer(docker.WithAuthClient(client), docker.WithAuthCreds(func(string) (string, string, error) {
		return "node", access.Token, nil
	}))
	return func(host string) ([]docker.RegistryHost, error) {
		if host != api.RackHost {
			return nil, api.Errorf(api.CodeDenied, "images come from the rack's registry only, not from %s", host)
		}
		return []docker.RegistryHost{{
			Client: client, Authorizer: auth, Host: access.Registry, Scheme: "https", Path: "/v2",
			Capabilities: docker.HostCapabilityPull | docker.HostCapabilityResolve,
		}}, nil
	}
}

// dial connects to the servers.
func dial(access rackAccess, pool *x509.CertPool) (*grpc.ClientConn, error) {
	conn, err := grpc.NewClient(access.GRPC,
		grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: pool, ServerName: api.RackHost, MinVersion: tls.VersionTLS13})),
		grpc.WithPerRPCCredentials(bearer(access.Token)), grpc.WithNoProxy(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}))
	if err != nil {
		return nil, fmt.Errorf("reach the servers at %s: %w", access.GRPC, err)
	}
	return conn, nil
}

// bearer is a token that goes along with every call.
type bearer string

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(b)}, nil
}

// RequireTransportSecurity implements credentials.PerRPCCredentials.
func (bearer) RequireTransportSecurity() bool { return true }

// mintNode draws the ID of a node; the store keeps the first one.
func mintNode() api.NodeID {
	b := make([]byte, 6)
	rand.Read(b) // never fails
	return api.NodeID(fmt.Sprintf("n%x", b))
}

// stickyKey makes the key of session cookies and the directory of certificates.
func stickyKey(p paths) error {
	for _, dir := range []string{"certificates", "node"} {
		if err := os.MkdirAll(p.data(dir), 0o700); err != nil {
			return fmt.Errorf("directory: %w", err)
		}
	}
	if _, err := os.Stat(p.data("router.key")); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	key := make([]byte, 32)
	rand.Read(key) // never fails
	return os.WriteFile(p.data("router.key"), key, 0o600)
}

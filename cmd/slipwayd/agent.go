package main

import (
	"context"
	"crypto/rand"
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

	"slipway/agent"
	"slipway/agent/build"
	"slipway/agent/router"
	"slipway/api"
	"slipway/api/machine"
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

// joinFlags are how a node becomes part of its rack.
type joinFlags struct {
	servers     []string
	tokenFile   string
	token       string
	http, https int // ports of the router
}

func agentCommand() *cobra.Command {
	var f agentFlags
	var j joinFlags
	var dir, logFile string
	var debug bool
	cmd := &cobra.Command{
		Use: "agent", Short: "Run a node", Args: cobra.NoArgs,
		Example: "  slipwayd agent --join 192.0.2.1:7420 --token-file join-agent.token --node-addr 192.0.2.11",
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if j.token, err = readToken(j.tokenFile); err != nil {
				return err
			}
			log, err := newLogger(logFile, debug)
			if err != nil {
				return err
			}
			p, err := create(dir)
			if err != nil {
				return err
			}
			return runAgent(cmd.Context(), p, f, j, log)
		},
	}
	f.register(cmd)
	cmd.Flags().StringVar(&dir, "dir", "/var/lib/slipway", "data directory")
	cmd.Flags().StringSliceVar(&j.servers, "join", nil, "HOST:PORT of servers of the rack to join, with an empty data directory")
	cmd.Flags().StringVar(&j.tokenFile, "token-file", "", "file with the token to join with: join-agent.token of the first server, or slipway rack join-token agent")
	cmd.Flags().IntVar(&j.http, "http", 8080, "port of the router for HTTP")
	cmd.Flags().IntVar(&j.https, "https", 8443, "port of the router for HTTPS")
	cmd.Flags().StringVar(&logFile, "log", "", "log file; stderr if empty")
	cmd.Flags().BoolVar(&debug, "debug", false, "log more")
	return cmd
}

// runAgent runs a node until ctx ends. Containers, router and containerd outlive it.
func runAgent(ctx context.Context, p paths, f agentFlags, j joinFlags, log *slog.Logger) error {
	m, err := enterRack(ctx, p, f, j, log)
	if err != nil {
		return err
	}
	defer m.conn.Close()
	err = runNode(ctx, m, p, f, j, log)
	if err != nil && ctx.Err() == nil {
		m.report(ctx, f, err)
	}
	return err
}

// runNode runs what a node is made of, as a member of its rack.
func runNode(ctx context.Context, m *member, p paths, f agentFlags, j joinFlags, log *slog.Logger) error {
	socket, own, err := ensureContainerd(ctx, p, f.containerd)
	if err != nil {
		return err
	}
	logger, err := sliplog()
	if err != nil {
		return err
	}
	engine, err := containerd.New(ctx, containerd.Config{
		Socket: socket, Namespace: p.namespace(), Dir: p.run("containers"), Sliplog: logger, Cgroup: p.namespace(), Init: initProgram(),
		Hosts: rackHosts(m.dir), Log: log,
	})
	if err != nil {
		return err
	}
	defer engine.Close()
	if err := stickyKey(p); err != nil {
		return err
	}
	registry := newRegistry()
	proxy := router.Dial(p.routerSocket())
	node, err := agent.OpenNode(ctx, agent.Options{
		Dir: p.data("node"), Run: p.run("net"), Addr: f.addr, Rack: m.rack.Name, Cluster: m.identity.Name().Cluster, ID: api.NodeID(m.identity.Name().ID), Version: version,
		Server: m.conn, Servers: m.servers, Runtime: engine, Ingress: proxy, Privileged: f.privileged, Devices: f.devices,
		Metrics: registry, Log: log,
		Build: build.Config{Root: p.data("build"), Cgroup: p.namespace() + "-build", Registry: build.Registry{Machine: m.dir}},
	})
	if err != nil {
		return err
	}
	ingress, err := routerDaemon(p, f.host, j.http, j.https)
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
	group.Go(func() error { return m.identity.KeepFresh(ctx, m.renew, m.notRenewed) })
	group.Go(func() error { return m.identity.Follow(ctx, m.conn, m.renew, m.notFollowed) })
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

// rackHosts maps the name of the rack's registry to its servers. dir holds the node's identity.
func rackHosts(dir string) docker.RegistryHosts {
	client := &http.Client{Transport: &http.Transport{
		DialTLSContext: machine.RegistryDialer(dir, nil), MaxIdleConnsPerHost: 8, IdleConnTimeout: 30 * time.Second,
	}}
	return func(host string) ([]docker.RegistryHost, error) {
		if host != api.RackHost {
			return nil, api.Errorf(api.CodeDenied, "images come from the rack's registry only, not from %s", host)
		}
		return []docker.RegistryHost{{
			Client: client, Host: api.RackHost, Scheme: "https", Path: "/v2",
			Capabilities: docker.HostCapabilityPull | docker.HostCapabilityResolve,
		}}, nil
	}
}

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

package agent

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"slipway/agent/build"
	"slipway/agent/dns"
	"slipway/agent/fingerprint"
	"slipway/agent/logs"
	"slipway/agent/network"
	"slipway/api"
	"slipway/api/pb"
	"slipway/runtime"
)

// Options are what distinguishes one node from another.
type Options struct {
	Dir string // everything that outlives a restart
	Run string // everything that does not outlive a reboot: namespaces, sockets
	// Name tells nodes on one machine apart; "" is the host's name.
	Name    string
	Addr    string     // where routers and peers reach the node
	Rack    string     // name
	Cluster string     // ID of the rack
	ID      api.NodeID // for a node that has none yet
	Version string
	Server  grpc.ClientConnInterface
	// Servers is told where the servers are, whenever that changes; may be nil.
	Servers    func(*pb.Servers)
	Runtime    runtime.Runtime
	Build      build.Config // Root, Registry and Cgroup; the rest has defaults
	Ingress    Ingress
	Privileged bool
	// Devices are what the operator lets processes have, each as fingerprint.ParseDevice reads it.
	// GPUs are found.
	Devices []string
	// Metrics receives what the node measures; nil keeps it to itself.
	Metrics prometheus.Registerer
	Log     *slog.Logger
}

// Node is an agent with all that is around it: network, names, logs and builds.
type Node struct {
	agent   *Agent
	network *network.Network
	names   *dns.Server
	logs    *logs.Store
	builder *build.Builder
}

// OpenNode prepares a node: it makes the network and opens the logs.
func OpenNode(ctx context.Context, o Options) (*Node, error) {
	n := &Node{}
	machine, err := fingerprint.Node(ctx, o.Dir)
	if err != nil {
		return nil, err
	}
	if machine.Devices, err = fingerprint.Devices("/", o.Devices); err != nil {
		return nil, err
	}
	total, _, err := fingerprint.Disk(o.Dir)
	if err != nil {
		return nil, err
	}
	machine.ID, machine.Addr, machine.Version = o.ID, o.Addr, o.Version
	if o.Name != "" {
		machine.Name = o.Name
	}
	domain := o.Rack + ".local"
	if n.network, err = openNetwork(ctx, o, machine, domain); err != nil {
		return nil, err
	}
	n.names = dns.New(net.JoinHostPort(n.network.Gateway().String(), "53"), domain)
	n.names.Inside(n.network.Cluster())
	if n.logs, err = logs.Open(filepath.Join(o.Dir, "logs")); err != nil {
		return nil, err
	}
	o.Build.Deny = append(o.Build.Deny, n.network.Cluster())
	o.Build.Logger = o.Log
	if n.builder, err = build.New(o.Build); err != nil {
		return nil, err
	}
	w := newWitness(o.Runtime, n.logs)
	n.agent, err = New(Config{
		Dir: o.Dir, Server: o.Server, Node: machine, DiskTotal: total, Runtime: o.Runtime, Networks: links{n.network}, Logs: n.logs,
		Observer: w, Builder: &workshop{builder: n.builder, agents: pb.NewAgentsClient(o.Server), logs: n.logs},
		Ingress: o.Ingress, Streams: &sessions{runtime: o.Runtime, logs: n.logs, witness: w},
		Names: n.names.Set, Peers: n.setPeers, Servers: o.Servers, Collect: n.collect, Privileged: o.Privileged, Metrics: o.Metrics, LogBytes: n.logs.Size, Now: time.Now, Log: o.Log,
	})
	if err != nil {
		return nil, err
	}
	w.probed = n.agent.metrics.probed
	return n, nil
}

// collect removes what belongs to no process of the node.
func (n *Node) collect(ctx context.Context, known map[api.ProcessID]bool) {
	if err := n.network.Collect(ctx, known); err != nil {
		n.agent.log.Warn("networks not collected", "err", err)
	}
	if err := n.logs.Collect(known, time.Now()); err != nil {
		n.agent.log.Warn("logs not collected", "err", err)
	}
}

// Run serves until ctx ends. Containers, networks and the router outlive it.
func (n *Node) Run(ctx context.Context) error {
	defer n.logs.Close()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return n.agent.Run(ctx) })
	group.Go(func() error { return n.names.Run(ctx) })
	group.Go(func() error { return n.network.Run(ctx) })
	group.Go(func() error { return n.builder.Run(ctx) })
	if err := group.Wait(); err != nil && ctx.Err() == nil {
		return fmt.Errorf("node: %w", err)
	}
	return nil
}

// Teardown removes the network of a node whose processes are gone.
func Teardown(ctx context.Context, dir, run string) error {
	n, err := network.New(ctx, network.Config{Name: dir, Dir: run})
	if err != nil {
		return err
	}
	return n.Close(ctx)
}

package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"slipway/agent/network"
	"slipway/api"
	"slipway/api/pb"
)

// subnetFile holds what the servers gave the node of the rack's network, below its directory.
const subnetFile = "subnet.json"

// peersRetry is the wait before the network between nodes is set up again after it failed.
const peersRetry = time.Second

// subnet is a node's part of the rack's network; both are "" where nodes choose for themselves.
type subnet struct {
	Subnet  string `json:"subnet"`
	Network string `json:"network"`
}

// openNetwork makes the node's network, or finds the one of before. A node that is new asks the
// servers for its part of the rack's network and waits until one answers.
func openNetwork(ctx context.Context, o Options, machine api.Node, domain string) (*network.Network, error) {
	own, err := loadSubnet(o.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		own, err = askSubnet(ctx, o, machine)
	}
	if err != nil {
		return nil, err
	}
	conf := network.Config{Name: o.Dir, Dir: o.Run, Domain: domain, Rack: o.Cluster, Log: o.Log}
	if own.Network != "" {
		if conf.Subnet, err = netip.ParsePrefix(own.Subnet); err == nil {
			conf.Cluster, err = netip.ParsePrefix(own.Network)
		}
		if err != nil {
			return nil, fmt.Errorf("the servers gave this node a subnet that is none: %w", err)
		}
		if conf.Underlay, err = netip.ParseAddr(o.Addr); err != nil {
			return nil, api.Errorf(api.CodeInvalid, "the address of the node, %q, is none: use --node-addr IP", o.Addr)
		}
	}
	return network.New(ctx, conf)
}

func loadSubnet(dir string) (s subnet, err error) {
	b, err := os.ReadFile(filepath.Join(dir, subnetFile))
	if err == nil {
		err = json.Unmarshal(b, &s)
	}
	if err != nil {
		return s, fmt.Errorf("read the node's subnet: %w", err)
	}
	return s, nil
}

// askSubnet registers the node to learn its subnet, and keeps that.
func askSubnet(ctx context.Context, o Options, machine api.Node) (subnet, error) {
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, redialMax) {
		reply, err := pb.NewAgentsClient(o.Server).Register(ctx, &pb.RegisterRequest{Node: pb.Marshal(machine)})
		if err == nil {
			s := subnet{reply.Subnet, reply.Network}
			doc, err := json.Marshal(s)
			if err == nil {
				err = os.MkdirAll(o.Dir, 0o711)
			}
			if err == nil {
				err = os.WriteFile(filepath.Join(o.Dir, subnetFile), doc, 0o600)
			}
			if err != nil {
				return s, fmt.Errorf("keep the node's subnet: %w", err)
			}
			return s, nil
		}
		err = pb.FromError(err)
		switch code := api.CodeOf(err); {
		case ctx.Err() != nil, code == api.CodeDenied, code == api.CodeInvalid, code == api.CodeExhausted:
			return subnet{}, fmt.Errorf("register this node: %w", err)
		}
		o.Log.Warn("node not registered", "err", err, "retry_in", wait.String())
		select {
		case <-ctx.Done():
			return subnet{}, context.Cause(ctx)
		case <-time.After(wait):
		}
	}
}

// setPeers makes the processes of other nodes reachable.
func (n *Node) setPeers(ctx context.Context, peers []*pb.Peer) error {
	var list []network.Peer
	for _, p := range peers {
		addr, err := netip.ParseAddr(p.Addr)
		if err != nil {
			n.agent.log.Error("node has an address that is none", "node", p.Node, "addr", p.Addr)
			continue
		}
		subnet, err := netip.ParsePrefix(p.Subnet)
		if err != nil {
			n.agent.log.Error("node has a subnet that is none", "node", p.Node, "subnet", p.Subnet)
			continue
		}
		list = append(list, network.Peer{Node: p.Node, Addr: addr, Subnet: subnet})
	}
	return n.network.SetPeers(ctx, list)
}

// connect keeps the ways to other nodes as the servers say; without servers they stay as they are.
func (a *Agent) connect(ctx context.Context) {
	var peers []*pb.Peer
	retry := time.NewTimer(0)
	retry.Stop()
	defer retry.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case peers = <-a.peers:
		case <-retry.C:
		}
		if err := a.cfg.Peers(ctx, peers); err != nil {
			a.log.Error("other nodes not connected", "err", err)
			if api.CodeOf(err) != api.CodeInvalid { // that one stays as it is
				retry.Reset(peersRetry)
			}
		}
	}
}

package agent

import (
	"context"

	"slipway/agent/network"
	"slipway/api"
	"slipway/runtime"
)

// links gives processes a namespace each on the node's bridge.
type links struct{ net *network.Network }

var _ networks = links{}

// Add makes, or finds, the network of a process.
func (l links) Add(ctx context.Context, a *api.Assignment) (runtime.Network, string, error) {
	e, err := l.net.Add(ctx, a.Process)
	if err != nil {
		return runtime.Network{}, "", err
	}
	return runtime.Network{
		NetNS: e.NetNS, Hostname: e.Hostname, Hosts: e.HostsFile(), ResolvConf: l.net.ResolvConf(string(a.App)),
	}, e.Addr.String(), nil
}

// Remove gives it back.
func (l links) Remove(ctx context.Context, id api.ProcessID) error { return l.net.Remove(ctx, id) }

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
	var ports []api.HostPort
	if a.Grant != nil {
		ports = a.Grant.HostPorts
	}
	e, err := l.net.Add(ctx, a.Process, ports...)
	if err != nil {
		return runtime.Network{}, "", err
	}
	return runtime.Network{
		NetNS: e.NetNS, Hostname: e.Hostname, Hosts: e.HostsFile(), ResolvConf: l.net.ResolvConf(string(a.App)),
	}, e.Addr.String(), nil
}

// Remove gives it back.
func (l links) Remove(ctx context.Context, id api.ProcessID) error { return l.net.Remove(ctx, id) }

// resolve tells DNS the addresses of services: the stored ones first, so that names resolve
// without servers, then whatever servers say.
func (a *Agent) resolve(ctx context.Context) {
	stored, err := a.store.names()
	if err != nil {
		a.log.Error("names not read", "err", err)
	} else if stored != nil {
		a.cfg.Names(stored)
	}
	for {
		select {
		case <-ctx.Done():
			return
		case names := <-a.names:
			a.cfg.Names(names)
			if err := a.store.saveNames(names); err != nil {
				a.log.Error("names not saved", "err", err)
			}
		}
	}
}

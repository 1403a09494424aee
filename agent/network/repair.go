package network

import (
	"context"
	"errors"
	"time"

	"github.com/vishvananda/netlink"
)

const (
	repairEvery = 10 * time.Second       // rules tell nobody that they were flushed
	repairSoon  = 200 * time.Millisecond // changes of routes come in crowds
)

// Run repairs what others take away, until ctx ends: a firewall that is loaded anew flushes the
// rules, a link that goes down takes the routes over it along. It looks when the kernel says that
// routes changed, and every 10 seconds.
func (n *Network) Run(ctx context.Context) error {
	changed := make(chan netlink.RouteUpdate)
	ended := make(chan struct{})
	defer close(ended)
	if err := netlink.RouteSubscribeWithOptions(changed, ended, netlink.RouteSubscribeOptions{
		ErrorCallback: func(err error) { n.cfg.Log.Debug("changes of routes missed", "err", err) },
	}); err != nil {
		n.cfg.Log.Warn("changes of routes not heard of, only looked for", "err", err)
		changed = nil
	}
	timer := time.NewTimer(repairEvery)
	defer timer.Stop()
	soon := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case _, ok := <-changed:
			switch {
			case !ok: // the kernel had more to say than there was room for
				changed = nil
			case !soon:
				soon = true
				timer.Reset(repairSoon)
			}
		case <-timer.C:
			soon = false
			n.repair(ctx)
			timer.Reset(repairEvery)
		}
	}
}

// repair makes everything what it has to be, and says so if it was not.
func (n *Network) repair(ctx context.Context) {
	n.mu.Lock()
	defer n.mu.Unlock()
	repaired, err := n.repairRules(ctx)
	if n.cfg.Cluster.IsValid() {
		err = errors.Join(err, n.reroute())
	}
	switch {
	case ctx.Err() != nil:
	case err != nil:
		n.cfg.Log.Error("network not repaired", "err", err)
	case repaired:
		n.cfg.Log.Warn("rules of the network written again: somebody had flushed or changed them")
	}
}

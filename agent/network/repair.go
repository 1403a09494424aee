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
	changed, stop := n.watch()
	defer func() { stop() }()
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
				stop()
				changed, stop = nil, func() {}
			case !soon:
				soon = true
				timer.Reset(repairSoon)
			}
		case <-timer.C:
			soon = false
			if changed == nil {
				changed, stop = n.watch()
			}
			n.repair(ctx)
			timer.Reset(repairEvery)
		}
	}
}

// watch subscribes to changes of routes, until stop is called. The channel is closed when the
// subscription ends by itself, and nil where there could be none.
func (n *Network) watch() (changed chan netlink.RouteUpdate, stop func()) {
	changed, ended := make(chan netlink.RouteUpdate), make(chan struct{})
	if err := netlink.RouteSubscribeWithOptions(changed, ended, netlink.RouteSubscribeOptions{
		ErrorCallback: func(err error) { n.cfg.Log.Debug("changes of routes no more heard of", "err", err) },
	}); err != nil {
		n.cfg.Log.Warn("changes of routes not heard of, only looked for", "err", err)
		return nil, func() {}
	}
	return changed, func() {
		close(ended)
		for range changed { // until the subscription has ended
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

package agent

import (
	"context"
	"time"

	"slipway/api"
	"slipway/api/pb"
)

// routerRetry is the wait before a router that does not answer is tried again.
const routerRetry = 100 * time.Millisecond

// heartbeat is what the node says now and then, and whenever its router has moved.
func (a *Agent) heartbeat() api.Heartbeat {
	a.mu.Lock()
	defer a.mu.Unlock()
	return api.Heartbeat{Node: a.id, Router: a.router, At: a.now()}
}

// publish hands the newest table to the router: the stored one first, so that a router that
// lost its own serves without servers.
func (a *Agent) publish(ctx context.Context) {
	if doc, err := a.store.routes(); err != nil {
		a.log.Error("routes not read", "err", err)
	} else if doc != nil {
		a.apply1(ctx, doc)
	}
	for {
		select {
		case <-ctx.Done():
			return
		case doc := <-a.tables:
			a.apply1(ctx, doc)
			if err := a.store.saveRoutes(doc); err != nil {
				a.log.Error("routes not saved", "err", err)
			}
		}
	}
}

// apply1 hands one table over, again and again until the router has it or a newer one is here.
func (a *Agent) apply1(ctx context.Context, doc []byte) {
	table, err := pb.Unmarshal[api.RouteTable](doc)
	if err != nil {
		a.log.Error("route table not read", "err", err)
		return
	}
	for ctx.Err() == nil && len(a.tables) == 0 {
		status, err := a.cfg.Ingress.Apply(ctx, table)
		if err == nil {
			a.routed(status)
			return
		}
		a.log.Debug("router does not answer", "err", err)
		select {
		case <-ctx.Done():
		case <-time.After(routerRetry):
		}
	}
}

// listen follows the router's status, so that a drained target is known at once.
func (a *Agent) listen(ctx context.Context) {
	var after uint64
	for ctx.Err() == nil {
		status, revision, err := a.cfg.Ingress.Wait(ctx, after)
		if err != nil {
			after = 0
			select {
			case <-ctx.Done():
			case <-time.After(routerRetry):
			}
			continue
		}
		if revision != after {
			after = revision
			a.routed(status)
		}
	}
}

// routed notes the router's status and has it reported.
func (a *Agent) routed(s api.RouterStatus) {
	a.mu.Lock()
	a.router = &s
	a.mu.Unlock()
	select {
	case a.routerMoved <- struct{}{}:
	default:
	}
}

package agent

import (
	"context"
	"slices"
	"strings"
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
		a.hand(ctx, doc)
	}
	for {
		select {
		case <-ctx.Done():
			return
		case doc := <-a.tables:
			a.hand(ctx, doc)
			if err := a.store.saveRoutes(doc); err != nil {
				a.log.Error("routes not saved", "err", err)
			}
		}
	}
}

// hand hands one table over, again and again until the router has it or a newer one is here.
func (a *Agent) hand(ctx context.Context, doc []byte) {
	table, err := pb.Unmarshal[api.RouteTable](doc)
	if err != nil {
		a.log.Error("route table not read", "err", err)
		return
	}
	for ctx.Err() == nil && len(a.tables) == 0 {
		a.certify(ctx, table)
		status, err := a.cfg.Ingress.Apply(ctx, table)
		if api.CodeOf(err) == api.CodeConflict { // it has a newer one
			status, err = a.cfg.Ingress.Status(ctx)
		}
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
	for ctx.Err() == nil {
		if err := a.cfg.Ingress.Watch(ctx, a.routed); err != nil {
			a.log.Debug("router does not answer", "err", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(routerRetry):
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

// certify has a certificate signed for each app whose hosts are new, and gives it to the
// router. Without one the app is served in plain HTTP all the same, and it is tried again with
// the next table.
func (a *Agent) certify(ctx context.Context, t api.RouteTable) {
	hosts := map[api.AppName][]string{}
	for _, r := range t.Routes {
		hosts[r.Key.App] = append(hosts[r.Key.App], r.Hosts...)
	}
	for app, names := range hosts {
		slices.Sort(names)
		known := strings.Join(names, " ")
		if a.certified[app] == known {
			continue
		}
		reply, err := pb.NewAgentsClient(a.cfg.Server).IssueCertificate(ctx, &pb.IssueCertificateRequest{Host: names})
		if err == nil {
			err = a.cfg.Ingress.SetCertificate(ctx, string(app), reply.Pem)
		}
		if err != nil {
			a.log.Warn("certificate not renewed", "app", app, "err", err)
			continue
		}
		a.certified[app] = known
	}
}

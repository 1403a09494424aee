package agent

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"time"

	"slipway/api"
	"slipway/api/pb"
)

const (
	// routerRetry is the wait before a router that does not answer is tried again.
	routerRetry = 100 * time.Millisecond
	// certifyMax bounds how long a table may wait for certificates; certifyRetry and
	// certifyEvery are when they are looked at again after one was missing, and otherwise.
	certifyMax   = 5 * time.Second
	certifyRetry = time.Minute
	certifyEvery = time.Hour
)

// heartbeat is what the node says now and then, and whenever its router has moved.
func (a *Agent) heartbeat() api.Heartbeat {
	a.mu.Lock()
	defer a.mu.Unlock()
	return api.Heartbeat{Node: a.id, Router: a.router, At: a.now()}
}

// publish hands the newest table to the router: the stored one first, so that a router that
// lost its own serves without servers. It keeps the router's certificates fresh as well.
func (a *Agent) publish(ctx context.Context) {
	doc, err := a.store.routes()
	if err != nil {
		a.log.Error("routes not read", "err", err)
	}
	fresh := time.NewTimer(certifyEvery)
	defer fresh.Stop()
	var table api.RouteTable
	hand := func() {
		if doc == nil {
			return
		}
		next, err := pb.Unmarshal[api.RouteTable](doc)
		if err != nil {
			a.log.Error("route table not read", "err", err)
			return
		}
		table = next
		fresh.Reset(a.hand(ctx, table))
	}
	hand()
	for {
		select {
		case <-ctx.Done():
			return
		case doc = <-a.tables:
			hand()
			if err := a.store.saveRoutes(doc); err != nil {
				a.log.Error("routes not saved", "err", err)
			}
		case <-a.routerLost:
			a.log.Warn("router serves an old table, it gets the newest again")
			clear(a.certified) // it may have lost more than the table
			hand()
		case <-fresh.C:
			fresh.Reset(a.certify(ctx, table))
		}
	}
}

// hand hands one table over, again and again until the router has it or a newer one is here. It
// returns when to look at the certificates again.
func (a *Agent) hand(ctx context.Context, table api.RouteTable) (again time.Duration) {
	for ctx.Err() == nil && len(a.tables) == 0 {
		again = a.certify(ctx, table)
		status, err := a.cfg.Ingress.Apply(ctx, table)
		newer := api.CodeOf(err) == api.CodeConflict // it has a newer one
		if newer {
			status, err = a.cfg.Ingress.Status(ctx)
		}
		if err == nil {
			a.mu.Lock()
			a.handed, a.emptied = max(table.Version, status.Version), len(table.Routes) == 0 && !newer
			a.mu.Unlock()
			a.routed(status)
			return again
		}
		a.log.Debug("router does not answer", "err", err)
		select {
		case <-ctx.Done():
		case <-time.After(routerRetry):
		}
	}
	return certifyEvery
}

// routesNowhere reports whether the node's router serves a table without routes, and has nothing in
// flight.
func (a *Agent) routesNowhere() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.cfg.Ingress == nil || a.emptied && (a.router == nil || len(a.router.Draining) == 0)
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
	lost := s.Version < a.handed
	a.mu.Unlock()
	keepNewest(a.routerMoved, struct{}{})
	if lost {
		keepNewest(a.routerLost, struct{}{})
	}
}

// certified is a certificate that the router was given.
type certified struct {
	hosts string    // sorted, separated by spaces
	renew time.Time // when two thirds of its life are over
}

// certify has a certificate signed for each app whose hosts are new or whose certificate grows
// old, and gives it to the router. What does not work keeps no table waiting for long: the app is
// served with what the router has, and it is tried again when the returned time has passed.
func (a *Agent) certify(ctx context.Context, t api.RouteTable) (again time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, certifyMax)
	defer cancel()
	hosts := map[api.AppName][]string{}
	for _, r := range t.Routes {
		hosts[r.Key.App] = append(hosts[r.Key.App], r.Hosts...)
	}
	again = certifyEvery
	for app, names := range hosts {
		slices.Sort(names)
		known := strings.Join(names, " ")
		if c := a.certified[app]; c.hosts == known && a.now().Before(c.renew) {
			continue
		}
		renew, err := a.certifyApp(ctx, app, names)
		if err != nil {
			a.log.Warn("certificate not renewed", "app", app, "err", err)
			again = certifyRetry
			continue
		}
		a.certified[app] = certified{known, renew}
	}
	return again
}

// certifyApp has one certificate signed for all hosts of an app.
func (a *Agent) certifyApp(ctx context.Context, app api.AppName, hosts []string) (renew time.Time, err error) {
	reply, err := pb.NewAgentsClient(a.cfg.Server).IssueCertificate(ctx, &pb.IssueCertificateRequest{Host: hosts})
	if err != nil {
		return time.Time{}, pb.FromError(err)
	}
	block, _ := pem.Decode(reply.Pem)
	if block == nil {
		return time.Time{}, api.Errorf(api.CodeInternal, "the server's answer is no certificate")
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return time.Time{}, fmt.Errorf("read the server's certificate: %w", err)
	}
	if err := a.cfg.Ingress.SetCertificate(ctx, string(app), reply.Pem); err != nil {
		return time.Time{}, err
	}
	return leaf.NotBefore.Add(leaf.NotAfter.Sub(leaf.NotBefore) / 3 * 2), nil
}

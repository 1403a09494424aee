package fleet

import (
	"os"
	"strconv"
	"testing"
	"time"

	"slipway/api"
)

// measured is what became of a load, from the first promotion on.
type measured struct {
	Submit    time.Duration // until all promotions were accepted
	Delivered time.Duration // until every process was known to its node
	Durable   time.Duration // until every node was told that its reports are kept
	Settled   time.Duration // until every deployment had its receipt
	Peak      api.Bytes     // memory of the largest server, until Durable
	Busy      time.Duration // processor time of the servers, until Durable
}

// deploy brings a load up on a fleet, and returns when the servers have seen every copy ready.
func (r *rack) deploy(f *Fleet, l Load) (m measured) {
	r.t.Helper()
	releases, err := l.Prepare(r.ctx, r.Client)
	if err != nil {
		r.t.Fatal(err)
	}
	delivered, reported, held, busy := f.Delivered(), f.Reported(), f.Held(), r.Busy()
	began := time.Now()
	if err := l.Submit(r.ctx, r.Client, releases); err != nil {
		r.t.Fatal(err)
	}
	m.Submit = time.Since(began)
	r.await(f, "processes delivered", func() int64 { return f.Delivered() - delivered }, l.Total())
	m.Delivered = time.Since(began)
	r.await(f, "reports durable", func() int64 { return f.Reported() - reported }, l.Total())
	m.Durable, m.Busy = time.Since(began), r.Busy()-busy
	if m.Peak, err = r.PeakMemory(); err != nil {
		r.t.Fatal(err)
	}
	r.await(f, "deployments succeeded", func() int64 {
		n, err := l.Ended(r.ctx, r.Client)
		if err != nil {
			r.t.Fatal(err)
		}
		return n
	}, l.Apps)
	m.Settled = time.Since(began)
	if n := f.Held() - held; n != int64(l.Total()) {
		r.t.Fatalf("the nodes hold %d processes more than before, want %d; %s", n, l.Total(), f.Broken())
	}
	r.t.Logf("%d processes on %d nodes: submitted in %s, delivered in %s, durable in %s, settled in %s; servers: %s busy, peak %s; %s",
		l.Total(), f.Alive(), m.Submit, m.Delivered, m.Durable, m.Settled, m.Busy, m.Peak, f.Broken())
	return m
}

// number reads a setting of a trial.
func number(name string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return otherwise
}

// roomy is what a node of a fleet has.
var roomy = api.Amount{CPU: 14_000, Memory: 32 * api.GiB, Disk: 100 * api.GiB}

// TestTrial brings up what SLIPWAY_FLEET_NODES, _APPS, _SERVICES and _COPIES say.
func TestTrial(t *testing.T) {
	nodes := number("SLIPWAY_FLEET_NODES", 0)
	if nodes == 0 {
		t.Skip("set SLIPWAY_FLEET_NODES to try a fleet")
	}
	r := start(t, time.Duration(number("SLIPWAY_FLEET_LIMIT", 300))*time.Second)
	f := r.fleet(Config{Nodes: nodes, Capacity: roomy})
	r.deploy(f, Load{
		Name: "app", Apps: number("SLIPWAY_FLEET_APPS", 10), Services: number("SLIPWAY_FLEET_SERVICES", 10), Copies: number("SLIPWAY_FLEET_COPIES", 100),
		CPU: 50, Memory: 64 * api.MiB, Port: os.Getenv("SLIPWAY_FLEET_PORT") != "",
	})
}

package fleet

import (
	"os"
	"strconv"
	"testing"
	"time"

	"slipway/api"
)

// measured is what became of a load.
type measured struct {
	Prepare   time.Duration // releases made
	Submit    time.Duration // promotions accepted
	Delivered time.Duration // from the first promotion until every process is known to its node
	Settled   time.Duration // … until every deployment has its receipt; zero when nobody waited
	Peak      api.Bytes     // memory of the largest server
	Busy      time.Duration // processor time of the servers until Delivered
}

// deploy brings a load up on a fleet.
func (r *rack) deploy(f *Fleet, l Load, settle bool) (m measured) {
	r.t.Helper()
	began := time.Now()
	releases, err := l.Prepare(r.ctx, r.Client)
	if err != nil {
		r.t.Fatal(err)
	}
	m.Prepare = time.Since(began)
	before, busy := f.Delivered(), r.Busy()
	began = time.Now()
	if err := l.Submit(r.ctx, r.Client, releases); err != nil {
		r.t.Fatal(err)
	}
	m.Submit = time.Since(began)
	if err := f.Await(r.ctx, "processes delivered", func() int64 { return f.Delivered() - before }, int64(l.Total())); err != nil {
		r.t.Fatal(err)
	}
	m.Delivered, m.Busy = time.Since(began), r.Busy()-busy
	for settle {
		n, err := l.Ended(r.ctx, r.Client)
		if err != nil {
			r.t.Fatal(err)
		}
		if n == int64(l.Apps) {
			m.Settled, settle = time.Since(began), false
		} else {
			time.Sleep(200 * time.Millisecond) // polls
		}
	}
	if m.Peak, err = r.PeakMemory(); err != nil {
		r.t.Fatal(err)
	}
	r.t.Logf("%d processes on %d nodes: prepared in %s, submitted in %s, delivered in %s, settled in %s; servers: %s busy, peak %s; %d sessions broken",
		l.Total(), f.cfg.Nodes, m.Prepare, m.Submit, m.Delivered, m.Settled, m.Busy, m.Peak, f.Broken())
	return m
}

// number reads a setting of a trial.
func number(name string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return otherwise
}

// TestTrial brings up what SLIPWAY_FLEET_NODES, _APPS, _SERVICES and _COPIES say.
func TestTrial(t *testing.T) {
	nodes := number("SLIPWAY_FLEET_NODES", 0)
	if nodes == 0 {
		t.Skip("set SLIPWAY_FLEET_NODES to try a fleet")
	}
	r := start(t, time.Duration(number("SLIPWAY_FLEET_LIMIT", 300))*time.Second)
	f, _ := r.fleet(Config{Nodes: nodes, Capacity: api.Amount{CPU: 14_000, Memory: 32 * api.GiB, Disk: 100 * api.GiB}})
	r.deploy(f, Load{
		Apps: number("SLIPWAY_FLEET_APPS", 10), Services: number("SLIPWAY_FLEET_SERVICES", 10), Copies: number("SLIPWAY_FLEET_COPIES", 100),
		CPU: 50, Memory: 64 * api.MiB, Port: os.Getenv("SLIPWAY_FLEET_PORT") != "",
	}, true)
}

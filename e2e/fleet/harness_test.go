package fleet

import (
	"context"
	"os"
	"path/filepath"
	"runtime/debug"
	"testing"
	"time"

	"slipway/api/client"
	"slipway/e2e/programs"
)

// built has slipwayd, unless SLIPWAY_FLEET_BIN names one.
var built = programs.New("slipway/cmd/slipwayd")

// gcPercent is for thousands of agents in one process: each would have a heap of its own, and collecting theirs
// takes the processors from the servers that are measured.
const gcPercent = 400

func TestMain(m *testing.M) {
	debug.SetGCPercent(gcPercent)
	os.Exit(built.Main(m))
}

// rack is a rack under test.
type rack struct {
	*Servers
	*client.Client
	t   *testing.T
	ctx context.Context
}

// start starts three servers, which end with the test. It waits for nothing longer than limit.
func start(t *testing.T, limit time.Duration) *rack {
	t.Helper()
	daemon := os.Getenv("SLIPWAY_FLEET_BIN")
	if daemon == "" {
		built.Need(t)
		daemon = filepath.Join(built.Dir, "slipwayd")
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	servers, err := StartServers(ctx, t.TempDir(), daemon, 3)
	if err != nil {
		t.Fatal(err)
	}
	r := &rack{Servers: servers, t: t, ctx: ctx}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(servers.Output())
		}
		servers.Close()
	})
	if r.Client, err = servers.Client(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Client.Close() })
	return r
}

// fleet starts nodes, which end with the test.
func (r *rack) fleet(cfg Config) *Fleet {
	r.t.Helper()
	f, took, err := Start(r.ctx, r.Servers, cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { f.Close() })
	r.t.Logf("%d nodes: joined in %s, attached in %s", cfg.Nodes, took.Join, took.Attach)
	return f
}

// grow adds nodes until n have power.
func (r *rack) grow(f *Fleet, n int) {
	r.t.Helper()
	busy := r.Busy()
	took, err := f.Grow(r.ctx, n-f.Alive())
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Logf("%d nodes: joined in %s, attached in %s; servers: %s busy", n, took.Join, took.Attach, r.Busy()-busy)
}

// await waits until a count is reached.
func (r *rack) await(f *Fleet, what string, count func() int64, want int) {
	r.t.Helper()
	if err := f.Await(r.ctx, what, count, int64(want)); err != nil {
		r.t.Fatal(err)
	}
}

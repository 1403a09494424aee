package fleet

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"slipway/api/client"
)

// daemon is slipwayd, built once for all tests.
var daemon string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "slwfleet")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	daemon = filepath.Join(dir, "slipwayd")
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
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
	if bin := os.Getenv("SLIPWAY_FLEET_BIN"); bin != "" {
		daemon = bin
	} else if _, err := os.Stat(daemon); err != nil {
		cmd := exec.Command("go", "build", "-o", daemon, "slipway/cmd/slipwayd")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("build slipwayd: %v\n%s", err, out)
		}
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
func (r *rack) fleet(cfg Config) (*Fleet, Joined) {
	r.t.Helper()
	f, took, err := Start(r.ctx, r.Servers, cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { f.Close() })
	r.t.Logf("%d nodes: joined in %s, attached in %s", cfg.Nodes, took.Join, took.Attach)
	return f, took
}

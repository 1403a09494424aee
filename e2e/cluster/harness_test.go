package cluster

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"slipway/api"
	"slipway/api/client"
	"slipway/e2e/programs"
)

var bin = programs.New(programs.Rack...)

func TestMain(m *testing.M) { os.Exit(bin.Main(m)) }

func build(t *testing.T) {
	t.Helper()
	if testing.Short() || os.Geteuid() != 0 {
		t.Skip("needs root, containerd and time")
	}
	bin.Need(t)
}

// rack is a cluster under test, with somebody logged in.
type rack struct {
	*Cluster
	*client.Client
	t   *testing.T
	dir string
}

// start starts a rack, which ends with the test.
func start(t *testing.T, servers, nodes int) *rack {
	t.Helper()
	build(t)
	dir, err := os.MkdirTemp("", "slwcl")
	if err != nil {
		t.Fatal(err)
	}
	c, err := New(Config{Dir: dir, Bin: bin.Dir, Servers: servers, Nodes: nodes, Bound: true, ServerFlags: []string{"--debug"}, AgentFlags: []string{"--debug"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(c.Output())
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		os.RemoveAll(dir)
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := c.Start(ctx); err != nil {
		t.Fatal(err)
	}
	r := &rack{Cluster: c, t: t, dir: dir}
	if r.Client, err = c.Client(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Client.Close() })
	target, err := c.Context()
	if err != nil {
		t.Fatal(err)
	}
	r.must("login", target.Addr, "--ca", c.first("machine/trust.pem"), "--name", "test", "--token", target.Token)
	return r
}

// slipway runs the CLI.
func (r *rack) slipway(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(r.t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, bin.Dir+"/slipway", args...)
	cmd.Env = append(os.Environ(), "SLIPWAY_CONFIG="+r.dir+"/config.json")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}

func (r *rack) must(args ...string) string {
	r.t.Helper()
	out, err := r.slipway(args...)
	if err != nil {
		r.t.Fatalf("slipway %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// deploy deploys the test app with some copies.
func (r *rack) deploy(app string, copies int) {
	r.t.Helper()
	src := filepath.Join(r.dir, "src-"+app)
	manifest := fmt.Sprintf("services:\n  web:\n    build: .\n    port: 8000\n    health:\n      path: /check\n      interval: 1\n    scale:\n      count: %d\n      cpu: 50\n      memory: 32\n    termination:\n      grace: 5\n    environment:\n      - VERSION=one\n", copies)
	for name, text := range map[string]string{
		"convox.yml": manifest, "Dockerfile": "FROM scratch\nCOPY testapp /testapp\nENTRYPOINT [\"/testapp\"]\n",
	} {
		if err := os.MkdirAll(src, 0o755); err != nil {
			r.t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(src, name), []byte(text), 0o644); err != nil {
			r.t.Fatal(err)
		}
	}
	b, err := os.ReadFile(bin.Dir + "/testapp")
	if err == nil {
		err = os.WriteFile(filepath.Join(src, "testapp"), b, 0o755)
	}
	if err != nil {
		r.t.Fatal(err)
	}
	r.must("deploy", src, "-a", app)
}

// await waits for a condition and prints the state that it was missed in.
func (r *rack) await(what string, limit time.Duration, ok func() (string, bool)) {
	r.t.Helper()
	deadline := time.Now().Add(limit)
	for {
		state, done := ok()
		if done {
			return
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("no %s within %s:\n%s", what, limit, state)
		}
		time.Sleep(100 * time.Millisecond) // polls
	}
}

// whole waits until every machine is there and the app has all its copies, each of which runs
// once, and none that nobody wants.
func (r *rack) whole(app string, copies int) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), time.Minute)
	defer cancel()
	if err := r.Whole(ctx); err != nil {
		r.t.Fatal(err)
	}
	r.complete(app, copies)
}

// complete waits until the app has all its copies, on the nodes that are there.
func (r *rack) complete(app string, copies int) {
	r.t.Helper()
	r.await(fmt.Sprintf("%d copies of %s", copies, app), time.Minute, func() (string, bool) {
		list, err := r.Processes(r.t.Context(), client.ProcessFilter{App: api.AppName(app), Service: "web"})
		ready, state := 0, fmt.Sprintln(err)
		for _, p := range list {
			state += fmt.Sprintln(p.ID, p.Node, p.Status, p.Health, p.Ready, p.Message)
			if p.Ready {
				ready++
			}
		}
		running, where := r.running()
		return state + where, err == nil && ready == copies && len(list) == copies && running == copies
	})
}

// running counts the processes of the test app on all nodes.
func (r *rack) running() (n int, where string) {
	for _, node := range r.Cluster.Nodes() {
		list, err := node.Processes()
		if err != nil {
			where += fmt.Sprintln(node.Name(), err)
		}
		for _, p := range list {
			if len(p.Args) > 0 && p.Args[0] == "/testapp" {
				n++
				where += fmt.Sprintln(node.Name(), p)
			}
		}
	}
	return n, where
}

package bubble

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/grpc/test/bufconn"

	"slipway/api"
	"slipway/api/client"
	"slipway/server"
)

// The addresses of the one server. Nothing listens on them outside of the bubble.
const (
	grpcAddr = "server.test:1"
	httpAddr = "server.test:2"
)

// rack is one rack in a bubble.
type rack struct {
	*client.Client
	t   *testing.T
	ctx context.Context
	dir string

	mu        sync.Mutex
	listeners map[string]listener

	stopServer func()
	machines   map[string]*machine
}

// inBubble runs a test on a rack with one server and the given nodes, in virtual time.
func inBubble(t *testing.T, nodes []string, test func(r *rack)) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		r := &rack{t: t, ctx: t.Context(), dir: dir, listeners: map[string]listener{}, machines: map[string]*machine{}}
		r.startServer()
		defer func() { r.stopServer() }()
		r.login()
		defer r.Client.Close()
		for _, name := range nodes {
			m := newMachine(r, name)
			m.startAgent()
			defer m.shutDown()
		}
		test(r)
	})
}

// startServer starts the server, or starts it again with what it left on disk.
func (r *rack) startServer() {
	r.t.Helper()
	_, transport := raft.NewInmemTransport("server.test:3")
	s, err := server.New(r.ctx, server.Config{
		Dir: filepath.Join(r.dir, "server"), Bootstrap: true, Rack: "test", Domain: "rack.test", HTTPPort: 80, HTTPSPort: 443,
		GRPCAddr: grpcAddr, HTTPAddr: httpAddr, Version: "test", Log: r.log("server"), Listen: r.listen, Transport: transport,
	})
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	select {
	case <-s.Ready():
	case err := <-ended:
		r.t.Fatalf("the server ended: %v", err)
	}
	r.stopServer = func() {
		cancel()
		if err := <-ended; err != nil {
			r.t.Errorf("the server ended: %v", err)
		}
	}
}

// listener is one whose address is known to the rack alone.
type listener interface {
	net.Listener
	DialContext(ctx context.Context) (net.Conn, error)
}

// listen replaces TCP. A server that starts again listens anew.
func (r *rack) listen(addr string) (net.Listener, error) {
	var l listener = bufconn.Listen(1 << 20)
	if addr == httpAddr {
		l = newPipes()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.listeners[addr] = l
	return l, nil
}

func (r *rack) dial(ctx context.Context, addr string) (net.Conn, error) {
	r.mu.Lock()
	l := r.listeners[addr]
	r.mu.Unlock()
	if l == nil {
		return nil, fmt.Errorf("nothing listens on %s", addr)
	}
	return l.DialContext(ctx)
}

// login connects the client, as the rack's first administrator.
func (r *rack) login() {
	r.t.Helper()
	c, err := client.Dial(r.ctx, client.Context{
		Addr: grpcAddr, CA: r.file(server.TrustFile), Token: r.file(server.AdminTokenFile), Dial: r.dial,
	})
	if err != nil {
		r.t.Fatal(err)
	}
	r.Client = c
}

// file reads a file of the server.
func (r *rack) file(name string) string {
	r.t.Helper()
	b, err := os.ReadFile(filepath.Join(r.dir, "server", name))
	if err != nil {
		r.t.Fatal(err)
	}
	return string(b)
}

// log is the logger of a part; it speaks when the tests are verbose.
func (r *rack) log(part string) *slog.Logger {
	if !testing.Verbose() {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(r.t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})).With("part", part)
}

// deploy builds a manifest and promotes the release; it returns how the deployment ended.
func (r *rack) deploy(app api.AppName, manifest string) api.Deployment {
	r.t.Helper()
	if _, err := r.App(r.ctx, app); api.CodeOf(err) == api.CodeNotFound {
		r.must(r.CreateApp(r.ctx, app))
	}
	b, err := r.CreateBuild(r.ctx, app, client.Build{Manifest: manifest, ManifestFile: "convox.yml"})
	if err != nil {
		r.t.Fatal(err)
	}
	if err := r.WatchBuild(r.ctx, app, b.ID, true, func([]api.LogLine) error { return nil }); err != nil {
		r.t.Fatalf("watch build: %v", err)
	}
	r.await("end of the build", time.Minute, func() bool {
		b, err = r.Build(r.ctx, app, string(b.ID))
		return err != nil || b.Status.Ended()
	})
	if err != nil || b.Status != api.BuildComplete {
		r.t.Fatalf("build %s: %s %s %v", b.ID, b.Status, b.Failure, err)
	}
	return r.promote(app, string(b.Release))
}

// promote deploys a release and waits for the end.
func (r *rack) promote(app api.AppName, release string) api.Deployment {
	r.t.Helper()
	d, err := r.Promote(r.ctx, app, release)
	if err != nil {
		r.t.Fatal(err)
	}
	return r.end(app, d.ID)
}

// end follows a deployment to its end.
func (r *rack) end(app api.AppName, id api.DeploymentID) api.Deployment {
	r.t.Helper()
	if err := r.WatchDeployment(r.ctx, app, string(id), func(api.DeploymentUpdate) error { return nil }); err != nil {
		r.t.Fatalf("watch deployment: %v", err)
	}
	d, err := r.Deployment(r.ctx, app, string(id))
	if err != nil || !d.Status.Ended() {
		r.t.Fatalf("deployment %s is %s: %v", id, d.Status, err)
	}
	return d
}

// set changes variables of an app and deploys the new release.
func (r *rack) set(app api.AppName, env map[string]string) api.Deployment {
	r.t.Helper()
	release, err := r.SetEnv(r.ctx, app, client.EnvChange{Set: env})
	if err != nil {
		r.t.Fatal(err)
	}
	return r.promote(app, string(release.ID))
}

// processes lists what lives of an app.
func (r *rack) processes(app api.AppName) []api.ProcessInfo {
	r.t.Helper()
	list, err := r.Processes(r.ctx, client.ProcessFilter{App: app})
	if err != nil {
		r.t.Fatal(err)
	}
	return list
}

// await lets time pass until a condition holds.
func (r *rack) await(what string, limit time.Duration, ok func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(limit); !ok(); time.Sleep(50 * time.Millisecond) { // virtual time
		if time.Now().After(deadline) {
			r.t.Fatalf("no %s within %s; processes:\n%s", what, limit, r.picture())
		}
	}
}

// picture is what a failing test prints: every process on record.
func (r *rack) picture() string {
	var b strings.Builder
	list, err := r.Processes(r.ctx, client.ProcessFilter{All: true})
	for _, p := range list {
		fmt.Fprintf(&b, "%s %s %s on %s: %s %s %s\n", p.ID, p.Service, p.Release, p.Node, p.Status, p.Health, p.Message)
	}
	if err != nil {
		fmt.Fprintln(&b, err)
	}
	return b.String()
}

// must fails the test on an error.
func (r *rack) must(_ any, err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

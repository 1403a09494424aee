package chaos

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"slipway/agent"
	"slipway/agent/logs"
	"slipway/api"
	rackapi "slipway/api/client"
	identity "slipway/api/machine"
	"slipway/api/pb"
	"slipway/runtime"
	"slipway/runtime/fake"
)

// releasesEach is how many releases an app has that was built before the faults.
const releasesEach = 3

// buildManifest has one service, whose image the node says to have.
const buildManifest = "services:\n  web:\n    image: app\n"

// deployedApps builds apps on a node that is there for this only, makes releases of each, and has
// the last one promoted when no node is there any more: their deployments never end. It returns the
// numbers of the releases.
func (m *machines) deployedApps() map[api.ReleaseID]string {
	m.t.Helper()
	c := m.client(0)
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), settleMax)
	defer cancel()
	stop := m.startNode(ctx)
	var mu sync.Mutex
	numbers := map[api.ReleaseID]string{}
	each := func(do func(app api.AppName) error) {
		var all sync.WaitGroup
		for i := range deployed {
			all.Go(func() {
				if err := do(deployedName(fmt.Sprint(i))); err != nil {
					m.t.Errorf("app %d: %v", i, err)
				}
			})
		}
		all.Wait()
	}
	each(func(app api.AppName) error { return buildOn(ctx, c, app) })
	stop()
	each(func(app api.AppName) error {
		for i := 1; i < releasesEach; i++ {
			if _, err := c.SetEnv(ctx, app, rackapi.EnvChange{Set: map[string]string{fmt.Sprint("V", i): "1"}}); err != nil {
				return err
			}
		}
		list, err := c.Releases(ctx, app)
		if err != nil || len(list) != releasesEach {
			return fmt.Errorf("%d releases: %w", len(list), err)
		}
		mu.Lock()
		for _, r := range list {
			numbers[r.ID] = fmt.Sprint("v", r.Number)
		}
		mu.Unlock()
		_, err = c.Promote(ctx, app, "")
		return err
	})
	if m.t.Failed() {
		m.t.Fatal(m.picture())
	}
	return numbers
}

// buildOn makes an app and builds it.
func buildOn(ctx context.Context, c *rackapi.Client, app api.AppName) error {
	if _, err := c.CreateApp(ctx, app); err != nil {
		return err
	}
	b, err := c.CreateBuild(ctx, app, rackapi.Build{Manifest: buildManifest, ManifestFile: "convox.yml"})
	for err == nil && !b.Status.Ended() {
		time.Sleep(20 * time.Millisecond) // polls, does not order anything
		b, err = c.Build(ctx, app, string(b.ID))
	}
	if err == nil && b.Status != api.BuildComplete {
		err = errors.New("build " + string(b.Status) + ": " + b.Failure)
	}
	return err
}

// startNode starts an agent in this process, with an engine that runs nothing and a builder that
// says to have built.
func (m *machines) startNode(ctx context.Context) (stop func()) {
	m.t.Helper()
	dir := filepath.Join(m.dir, "node")
	conn, err := m.joinNode(ctx, dir)
	if err != nil {
		m.t.Fatal(err)
	}
	store, err := logs.Open(filepath.Join(dir, "logs"))
	if err != nil {
		m.t.Fatal(err)
	}
	engine := fake.New()
	a, err := agent.New(agent.Config{
		Dir: dir, Server: conn, Runtime: engine, Networks: noNetworks{}, Logs: store, Observer: noObserver{}, Builder: sayBuilt{},
		Streams: agent.NewStreams(engine, store), Now: time.Now, Log: slog.New(slog.DiscardHandler),
		Node: api.Node{
			ID: "builder", Name: "builder", Addr: m.rig.Host(0).Addr().String(), BootID: "1",
			Capacity: api.Amount{CPU: 64000, Memory: 64 * api.GiB, Disk: 100 * api.GiB},
		},
	})
	if err != nil {
		m.t.Fatal(err)
	}
	running, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(running) }()
	return func() {
		cancel()
		if err := <-ended; err != nil {
			m.t.Errorf("agent: %v", err)
		}
		store.Close()
		conn.Close()
		engine.Close()
	}
}

// joinNode lets a node into the rack and connects it.
func (m *machines) joinNode(ctx context.Context, dir string) (*grpc.ClientConn, error) {
	id, _, err := identity.Join(ctx, filepath.Join(dir, "machine"), identity.Joining{
		Servers: []string{m.all[0].addr()}, Token: strings.TrimSpace(m.joinAgent),
		Request: &pb.JoinRequest{Role: identity.RoleAgent, Id: "builder"},
	})
	if err != nil {
		return nil, err
	}
	return grpc.NewClient("passthrough:///"+m.all[0].addr(), grpc.WithNoProxy(),
		grpc.WithTransportCredentials(credentials.NewTLS(id.Client(identity.RoleServer))))
}

type noNetworks struct{}

func (noNetworks) Add(context.Context, *api.Assignment) (runtime.Network, string, error) {
	return runtime.Network{}, "10.0.1.1", nil
}
func (noNetworks) Remove(context.Context, api.ProcessID) error { return nil }

type noObserver struct{}

func (noObserver) Watch(ctx context.Context, _ *api.Assignment, _ string, _ time.Time, _ func(agent.Finding)) {
	<-ctx.Done()
}
func (noObserver) Evidence(context.Context, *api.Assignment, bool) agent.Evidence {
	return agent.Evidence{}
}
func (noObserver) Note(api.ProcessID, string) {}

// sayBuilt is a builder whose images are nowhere.
type sayBuilt struct{}

func (sayBuilt) Build(_ context.Context, a *api.Assignment) (map[api.ServiceName]api.Image, error) {
	out := map[api.ServiceName]api.Image{}
	for _, s := range a.Build.Services {
		out[s.Name] = api.Image{Repository: string(a.App), Digest: fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(s.Image)))}
	}
	return out, nil
}

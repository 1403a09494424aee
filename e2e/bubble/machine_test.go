package bubble

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"slipway/agent"
	"slipway/agent/health"
	"slipway/agent/logs"
	"slipway/api"
	identity "slipway/api/machine"
	"slipway/api/pb"
	"slipway/runtime"
	"slipway/runtime/fake"
	"slipway/runtime/logfmt"
	"slipway/server"
)

// machine is one node: the engine and the router outlive the agent, as they do in life.
type machine struct {
	rack   *rack
	name   string
	dir    string
	boot   int
	engine *fake.Engine
	router *router
	stop   func() // the agent; nil while none runs
	line   line
}

// line is the network of a machine. Its zero value lets everything pass.
type line struct {
	mu  sync.Mutex
	cut chan struct{} // closed when what a machine sends passes again; nil while it does
}

// pause holds back what the machine sends, for a while, and ends no connection.
func (l *line) pause(d time.Duration) {
	cut := make(chan struct{})
	l.mu.Lock()
	l.cut = cut
	l.mu.Unlock()
	time.Sleep(d) // virtual time
	l.mu.Lock()
	l.cut = nil
	l.mu.Unlock()
	close(cut)
}

// dial connects over the line.
func (l *line) dial(dial func(context.Context, string) (net.Conn, error)) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, addr string) (net.Conn, error) {
		conn, err := dial(ctx, addr)
		if err != nil {
			return nil, err
		}
		return lineConn{conn, l}, nil
	}
}

type lineConn struct {
	net.Conn
	line *line
}

// Write sends when the line is not cut.
func (c lineConn) Write(b []byte) (int, error) {
	c.line.mu.Lock()
	cut := c.line.cut
	c.line.mu.Unlock()
	if cut != nil {
		<-cut
	}
	return c.Conn.Write(b)
}

func newMachine(r *rack, name string) *machine {
	m := &machine{rack: r, name: name, dir: filepath.Join(r.dir, name), engine: fake.New(), router: newRouter()}
	if err := os.MkdirAll(m.dir, 0o700); err != nil {
		r.t.Fatal(err)
	}
	r.machines[name] = m
	return m
}

// startAgent starts the agent, or starts it again with what the last one left on disk.
func (m *machine) startAgent() {
	m.rack.t.Helper()
	conn := m.dial()
	store, err := logs.Open(m.dir + "/logs")
	if err != nil {
		m.rack.t.Fatal(err)
	}
	a, err := agent.New(agent.Config{
		Dir: m.dir, Server: conn, Runtime: guarded{m.engine, m}, Networks: &networks{}, Logs: store, Observer: observer{m, store},
		Builder: builder{m, store}, Ingress: m.router, Streams: agent.NewStreams(m.engine, store), Now: time.Now, Log: m.rack.log(m.name),
		Node: api.Node{
			ID: api.NodeID(m.name), Name: m.name, Addr: "10.0.0.1", BootID: fmt.Sprint(m.boot),
			Capacity: api.Amount{CPU: 4000, Memory: 8 * api.GiB, Disk: 100 * api.GiB},
		},
	})
	if err != nil {
		m.rack.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	m.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			m.rack.t.Errorf("agent of %s: %v", m.name, err)
		}
		store.Close()
		conn.Close()
		m.stop = nil
	}
}

// shutDown ends the agent and everything on the machine.
func (m *machine) shutDown() {
	if m.stop != nil {
		m.stop()
	}
	m.engine.Close()
}

// powerCycle takes the machine away and brings it back with nothing running.
func (m *machine) powerCycle(off time.Duration) {
	m.powerOff()
	time.Sleep(off) // virtual time
	m.powerOn()
}

func (m *machine) powerOff() {
	m.stop()
	list, err := m.engine.List(m.rack.ctx)
	if err != nil {
		m.rack.t.Fatal(err)
	}
	for _, c := range list {
		m.engine.Lose(c.ID)
	}
	m.router = newRouter()
}

func (m *machine) powerOn() {
	m.boot++
	m.startAgent()
}

// dial connects as cmd/slipwayd does: the first time the machine joins the rack.
func (m *machine) dial() *grpc.ClientConn {
	m.rack.t.Helper()
	dir := filepath.Join(m.dir, "machine")
	id, err := identity.Open(dir)
	if api.CodeOf(err) == api.CodeNotFound {
		id, _, err = identity.Join(m.rack.ctx, dir, identity.Joining{
			Servers: []string{grpcAddr}, Token: m.rack.file(server.JoinAgentTokenFile), Dial: m.rack.dial,
			Request: &pb.JoinRequest{Role: identity.RoleAgent, Id: m.name},
		})
	}
	if err != nil {
		m.rack.t.Fatal(err)
	}
	conn, err := grpc.NewClient("passthrough:///"+grpcAddr, grpc.WithContextDialer(m.line.dial(m.rack.dial)),
		grpc.WithTransportCredentials(credentials.NewTLS(id.Client(identity.RoleServer))))
	if err != nil {
		m.rack.t.Fatal(err)
	}
	return conn
}

// guarded is the engine with an eye on what may never happen: a process that is told to end
// while a router still leads to it.
type guarded struct {
	*fake.Engine
	m *machine
}

func (g guarded) Signal(ctx context.Context, id api.ProcessID, sig syscall.Signal) error {
	for _, m := range g.m.rack.machines {
		if m.router.leadsTo(id) {
			g.m.rack.t.Errorf("process %s gets %s while the router of %s leads to it", id, sig, m.name)
		}
	}
	return g.Engine.Signal(ctx, id, sig)
}

// networks gives every process an address of its own.
type networks struct {
	mu   sync.Mutex
	last byte
}

func (n *networks) Add(context.Context, *api.Assignment) (runtime.Network, string, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.last++
	return runtime.Network{}, fmt.Sprintf("10.0.1.%d", n.last), nil
}
func (*networks) Remove(context.Context, api.ProcessID) error { return nil }

// observer probes as the behaviour of the process has it; what follows from the answers is the
// real machine of package health.
type observer struct {
	m    *machine
	logs *logs.Store
}

func (o observer) Watch(ctx context.Context, a *api.Assignment, _ string, started time.Time, report func(agent.Finding)) {
	if !health.Checked(&a.Spec) {
		report(agent.Finding{Health: api.HealthHealthy})
		return
	}
	h, b := health.NewMachine(&a.Spec, started), behaviourOf(a.Env)
	last := api.HealthUnknown
	for n := 0; ctx.Err() == nil; n++ {
		r := api.ProbeResult{Kind: health.KindHealth, Target: "GET /", At: time.Now(), Error: b.answer(time.Since(started))}
		if v := h.Step(r); v.Health != last {
			last = v.Health
			report(agent.Finding{Health: v.Health, Probe: v.Probe, Condemned: v.Condemned})
		}
		select {
		case <-ctx.Done():
		case <-time.After(h.Wait(health.KindHealth, n)):
		}
	}
}
func (o observer) Evidence(_ context.Context, a *api.Assignment, _ bool) agent.Evidence {
	return agent.Evidence{Lines: o.logs.Tail(a.Process, 20), Sockets: []string{"tcp 0.0.0.0:9999"}}
}
func (o observer) Note(id api.ProcessID, text string) { o.logs.System(id, text) }

// builder makes images that run program; every machine can pull them.
type builder struct {
	m    *machine
	logs *logs.Store
}

func (b builder) Build(_ context.Context, a *api.Assignment) (map[api.ServiceName]api.Image, error) {
	dir, err := b.logs.Dir(a.Process, a.App, a.Service)
	if err != nil {
		return nil, err
	}
	log, err := logfmt.NewWriter(dir, 0)
	if err != nil {
		return nil, err
	}
	defer log.Close(true)
	log.Write(logfmt.Stdout, time.Now(), []byte("mirrored\n"))
	out := map[api.ServiceName]api.Image{}
	for _, s := range a.Build.Services {
		image := api.Image{Repository: string(a.App), Digest: fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(s.Image)))}
		for _, m := range b.m.rack.machines {
			m.engine.AddImage(image.Ref(), fake.Image{Program: program, Info: runtime.ImageInfo{Entrypoint: []string{"/app"}, Size: api.MiB}, PullTime: 200 * time.Millisecond})
		}
		out[s.Name] = image
	}
	return out, nil
}

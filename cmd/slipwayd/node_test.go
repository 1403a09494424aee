package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/google/go-containerregistry/pkg/registry"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"slipway/agent"
	"slipway/agent/build"
	"slipway/api"
	"slipway/api/pb"
	"slipway/e2e/images"
	"slipway/runtime/containerd"
)

// limit bounds every wait of these tests.
const limit = 30 * time.Second

// orders is a server that assigns to its one node what a test says, and hears what becomes of it.
type orders struct {
	pb.UnimplementedAgentsServer
	sets chan []api.Assignment // newest; capacity 1

	mu       sync.Mutex
	node     api.Node
	statuses map[api.ProcessID]api.ProcessStatus
}

// Register implements pb.AgentsServer.
func (o *orders) Register(_ context.Context, r *pb.RegisterRequest) (*pb.RegisterReply, error) {
	node, err := pb.Unmarshal[api.Node](r.Node)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.node = node
	return &pb.RegisterReply{Rack: "test", ClusterId: "c1", HeartbeatMs: 1000}, err
}

// Attach implements pb.AgentsServer.
func (o *orders) Attach(stream pb.Agents_AttachServer) error {
	go func() {
		for {
			select {
			case <-stream.Context().Done():
				return
			case list := <-o.sets:
				set := &pb.AssignmentSet{}
				for _, a := range list {
					set.Assignment = append(set.Assignment, pb.Marshal(a))
				}
				if stream.Send(&pb.ServerMessage{Kind: &pb.ServerMessage_Assignments{Assignments: set}}) != nil {
					return
				}
			}
		}
	}()
	for {
		m, err := stream.Recv()
		if err != nil {
			return err
		}
		o.mu.Lock()
		for id, doc := range m.GetStatuses().GetProcess() {
			if status, err := pb.Unmarshal[api.ProcessStatus](doc); err == nil {
				o.statuses[api.ProcessID(id)] = status
			}
		}
		o.mu.Unlock()
	}
}

// await waits until a process is as it should be.
func (o *orders) await(t *testing.T, id api.ProcessID, what string, ok func(api.ProcessStatus) bool) api.ProcessStatus {
	t.Helper()
	for deadline := time.Now().Add(limit); ; time.Sleep(5 * time.Millisecond) { // polls, does not order anything
		o.mu.Lock()
		st := o.statuses[id]
		o.mu.Unlock()
		if ok(st) {
			return st
		}
		if time.Now().After(deadline) {
			t.Fatalf("process %s is not %s: %+v", id, what, st)
		}
	}
}

// bay is a node with all that it needs around it.
type bay struct {
	*orders
	p      paths
	conn   *grpc.ClientConn
	engine *containerd.Engine
	image  api.Image
}

// newBay starts containerd, a registry with one image, and a server. The end of the test takes
// everything away and looks for what is left.
func newBay(t *testing.T) *bay {
	t.Helper()
	if testing.Short() || os.Geteuid() != 0 {
		t.Skip("needs root, containerd and time")
	}
	dir, err := os.MkdirTemp("", "slwnode") // a path short enough for sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	p, err := create(dir)
	if err != nil {
		t.Fatal(err)
	}
	b := &bay{p: p, orders: &orders{sets: make(chan []api.Assignment, 1), statuses: map[api.ProcessID]api.ProcessStatus{}}}
	t.Cleanup(func() { b.leave(t) })
	if err := os.MkdirAll(p.data("node"), 0o700); err != nil {
		t.Fatal(err)
	}
	logger := p.data("sliplog")
	compile := exec.Command("go", "build", "-o", logger, "slipway/cmd/sliplog")
	compile.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := compile.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	socket, _, err := ensureContainerd(t.Context(), p, containerdOwn)
	if err != nil {
		t.Fatal(err)
	}
	host := b.push(t)
	b.engine, err = containerd.New(t.Context(), containerd.Config{
		Socket: socket, Namespace: p.namespace(), Dir: p.run("containers"), Sliplog: logger, Cgroup: p.namespace(), Log: slog.New(slog.DiscardHandler),
		Hosts: func(string) ([]docker.RegistryHost, error) {
			return []docker.RegistryHost{{Client: http.DefaultClient, Host: host, Scheme: "http", Path: "/v2", Capabilities: docker.HostCapabilityPull | docker.HostCapabilityResolve}}, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.engine.Close() })
	b.serve(t)
	return b
}

// push makes a registry with the image of busybox.
func (b *bay) push(t *testing.T) (host string) {
	t.Helper()
	web := httptest.NewServer(registry.New(registry.Logger(slog.NewLogLogger(slog.DiscardHandler, 0))))
	t.Cleanup(web.Close)
	host = web.Listener.Addr().String()
	img, err := images.Busybox()
	if err != nil {
		t.Fatal(err)
	}
	digest, err := images.Push(t.Context(), images.Target{Addr: host}, "busybox:1", img)
	if err != nil {
		t.Fatal(err)
	}
	b.image = api.Image{Repository: "busybox", Digest: digest}
	return host
}

// serve lets agents dial the server.
func (b *bay) serve(t *testing.T) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	pb.RegisterAgentsServer(s, b.orders)
	go s.Serve(l)
	t.Cleanup(s.Stop)
	if b.conn, err = grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.conn.Close() })
}

// agent runs an agent until the returned function is called.
func (b *bay) agent(t *testing.T, devices ...string) (stop func()) {
	t.Helper()
	node, err := agent.OpenNode(t.Context(), agent.Options{
		Dir: b.p.data("node"), Run: b.p.run("net"), Addr: "127.0.0.1", Rack: "test", ID: "n1", Version: "test", Server: b.conn, Runtime: b.engine,
		Devices: devices, Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})),
		Build: build.Config{Root: b.p.data("build"), Cgroup: b.p.namespace() + "-build", Registry: build.Registry{Addr: "127.0.0.1:1"}}, // nothing is built
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- node.Run(ctx) }()
	return sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// leave takes the node down and looks for what is left of it.
func (b *bay) leave(t *testing.T) {
	if err := down(context.Background(), b.p, containerdOwn); err != nil {
		t.Error(err)
	}
	rules, err := exec.Command("nft", "list", "ruleset").CombinedOutput()
	if err != nil {
		t.Errorf("list rules: %v: %s", err, rules)
	}
	if strings.Contains(string(rules), fmt.Sprint(hostPort)) {
		t.Errorf("rules are left:\n%s", rules)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || strings.Contains(string(mounts), b.p.Run) || strings.Contains(string(mounts), b.p.Dir) {
		t.Errorf("mounts are left: %v\n%s", err, mounts)
	}
}

// run is an assignment of a script of the shell.
func (b *bay) run(id api.ProcessID, script string, grant *api.Grant) api.Assignment {
	return api.Assignment{
		Process: id, App: "shop", Service: api.ServiceName(id), Kind: api.KindService, Release: "RONE", Image: b.image,
		Spec: api.ServiceSpec{Name: api.ServiceName(id), Grace: time.Second}, Ask: api.Amount{Memory: 64 * api.MiB},
		Env: map[string]string{"SAYS": string(id)}, Command: []string{"sh", "-c", script}, Grant: grant,
	}
}

// hostPort is the port of the node that these tests use.
const hostPort = 27441

// get asks a port of the node for a file.
func get(addr, file string) (string, error) {
	c := &http.Client{Timeout: 3 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := c.Get(fmt.Sprintf("http://%s:%d/%s", addr, hostPort, file))
	if err != nil {
		return "", err
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	return strings.TrimSpace(string(text)), err
}

// ownAddr is an address of this machine that is not its loopback; "" for none.
func ownAddr(t *testing.T) string {
	t.Helper()
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && !n.IP.IsLoopback() && n.IP.IsGlobalUnicast() {
			return n.IP.String()
		}
	}
	return ""
}

func web(port *api.HostPort, devices ...string) *api.Grant {
	g := &api.Grant{Devices: devices}
	if port != nil {
		g.HostPorts = []api.HostPort{*port}
	}
	return g
}

// TestNodeDoesWhatIsGranted: a container answers on its port of the node and has its device, over
// a restart of the agent, until it is gone; what another one holds, or the node has not, is refused
// with a sentence.
func TestNodeDoesWhatIsGranted(t *testing.T) {
	b := newBay(t)
	fuse := filepath.Join(b.p.Dir, "fuse")
	if out, err := exec.Command("mknod", "-m", "600", fuse, "c", "10", "229").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	stop := b.agent(t, "fuse="+fuse+";vendor=linux")
	defer func() { stop() }()
	port := &api.HostPort{Host: hostPort, Port: 8080, Protocol: api.TCP}
	shop := b.run("pweb", "mkdir /www; echo $SAYS > /www/says; (exec 3<>"+fuse+") && echo yes > /www/device; exec httpd -f -p 8080 -h /www", web(port, fuse))
	shop.Spec.Port, shop.Spec.Health = api.Port{Number: 8080, Scheme: api.SchemeHTTP}, api.Health{Path: "/says"}
	b.sets <- []api.Assignment{shop}
	b.await(t, "pweb", "healthy", func(st api.ProcessStatus) bool { return st.Health == api.HealthHealthy })
	if d := b.node.Devices; len(d) == 0 || d[0].Kind != "fuse" || d[0].Vendor != "linux" || len(d[0].Instances) != 1 || d[0].Instances[0] != fuse {
		t.Errorf("the node registered devices %+v", d)
	}
	own := ownAddr(t)
	answers := func(when string) {
		t.Helper()
		for _, addr := range []string{"127.0.0.1", own} {
			if says, err := get(addr, "says"); says != "pweb" || err != nil {
				t.Errorf("%s, at %s: %q, %v", when, addr, says, err)
			}
		}
	}
	answers("from the node")
	if says, err := get("127.0.0.1", "device"); says != "yes" || err != nil {
		t.Errorf("its device: %q, %v", says, err)
	}

	busy, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	taken := busy.Addr().(*net.TCPAddr).Port
	b.sets <- []api.Assignment{
		shop,
		b.run("pguest", fmt.Sprintf("test $(wget -qO- http://%s:%d/says) = pweb", own, hostPort), nil),
		b.run("pnone", "test ! -e "+fuse+" && ! mknod /tmp/fuse c 10 229 2>/dev/null", nil),
		b.run("pport", "sleep 1000", web(port)), b.run("pdevice", "sleep 1000", web(nil, fuse)), b.run("pmissing", "sleep 1000", web(nil, "/dev/nvidia0")),
		b.run("pbusy", "sleep 1000", web(&api.HostPort{Host: taken, Port: 80, Protocol: api.TCP})),
	}
	for _, id := range []api.ProcessID{"pguest", "pnone"} {
		if st := b.await(t, id, "ended", func(st api.ProcessStatus) bool { return st.State.Ended() }); st.State != api.StateExited || st.ExitCode != 0 {
			t.Errorf("%s: %+v", id, st)
		}
	}
	for id, says := range map[api.ProcessID]string{
		"pport": fmt.Sprintf("host port %d/tcp belongs to process pweb", hostPort), "pdevice": "device " + fuse + " belongs to process pweb",
		"pmissing": "device /dev/nvidia0 is not one of the node", "pbusy": fmt.Sprintf("host port %d/tcp is in use by process %d", taken, os.Getpid()),
	} {
		st := b.await(t, id, "failed", func(st api.ProcessStatus) bool { return st.State.Ended() })
		if st.State != api.StateFailed || !strings.Contains(st.Message, says) {
			t.Errorf("%s: %s: %q, want %q", id, st.State, st.Message, says)
		}
	}

	stop()
	answers("without an agent")
	stop = b.agent(t, "fuse="+fuse)
	answers("with a new agent")
	late := b.run("plate", "sleep 1000", web(port))
	b.sets <- []api.Assignment{shop, late}
	b.await(t, "plate", "refused by the new agent", func(st api.ProcessStatus) bool { return st.State == api.StateFailed })
	b.sets <- []api.Assignment{}
	b.await(t, "pweb", "ended", func(st api.ProcessStatus) bool { return st.State.Ended() })
	for deadline := time.Now().Add(limit); ; time.Sleep(5 * time.Millisecond) { // polls, does not order anything
		says, err := get("127.0.0.1", "says")
		if err != nil && strings.Contains(err.Error(), "connection refused") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("gone, it says %q, %v", says, err)
		}
	}
}

package main

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"slipway/api"
	"slipway/api/machine"
	"slipway/api/pb"
	"slipway/raftstore"
	"slipway/raftstore/keyring"
	"slipway/raftstore/state"
	"slipway/server"
	"slipway/server/auth"
	"slipway/server/control"
	"slipway/server/objects"
	"slipway/server/steps"
)

// testRack is a rack of one server, with one node that pretends.
type testRack struct {
	dir    string
	addr   string
	ca     *auth.CA
	self   *machine.Identity
	tokens map[string]string // by role
	store  *raftstore.Store
	agent  *fakeAgent
	door   *door
}

// startRack starts a rack that ends with the test.
func startRack(t testing.TB) *testRack {
	dir := t.TempDir()
	store, err := raftstore.Open(raftstore.Config{
		Dir: dir, ID: "s1", Addr: "127.0.0.1:0", Bootstrap: true, Log: slog.New(slog.DiscardHandler),
		Tune: func(c *raft.Config) {
			c.HeartbeatTimeout, c.ElectionTimeout = 100*time.Millisecond, 100*time.Millisecond
			c.LeaderLeaseTimeout, c.CommitTimeout = 50*time.Millisecond, 2*time.Millisecond
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	keys, err := keyring.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	blobs, err := objects.Open(dir + "/objects")
	if err != nil {
		t.Fatal(err)
	}
	ca, err := auth.NewCA("test", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	agent := &fakeAgent{store: store, files: map[string][]byte{}, secrets: control.NewSecrets(keys)}
	r := &testRack{dir: dir, ca: ca, tokens: map[string]string{}, store: store, agent: agent}
	service := control.New(control.Config{
		Store: store, Keyring: keys, Objects: blobStore{blobs}, Agents: agent, Callers: callers{}, Scheduler: server.Planner{},
		Mint: mint, Now: time.Now, Log: slog.New(slog.DiscardHandler), Version: "test",
		NewAuthority: r.newAuthority, Images: listedImages{},
	})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	r.seed(ctx, t)
	running.Go(func() { r.lead(ctx) })
	running.Go(func() { agent.run(ctx) })
	running.Go(func() { _ = service.RunFinisher(ctx) })
	stop := r.serve(t, service)
	t.Cleanup(func() {
		cancel()
		stop()
		running.Wait()
		store.Close()
	})
	return r
}

// serve listens on loopback, with TLS and tokens.
func (r *testRack) serve(t testing.TB, service *control.Server) func() {
	key, request, err := machine.NewRequest()
	if err != nil {
		t.Fatal(err)
	}
	chain, err := r.ca.Machine(time.Now(), time.Hour, machine.Name{Cluster: "c1", Role: machine.RoleServer, ID: "s1"}, nil, request)
	if err != nil {
		t.Fatal(err)
	}
	if r.self, err = machine.Keep(r.dir+"/machine", key, chain, r.ca.PEM()); err != nil {
		t.Fatal(err)
	}
	guard := auth.NewGuard(r.store, time.Now)
	s := grpc.NewServer(append(guard.ServerOptions(nil), grpc.Creds(credentials.NewTLS(r.self.Server())))...)
	pb.RegisterControlServer(s, service)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.addr, r.door = l.Addr().String(), &door{Listener: l, conns: map[net.Conn]bool{}}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = s.Serve(r.door)
	}()
	return func() {
		s.Stop()
		<-ended
	}
}

// door is a listener that can be shut: the rack is out of reach then, as when its server starts
// again, and nobody else can take its port meanwhile.
type door struct {
	net.Listener

	mu    sync.Mutex
	shut  bool
	conns map[net.Conn]bool
}

// Accept accepts while the door is open.
func (d *door) Accept() (net.Conn, error) {
	for {
		c, err := d.Listener.Accept()
		if err != nil {
			return nil, err
		}
		d.mu.Lock()
		shut := d.shut
		d.conns[c] = !shut
		d.mu.Unlock()
		if !shut {
			return c, nil
		}
		c.Close()
	}
}

// set shuts or opens the door; a door that shuts breaks every connection.
func (d *door) set(shut bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.shut = shut
	for c := range d.conns {
		if shut {
			c.Close()
		}
	}
	clear(d.conns)
}

// seed waits for leadership and writes what a bootstrap writes.
func (r *testRack) seed(ctx context.Context, t testing.TB) {
	deadline := time.Now().Add(20 * time.Second)
	for !r.store.IsLeader() {
		if time.Now().After(deadline) {
			t.Fatal("the store has no leader after 20 s")
		}
		time.Sleep(time.Millisecond) // polls, does not order anything
	}
	cmds := []state.Command{
		state.ConfigureRack{Rack: state.Rack{Name: "test", Domain: "rack.test", HTTPPort: 8080, HTTPSPort: 8443}},
		state.RegisterNode{Node: api.Node{
			ID: "n1", Name: "node1", Addr: "127.0.0.1", BootID: "1", Version: "test", Router: true,
			Capacity: api.Amount{CPU: 4000, Memory: 8 * api.GiB, Disk: 100 * api.GiB},
		}},
	}
	for name, token := range map[string]state.Token{
		"admin":  {Role: auth.RoleAdmin},
		"viewer": {Role: auth.RoleViewer},
		"scoped": {Role: auth.RoleDeployer, Apps: []api.AppName{"hello"}},
	} {
		secret := auth.NewSecret()
		r.tokens[name] = secret
		token.ID, token.Name, token.Hash = name, name, auth.Hash(secret)
		cmds = append(cmds, state.PutToken{Token: token})
	}
	for _, cmd := range cmds {
		if res, err := r.store.Propose(ctx, state.Entry{At: time.Now(), Actor: "rack", Command: cmd}); err != nil || res.Err != nil {
			t.Fatalf("%s: %v %v", cmd.Type(), err, res.Err)
		}
	}
}

// lead is the leader's loop in short, with its own decisions.
func (r *testRack) lead(ctx context.Context) {
	started, decider := time.Now(), new(server.Decider)
	v := r.store.View()
	for {
		// The agent of this rack sends no heartbeats.
		in := steps.Input{Now: time.Now(), IDs: api.NewIDs(mint()), Leader: started, Silence: time.Hour}
		entries, wake := decider.Decide(v, state.Everything(), in)
		if wake.IsZero() {
			wake = in.Now.Add(time.Hour)
		}
		for _, e := range entries {
			if _, err := r.store.Propose(ctx, e); err != nil {
				return
			}
		}
		if len(entries) > 0 {
			v = r.store.View()
			continue
		}
		waiting, cancel := context.WithDeadline(ctx, wake)
		next, err := r.store.Next(waiting, v.Index())
		cancel()
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			v = next
		}
	}
}

type blobStore struct{ *objects.Store }

func (b blobStore) Has(digest string) bool {
	f, err := b.Open(digest)
	if err != nil {
		return false
	}
	f.Close()
	return true
}

type callers struct{}

func (callers) Actor(ctx context.Context) string                  { return auth.Actor(ctx) }
func (callers) Visible(ctx context.Context, app api.AppName) bool { return auth.Visible(ctx, app) }
func (callers) Enters(ctx context.Context) bool                   { return auth.Enters(ctx) }
func (callers) Administers(ctx context.Context) bool              { return auth.Administers(ctx) }

// NewToken draws the secret of a token.
func (callers) NewToken() (secret string, hash []byte) {
	secret = auth.NewSecret()
	return secret, auth.Hash(secret)
}

func mint() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:])
	return binary.BigEndian.Uint64(b[:])
}

package server

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"slipway/api"
	"slipway/api/client"
	"slipway/api/machine"
	"slipway/api/pb"
)

// member is one server of a rack in this process.
type member struct {
	*Server
	cfg   Config
	stop  context.CancelFunc
	ended chan error
}

// freeAddr is an address that nobody listens on, and that the kernel gives to no connection.
func freeAddr(t *testing.T) string {
	t.Helper()
	for range 100 {
		addr := fmt.Sprintf("127.0.0.1:%d", 10000+rand.IntN(20000))
		if l, err := net.Listen("tcp", addr); err == nil {
			l.Close()
			return addr
		}
	}
	t.Fatal("no port is free")
	return ""
}

// among is the configuration of a server among others.
func among(t *testing.T, n int) Config {
	log := slog.New(slog.DiscardHandler)
	if testing.Verbose() {
		log = slog.New(slog.NewTextHandler(t.Output(), nil)).With("server", n)
	}
	return Config{
		Dir: t.TempDir(), Rack: "test", Domain: "rack.test", Network: "10.192.0.0/10", Version: fmt.Sprint("v", n), Log: log,
		GRPCAddr: freeAddr(t), HTTPAddr: freeAddr(t), RaftAddr: freeAddr(t), GossipAddr: freeAddr(t),
	}
}

func start(t *testing.T, cfg Config) *member {
	t.Helper()
	s, err := New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	m := &member{Server: s, cfg: cfg, stop: cancel, ended: make(chan error, 1)}
	go func() { m.ended <- s.Run(ctx) }()
	t.Cleanup(m.end)
	return m
}

// end stops the server; again is no error.
func (m *member) end() {
	m.stop()
	if err, first := <-m.ended; first && err != nil {
		m.cfg.Log.Error("server ended", "err", err)
	}
	select {
	case <-m.ended:
	default:
		close(m.ended)
	}
}

func (m *member) file(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(m.cfg.Dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// three starts a rack of three servers and waits until all have a vote.
func three(t *testing.T) []*member {
	t.Helper()
	return threeWith(t, func(*Config) {})
}

// threeWith is three, with something else in their configurations.
func threeWith(t *testing.T, with func(*Config)) []*member {
	t.Helper()
	cfg := among(t, 1)
	cfg.Bootstrap = true
	with(&cfg)
	first := start(t, cfg)
	<-first.Ready()
	all := []*member{first}
	for n := 2; n <= 3; n++ {
		cfg := among(t, n)
		cfg.Join, cfg.Token = []string{first.cfg.GRPCAddr}, first.file(t, JoinServerTokenFile)
		with(&cfg)
		all = append(all, start(t, cfg))
	}
	await(t, "three voters", func() (string, bool) {
		servers, err := first.Servers()
		votes := 0
		for _, s := range servers {
			if s.Voter && s.Status == "alive" {
				votes++
			}
		}
		return fmt.Sprint(servers, err), votes == 3
	})
	return all
}

// await waits for a condition, and prints the state that it was missed in.
func await(t *testing.T, what string, ok func() (string, bool)) {
	t.Helper()
	deadline := time.Now().Add(60 * time.Second)
	for {
		state, done := ok()
		if done {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("no %s: %s", what, state)
		}
		time.Sleep(20 * time.Millisecond) // polls
	}
}

func admin(t *testing.T, first *member, all []*member) *client.Client {
	t.Helper()
	c := client.Context{Addr: all[0].cfg.GRPCAddr, CA: first.file(t, TrustFile), Token: first.file(t, AdminTokenFile)}
	for _, m := range all[1:] {
		c.Others = append(c.Others, m.cfg.GRPCAddr)
	}
	rack, err := client.Dial(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { rack.Close() })
	return rack
}

// TestThreeServers: any of them answers, and the rack goes on when the leader is gone, and when a
// server comes back.
func TestThreeServers(t *testing.T) {
	all := three(t)
	for i, m := range all {
		rack := admin(t, all[0], []*member{m})
		if _, err := rack.CreateApp(t.Context(), api.AppName(fmt.Sprint("app", i))); err != nil {
			t.Fatalf("through server %d: %v", i, err)
		}
		apps, err := rack.Apps(t.Context())
		if err != nil || len(apps) != i+1 {
			t.Fatalf("server %d answers with %d apps, %v", i, len(apps), err)
		}
	}
	rack := admin(t, all[0], all)
	leader := leading(t, all)
	all[leader].end()
	rest := append(append([]*member{}, all[:leader]...), all[leader+1:]...)
	if _, err := rack.CreateApp(t.Context(), "after"); err != nil {
		t.Fatalf("with the leader gone: %v", err)
	}
	if now := leading(t, rest); rest[now] == all[leader] {
		t.Fatal("the server that is gone leads")
	}
	back := all[leader].cfg
	back.Bootstrap = false
	again := start(t, back)
	if _, err := admin(t, all[0], []*member{again}).CreateApp(t.Context(), "last"); err != nil {
		t.Fatalf("through the server that came back: %v", err)
	}
	await(t, "equal states", func() (string, bool) {
		a, b := again.store.View(), rest[0].store.View()
		_, known := a.App("last")
		return fmt.Sprint(a.Index(), " ", b.Index()), known
	})
}

// leading returns which one leads, once one does.
func leading(t *testing.T, all []*member) (leader int) {
	t.Helper()
	await(t, "leader", func() (string, bool) {
		for i, m := range all {
			if m.store.IsLeader() {
				leader = i
				return "", true
			}
		}
		return "none", false
	})
	return leader
}

// TestRogueServers: who has no token of the role, or one of another rack, gets nowhere, and leaves
// nothing in the rack.
func TestRogueServers(t *testing.T) {
	cfg := among(t, 1)
	cfg.Bootstrap = true
	first := start(t, cfg)
	<-first.Ready()
	strange := among(t, 9)
	strange.Bootstrap = true
	other := start(t, strange)
	<-other.Ready()
	mine, foreign := first.file(t, JoinServerTokenFile), other.file(t, JoinServerTokenFile)
	secret := func(token string) string { return token[:strings.LastIndex(token, "_")] }
	pin := func(token string) string { return token[strings.LastIndex(token, "_"):] }
	for name, c := range map[string]struct{ token, says string }{
		"the token of agents":             {first.file(t, JoinAgentTokenFile), "lets machines join with the role agent"},
		"an admin's token":                {first.file(t, AdminTokenFile), "no join token"},
		"a token of another rack":         {foreign, "does not show the authority"},
		"another rack's secret":           {secret(foreign) + pin(mine), "not valid"},
		"the right secret, the wrong pin": {secret(mine) + pin(foreign), "does not show the authority"},
		"no token":                        {"", "no join token"},
	} {
		rogue := among(t, 2)
		rogue.Join, rogue.Token = []string{first.cfg.GRPCAddr}, c.token
		if s, err := New(t.Context(), rogue); err == nil {
			s.close()
			t.Errorf("%s: joined", name)
		} else if !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
	}
	if servers, err := first.Servers(); err != nil || len(servers) != 1 {
		t.Errorf("the rack has %d servers, %v", len(servers), err)
	}
}

// TestServersThatDoNotReadTheRackAreNotLetIn: a server of a version from before the upgrade was
// finished, or of one that has left the rack's format behind, is told so, and leaves nothing.
func TestServersThatDoNotReadTheRackAreNotLetIn(t *testing.T) {
	cfg := among(t, 1)
	cfg.Bootstrap = true
	m := start(t, cfg)
	<-m.Ready()
	secret, _, err := machine.ParseJoinToken(m.file(t, JoinServerTokenFile))
	if err != nil {
		t.Fatal(err)
	}
	format := m.store.View().Format()
	for version, formats := range map[string]api.Formats{
		"v0.9": {Oldest: 1, Newest: format - 1}, "v7.0": {Oldest: format + 1, Newest: format + 4},
	} {
		_, request, err := machine.NewRequest()
		if err != nil {
			t.Fatal(err)
		}
		about, err := json.Marshal(api.Server{Name: "other", Raft: freeAddr(t), Version: version, Formats: formats})
		if err != nil {
			t.Fatal(err)
		}
		_, err = pb.NewMachinesClient(dialAs(t, m, nil).grpc).Join(t.Context(),
			&pb.JoinRequest{Role: machine.RoleServer, Id: "other", Token: secret, Request: request, Server: about})
		want := fmt.Sprintf("the rack has format %d, and slipway %s of the new server reads formats %s; install version v1 there", format, version, formats)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", version, err, want)
		}
	}
	if servers, err := m.Servers(); err != nil || len(servers) != 1 {
		t.Errorf("the rack has %d servers, %v", len(servers), err)
	}
}

package server

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"slipway/api"
	"slipway/api/client"
	"slipway/api/machine"
	"slipway/api/pb"
)

// settle is how long the old authority stays in these tests.
const settle = 500 * time.Millisecond

// threeSettling starts three servers whose machines have certificates of a given life.
func threeSettling(t *testing.T, life time.Duration) []*member {
	t.Helper()
	return threeWith(t, func(cfg *Config) { cfg.settle, cfg.CertificateLife = settle, life })
}

// plainNode is the part of an agent that speaks with servers: it follows the rack's authority, keeps
// its certificate fresh, and is attached all the time.
type plainNode struct {
	id   *machine.Identity
	conn *client.Conn
	stop func()
	// attached counts the sessions that were begun, beats the heartbeats that were taken.
	attached, renewed atomic.Int64
	lastErr           atomic.Pointer[string]
}

// startNode lets a node join, or starts it again with what it has in dir.
func startNode(t *testing.T, dir, name, token string, all []*member) *plainNode {
	t.Helper()
	var addrs []string
	for _, m := range all {
		addrs = append(addrs, m.cfg.GRPCAddr)
	}
	id, err := machine.Open(dir)
	if api.CodeOf(err) == api.CodeNotFound {
		id, _, err = machine.Join(t.Context(), dir, machine.Joining{
			Servers: addrs, Token: token, Request: &pb.JoinRequest{Role: machine.RoleAgent, Id: name},
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	conn, err := client.NewConn(addrs, grpc.WithTransportCredentials(credentials.NewTLS(id.Client(machine.RoleServer))), grpc.WithNoProxy())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	n := &plainNode{id: id, conn: conn}
	var group sync.WaitGroup
	failed := func(err error) { text := err.Error(); n.lastErr.Store(&text) }
	group.Go(func() { _ = id.KeepFresh(ctx, n.renew, failed) })
	group.Go(func() { _ = id.Follow(ctx, conn, n.renew, failed) })
	group.Go(func() {
		for ctx.Err() == nil {
			if err := n.session(ctx); err != nil && ctx.Err() == nil {
				failed(err)
			}
			select {
			case <-ctx.Done():
			case <-time.After(50 * time.Millisecond):
			}
		}
	})
	n.stop = sync.OnceFunc(func() {
		cancel()
		conn.Close()
		group.Wait()
	})
	t.Cleanup(n.stop)
	return n
}

func (n *plainNode) renew(ctx context.Context) error {
	_, before := n.id.Holds()
	if err := n.id.Renew(ctx, n.conn, nil); err != nil {
		return err
	}
	n.renewed.Add(1)
	_, now := n.id.Holds()
	return n.conn.Redial(slices.ContainsFunc(before, func(a string) bool { return !slices.Contains(now, a) }))
}

// session registers and stays attached, with a heartbeat now and then.
func (n *plainNode) session(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	agents := pb.NewAgentsClient(n.conn)
	node := api.Node{ID: api.NodeID(n.id.Name().ID), Name: n.id.Name().ID, Capacity: api.Amount{CPU: 1000, Memory: api.GiB}}
	if _, err := agents.Register(ctx, &pb.RegisterRequest{Node: pb.Marshal(node)}); err != nil {
		return err
	}
	stream, err := agents.Attach(ctx)
	if err != nil {
		return err
	}
	if err := stream.Send(&pb.AgentMessage{Kind: &pb.AgentMessage_Node{Node: n.id.Name().ID}}); err != nil {
		return err
	}
	n.attached.Add(1)
	go func() {
		defer cancel()
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for stream.Send(&pb.AgentMessage{Kind: &pb.AgentMessage_Heartbeat{}}) == nil {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	}()
	for {
		if _, err := stream.Recv(); err != nil {
			return err
		}
	}
}

// signs returns the authority that signs, and how many there are, as a server has it.
func signs(m *member) (fingerprint string, all int) {
	for a := range m.store.View().Authorities() {
		if a.Active {
			fingerprint = a.Fingerprint
		}
		all++
	}
	return fingerprint, all
}

// rotated waits until one authority is left, which is another one than before, and all servers hold it.
func rotated(t *testing.T, all []*member, before string) {
	t.Helper()
	await(t, "end of the replacement", func() (string, bool) {
		var b strings.Builder
		done := true
		for _, m := range all {
			now, n := signs(m)
			issuer, trusts := m.identity.Holds()
			done = done && n == 1 && now != before && issuer == now && slices.Equal(trusts, []string{now})
			fmt.Fprintf(&b, "%d authorities, %.8s signs, %.8s issued, trusts %d, behind %v; ", n, now, issuer, len(trusts), m.store.View().Laggards())
		}
		return b.String(), done
	})
}

// TestRotation is the story: the authority is replaced under load, and nobody notices.
func TestRotation(t *testing.T) {
	all := threeSettling(t, 0)
	token := all[0].file(t, JoinAgentTokenFile)
	var nodes []*plainNode
	for i := range 3 {
		nodes = append(nodes, startNode(t, filepath.Join(t.TempDir(), "machine"), fmt.Sprint("n", i), token, all))
	}
	before, _ := signs(all[0])
	rack := admin(t, all[0], all)
	end := load(t, all)
	listed, err := rack.RotateAuthority(t.Context())
	if err != nil || len(listed) != 2 || listed[0].Fingerprint != before || listed[1].Stage != api.AuthorityAdded {
		t.Fatalf("%+v, %v", listed, err)
	}
	rotated(t, all, before)
	end()
	now, _ := signs(all[0])
	for _, n := range nodes {
		await(t, "node follows", func() (string, bool) {
			issuer, trusts := n.id.Holds()
			return fmt.Sprint(issuer, trusts), issuer == now && len(trusts) == 1
		})
	}
	if _, err := rack.Apps(t.Context()); err != nil {
		t.Errorf("a client of before: %v", err)
	}
	old := admin(t, all[0], all) // it trusts what is in the file now
	if _, err := old.Apps(t.Context()); err != nil {
		t.Errorf("a client of now: %v", err)
	}
	if _, err := rack.RotateAuthority(t.Context(), "node/n0"); api.CodeOf(err) != api.CodeConflict {
		t.Errorf("left behind by nothing: %v", err)
	}
}

// TestRotationOutlivesLeaders: whoever leads goes on where the one before was, a node that is away is
// waited for, and one that is left behind learns why it is turned away.
func TestRotationOutlivesLeaders(t *testing.T) {
	all := threeSettling(t, 0)
	token, trust := all[0].file(t, JoinAgentTokenFile), all[0].file(t, TrustFile)
	away, lost := filepath.Join(t.TempDir(), "machine"), filepath.Join(t.TempDir(), "machine")
	startNode(t, filepath.Join(t.TempDir(), "machine"), "here", token, all)
	for dir, name := range map[string]string{away: "away", lost: "lost"} {
		n := startNode(t, dir, name, token, all)
		await(t, name+" is told", func() (string, bool) {
			_, ok := all[leading(t, all)].store.View().Holding("node/" + name)
			return "", ok
		})
		n.stop()
	}
	rack := admin(t, all[0], all)
	before, _ := signs(all[0])
	if _, err := rack.RotateAuthority(t.Context()); err != nil {
		t.Fatal(err)
	}
	behind := func(want string) {
		t.Helper()
		await(t, "waits for "+want, func() (string, bool) {
			var names []string
			for _, l := range all[leading(t, all)].store.View().Laggards() {
				if l.Waited {
					names = append(names, l.Name)
				}
			}
			slices.Sort(names)
			return strings.Join(names, " "), strings.Join(names, " ") == want
		})
	}
	behind("away lost")
	all = restartLeader(t, all)
	behind("away lost")
	if now, n := signs(all[leading(t, all)]); now != before || n != 2 {
		t.Fatalf("%d authorities, %s signs, %s did", n, now, before)
	}
	if _, err := rack.RotateAuthority(t.Context(), "node/lost"); err != nil {
		t.Fatal(err)
	}
	first := startNode(t, away, "away", token, all)
	await(t, "another authority signs", func() (string, bool) {
		now, _ := signs(all[leading(t, all)])
		return now, now != before
	})
	first.stop() // with whatever certificate it has
	all = restartLeader(t, all)
	startNode(t, away, "away", token, all)
	rotated(t, all, before)
	back := startNode(t, lost, "lost", token, all)
	await(t, "reason", func() (string, bool) {
		why := back.lastErr.Load()
		if why == nil {
			return "none", false
		}
		return *why, strings.Contains(*why, "has replaced the authority that signed the certificate of agent lost")
	})
	// A client that was away all the time takes the new authority over.
	client, err := client.Dial(t.Context(), client.Context{Addr: all[0].cfg.GRPCAddr, CA: trust, Token: all[0].file(t, AdminTokenFile)})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := client.Apps(t.Context()); err != nil || client.CA() == trust || client.CA() != all[0].file(t, TrustFile) {
		t.Errorf("a client with the old authority: %v, trusts now %q", err, client.CA())
	}
}

// restartLeader stops who leads, waits for the next leader, and starts the former one again.
func restartLeader(t *testing.T, all []*member) []*member {
	t.Helper()
	i := leading(t, all)
	all[i].end()
	leading(t, slices.Concat(all[:i], all[i+1:]))
	cfg := all[i].cfg
	cfg.Bootstrap = false
	out := slices.Clone(all)
	out[i] = start(t, cfg)
	return out
}

// TestShortCertificates: certificates of seconds are renewed in time, by servers and nodes, and nobody
// notices.
func TestShortCertificates(t *testing.T) {
	const life = 4 * time.Second
	all := threeSettling(t, life)
	n := startNode(t, filepath.Join(t.TempDir(), "machine"), "n1", all[0].file(t, JoinAgentTokenFile), all)
	leader := leading(t, all)
	end := load(t, all)
	began := time.Now()
	await(t, "three lives", func() (string, bool) {
		why := "nothing"
		if text := n.lastErr.Load(); text != nil {
			why = *text
		}
		return fmt.Sprint(n.renewed.Load(), " renewals, ", n.attached.Load(), " sessions, failed last: ", why),
			n.renewed.Load() >= 6 && time.Since(began) > 3*life
	})
	end()
	if now := leading(t, all); now != leader {
		t.Errorf("server %d leads, %d did", now, leader)
	}
	v := all[leader].store.View()
	if node, ok := v.Node("n1"); !ok || node.Status != api.NodeReady {
		t.Errorf("the node is %+v", node)
	}
}

// load writes and reads through every server until end is called, which fails the test for every call
// that failed. The clients know the authority of now only.
func load(t *testing.T, all []*member) (end func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	var mu sync.Mutex
	var failed []string
	calls := 0
	for i, m := range all {
		rack := admin(t, all[0], []*member{m})
		group.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				app := api.AppName(fmt.Sprintf("load-%d-%d", i, n))
				_, err := rack.CreateApp(t.Context(), app)
				if err == nil {
					_, err = rack.App(t.Context(), app)
				}
				mu.Lock()
				calls += 2
				if err != nil {
					failed = append(failed, fmt.Sprintf("server %d: %v", i, err))
				}
				mu.Unlock()
				select {
				case <-ctx.Done():
				case <-time.After(5 * time.Millisecond):
				}
			}
		})
	}
	return func() {
		t.Helper()
		cancel()
		group.Wait()
		if len(failed) > 0 || calls == 0 {
			t.Errorf("%d of %d calls failed: %v", len(failed), calls, errors.New(strings.Join(failed[:min(len(failed), 5)], "; ")))
		}
		t.Logf("%d calls, %d failed", calls, len(failed))
	}
}

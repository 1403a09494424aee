package server

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"slipway/api"
	"slipway/api/machine"
	"slipway/api/pb"
	"slipway/raftstore"
	"slipway/raftstore/state"
	"slipway/server/auth"
	"slipway/server/gossip"
	"slipway/server/objects"
	"slipway/server/registry"
)

// wear is the configuration of a client that takes everybody for a server, and shows a certificate
// whatever is asked of it; nil shows none.
func wear(cert *tls.Certificate) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12, InsecureSkipVerify: true, NextProtos: []string{"h2"}, // of an attacker
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if cert == nil {
				return &tls.Certificate{}, nil
			}
			return cert, nil
		},
	}
}

// forge has an authority sign a certificate, as whoever holds its key can.
func forge(t *testing.T, ca *auth.CA, name machine.Name, from time.Time, life time.Duration) *tls.Certificate {
	t.Helper()
	key, request, err := machine.NewRequest()
	if err != nil {
		t.Fatal(err)
	}
	chain, err := ca.Machine(from, life, name, nil, request)
	if err != nil {
		t.Fatal(err)
	}
	cert := &tls.Certificate{PrivateKey: key}
	for block, rest := pem.Decode(chain); block != nil; block, rest = pem.Decode(rest) {
		cert.Certificate = append(cert.Certificate, block.Bytes)
	}
	return cert
}

// dialer opens a connection over which a door is tried, again and again.
type dialer struct {
	grpc *grpc.ClientConn
	http *http.Client
}

func (d *dialer) close() {
	d.grpc.Close()
	d.http.CloseIdleConnections()
}

func dialAs(t *testing.T, m *member, cert *tls.Certificate) *dialer {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+m.cfg.GRPCAddr, grpc.WithTransportCredentials(credentials.NewTLS(wear(cert))), grpc.WithNoProxy())
	if err != nil {
		t.Fatal(err)
	}
	conf := wear(cert)
	conf.NextProtos = nil
	d := &dialer{grpc: conn, http: &http.Client{Transport: &http.Transport{TLSClientConfig: conf}, Timeout: 10 * time.Second}}
	t.Cleanup(d.close)
	return d
}

// door is a way into a server: try returns why it stays shut.
type door struct {
	name string
	role string // who may enter
	try  func(ctx context.Context, m *member, d *dialer, id string, cert *tls.Certificate) error
}

// doors are all that is listened on which a certificate opens.
func doors(t *testing.T) []door {
	web := func(path string) func(context.Context, *member, *dialer, string, *tls.Certificate) error {
		return func(ctx context.Context, m *member, d *dialer, _ string, _ *tls.Certificate) error {
			r, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+m.cfg.HTTPAddr+path, nil)
			if err != nil {
				return err
			}
			reply, err := d.http.Do(r)
			if err != nil {
				return err
			}
			defer reply.Body.Close()
			body, _ := io.ReadAll(io.LimitReader(reply.Body, 300)) // for the error only
			if reply.StatusCode == http.StatusUnauthorized || reply.StatusCode == http.StatusForbidden {
				return fmt.Errorf("%s: %s", reply.Status, body)
			}
			return nil
		}
	}
	renew := func(ctx context.Context, _ *member, d *dialer, _ string, _ *tls.Certificate) error {
		_, request, err := machine.NewRequest()
		if err == nil {
			_, err = pb.NewMachinesClient(d.grpc).Renew(ctx, &pb.RenewRequest{Request: request})
		}
		return err
	}
	sha := "sha256:" + strings.Repeat("0", 64)
	return []door{
		{"dispatch", machine.RoleAgent, func(ctx context.Context, _ *member, d *dialer, id string, _ *tls.Certificate) error {
			_, err := pb.NewAgentsClient(d.grpc).Register(ctx, &pb.RegisterRequest{Protocol: pb.Protocol, Node: pb.Marshal(api.Node{
				ID: api.NodeID(id), Name: id, Capacity: api.Amount{CPU: 1, Memory: 1},
			})})
			return err
		}},
		{"exec", machine.RoleAgent, func(ctx context.Context, _ *member, d *dialer, _ string, _ *tls.Certificate) error {
			stream, err := pb.NewAgentsClient(d.grpc).Tunnel(ctx)
			if err != nil {
				return err
			}
			_ = stream.Send(&pb.Frame{}) // its error comes with Recv
			if _, err = stream.Recv(); api.CodeOf(pb.FromError(err)) != api.CodeDenied {
				return nil // it asks which tunnel this is
			}
			return err
		}},
		{"renewal", machine.RoleAgent, renew},
		{"renewal", machine.RoleServer, renew},
		{"registry", machine.RoleAgent, web("/v2/")},
		{"images", machine.RoleServer, web(registry.PeerPath + "library/x/blobs/" + sha)},
		{"objects", machine.RoleServer, web(objects.PeerPath + sha)},
		{"raft", machine.RoleServer, func(_ context.Context, m *member, _ *dialer, _ string, cert *tls.Certificate) error {
			conn, err := raftAs(m, cert)
			if err == nil {
				conn.Close()
			}
			return err
		}},
	}
}

// raftAs connects as a server to another.
func raftAs(m *member, cert *tls.Certificate) (*tls.Conn, error) {
	epoch, err := raftstore.Epoch(raftDir(m.cfg))
	if err != nil {
		return nil, err
	}
	conf := wear(cert)
	conf.NextProtos = nil
	conn, err := tls.Dial("tcp", m.cfg.RaftAddr, conf)
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(conn, "slipway-raft/1 %s\n", epoch)
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second)) // a real connection has deadlines
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err == nil && line != "ok\n" {
		err = fmt.Errorf("answered %q", line)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// early is a machine that connected while its authority was trusted.
type early struct {
	d    *dialer
	cert *tls.Certificate
	raft *tls.Conn // of a server
}

// connect makes the connections of a machine, and has them used once.
func connect(t *testing.T, m *member, ca *auth.CA, name machine.Name) early {
	t.Helper()
	e := early{cert: forge(t, ca, name, time.Now(), time.Hour)}
	e.d = dialAs(t, m, e.cert)
	for _, k := range doors(t) {
		if k.role != name.Role {
			continue
		}
		if err := k.try(t.Context(), m, e.d, name.ID, e.cert); err != nil {
			t.Fatalf("%s before the replacement, as %s: %v", k.name, name, err)
		}
	}
	if name.Role == machine.RoleServer {
		var err error
		if e.raft, err = raftAs(m, e.cert); err != nil {
			t.Fatal(err)
		}
	}
	return e
}

// replace replaces the authority of a rack of one, without node n1 that nobody runs.
func replace(t *testing.T, m *member) {
	t.Helper()
	rack := admin(t, m, []*member{m})
	fingerprint, _ := signs(m)
	if _, err := rack.RotateAuthority(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, known := m.store.View().Node("n1"); known {
		if _, err := rack.RotateAuthority(t.Context(), "node/n1"); err != nil {
			t.Fatal(err)
		}
	}
	rotated(t, []*member{m}, fingerprint)
}

// TestRogues knocks at every door with every certificate that must not open it. The last knock is of
// whom the door is for: a door that nobody can open proves nothing.
func TestRogues(t *testing.T) {
	cfg := among(t, 1)
	cfg.Bootstrap, cfg.settle = true, settle
	m := start(t, cfg)
	<-m.Ready()
	for _, cmd := range []state.Command{
		state.RegisterNode{Node: api.Node{ID: "gone", Name: "gone", Capacity: api.Amount{CPU: 1, Memory: 1}}},
		state.SetNodeStatus{Node: "gone", Status: api.NodeDown, Reason: "test"}, state.RemoveNode{Node: "gone"},
		state.PutServer{Server: api.Server{ID: "gone", Raft: "192.0.2.1:1"}}, state.RemoveServer{ID: "gone"},
	} {
		if res, err := m.store.Propose(t.Context(), m.entry(cmd)); err != nil || res.Err != nil {
			t.Fatalf("%s: %v %v", cmd.Type(), err, res.Err)
		}
	}
	old, err := m.authority.active()
	if err != nil {
		t.Fatal(err)
	}
	named := func(role, id string) machine.Name {
		return machine.Name{Cluster: m.identity.Name().Cluster, Role: role, ID: id}
	}
	right := map[string]machine.Name{
		machine.RoleAgent: named(machine.RoleAgent, "n1"), machine.RoleServer: named(machine.RoleServer, m.identity.Name().ID),
	}
	before := map[string]early{}
	for role, name := range right {
		before[role] = connect(t, m, old, name)
	}
	replace(t, m)
	now, err := m.authority.active()
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range doors(t) {
		name := right[k.role]
		for _, r := range rogues(t, old, now, name) {
			if r.name == "the wrong role" && k.name == "renewal" {
				continue // it is for both
			}
			if err := k.try(t.Context(), m, dialAs(t, m, r.cert), r.id, r.cert); err == nil {
				t.Errorf("%s admits %s", k.name, r.name)
			}
		}
		if err := k.try(t.Context(), m, before[k.role].d, name.ID, before[k.role].cert); err == nil {
			t.Errorf("%s admits a connection that was made under an authority that was removed", k.name)
		}
		good := forge(t, now, name, time.Now(), time.Hour)
		if err := k.try(t.Context(), m, dialAs(t, m, good), name.ID, good); err != nil {
			t.Errorf("%s does not admit whom it is for: %v", k.name, err)
		}
	}
	raft := before[machine.RoleServer].raft
	if err := raft.SetReadDeadline(time.Now().Add(2 * recheckLinks)); err != nil {
		t.Fatal(err)
	}
	if _, err := raft.Read(make([]byte, 1)); err == nil || strings.Contains(err.Error(), "timeout") {
		t.Errorf("the Raft connection of before goes on: %v", err)
	}
}

// rogue is who knocks, and what for a certificate they show.
type rogue struct {
	name, id string
	cert     *tls.Certificate
}

// rogues are all who must not pass for a machine. The rack's authority is now, and was old.
func rogues(t *testing.T, old, now *auth.CA, name machine.Name) []rogue {
	t.Helper()
	foreign, err := auth.NewCA("test", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	elsewhere, gone, other := name, name, name
	elsewhere.Cluster, gone.ID, other.Role = "other", "gone", machine.RoleAgent
	if name.Role == machine.RoleAgent {
		other.Role = machine.RoleServer
	}
	return []rogue{
		{"no certificate", name.ID, nil},
		{"the wrong role", name.ID, forge(t, now, other, time.Now(), time.Hour)},
		{"another rack", name.ID, forge(t, now, elsewhere, time.Now(), time.Hour)},
		{"another authority", name.ID, forge(t, foreign, name, time.Now(), time.Hour)},
		{"a machine that was removed", gone.ID, forge(t, now, gone, time.Now(), time.Hour)},
		{"an authority that was removed", name.ID, forge(t, old, name, time.Now(), time.Hour)},
		{"an expired certificate", name.ID, forge(t, now, name, time.Now().Add(-2*time.Hour), time.Hour)},
		{"a certificate of an app", name.ID, appCert(t, now)},
	}
}

// TestRogueGossip: who lacks the key of the servers is not heard; who has it is.
func TestRogueGossip(t *testing.T) {
	cfg := among(t, 1)
	cfg.Bootstrap = true
	m := start(t, cfg)
	<-m.Ready()
	key, err := hex.DecodeString(m.keyring.Digest([]byte("gossip")))
	if err != nil {
		t.Fatal(err)
	}
	tell := func(id string, key []byte) {
		g, err := gossip.Open(gossip.Config{
			ID: id, Addr: freeAddr(t), Key: key, Log: cfg.Log, About: func() []byte { return []byte("{}") }, Others: func() []string { return []string{cfg.GossipAddr} },
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- g.Run(ctx) }()
		t.Cleanup(func() {
			cancel()
			<-ended
		})
	}
	tell("none", nil)
	tell("wrong", bytes.Repeat([]byte{1}, len(key)))
	tell("right", key)
	await(t, "the one with the key", func() (string, bool) {
		heard := m.gossip.Members()
		return fmt.Sprint(heard), slices.ContainsFunc(heard, func(g gossip.Member) bool { return g.ID == "right" })
	})
	for _, g := range m.gossip.Members() {
		if g.ID == "none" || g.ID == "wrong" {
			t.Errorf("%s is heard", g.ID)
		}
	}
}

// appCert is a certificate as routers have: of the rack, but of no machine.
func appCert(t *testing.T, ca *auth.CA) *tls.Certificate {
	t.Helper()
	cert, err := ca.Issue(time.Now(), "web.shop.rack.test")
	if err != nil {
		t.Fatal(err)
	}
	return &cert
}

// TestRogueTokens: a join token that was replaced, that is of before the authority was replaced, or of
// another role lets nobody in, whomever its holder takes for a server.
func TestRogueTokens(t *testing.T) {
	cfg := among(t, 1)
	cfg.Bootstrap, cfg.settle = true, settle
	m := start(t, cfg)
	<-m.Ready()
	rack := admin(t, m, []*member{m})
	join := func(token, id string) error {
		secret, _, err := machine.ParseJoinToken(token)
		if err != nil {
			return err
		}
		_, request, err := machine.NewRequest()
		if err == nil {
			_, err = pb.NewMachinesClient(dialAs(t, m, nil).grpc).Join(t.Context(), &pb.JoinRequest{Role: machine.RoleAgent, Id: id, Token: secret, Request: request})
		}
		return err
	}
	first := m.file(t, JoinAgentTokenFile)
	second, err := rack.RotateJoinToken(t.Context(), machine.RoleAgent)
	if err != nil {
		t.Fatal(err)
	}
	if err := join(second, "a1"); err != nil {
		t.Fatalf("the new token: %v", err)
	}
	replace(t, m)
	for name, c := range map[string]struct{ token, says string }{
		"replaced":                {first, "was replaced"},
		"of before the authority": {second, "of before the rack's authority was replaced"},
		"of servers":              {m.file(t, JoinServerTokenFile), "lets machines join with the role server"},
	} {
		if err := join(c.token, "a2"); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
	}
	third, err := rack.RotateJoinToken(t.Context(), machine.RoleAgent)
	if err != nil {
		t.Fatal(err)
	}
	if err := join(third, "a2"); err != nil {
		t.Errorf("a token of now: %v", err)
	}
}

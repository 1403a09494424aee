package agent

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"

	"slipway/agent/router"
	"slipway/api"
	"slipway/api/pb"
)

// signer is a server that signs certificates and does nothing else.
type signer struct {
	grpc.ClientConnInterface
	t      *testing.T
	life   time.Duration
	away   atomic.Bool
	hang   atomic.Bool
	signed atomic.Int64
}

// Invoke implements grpc.ClientConnInterface for IssueCertificate.
func (s *signer) Invoke(ctx context.Context, method string, args, reply any, _ ...grpc.CallOption) error {
	if !strings.HasSuffix(method, "/IssueCertificate") {
		return api.Errorf(api.CodeInternal, "unexpected call of %s", method)
	}
	if s.hang.Load() {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	if s.away.Load() {
		return api.Errorf(api.CodeUnavailable, "the server is away")
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	now := time.Now()
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(s.signed.Add(1)), DNSNames: args.(*pb.IssueCertificateRequest).Host, NotBefore: now, NotAfter: now.Add(s.life),
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		return err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	reply.(*pb.IssueCertificateReply).Pem = append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})...)
	return nil
}

// ingress runs the part of an agent that looks after its router.
func ingress(t *testing.T, dir string, server grpc.ClientConnInterface, in Ingress) (a *Agent, stop func()) {
	t.Helper()
	a, err := New(Config{Dir: dir, Node: api.Node{ID: "none"}, Server: server, Ingress: in, Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { a.publish(ctx) })
	wg.Go(func() { a.listen(ctx) })
	return a, sync.OnceFunc(func() {
		cancel()
		wg.Wait()
		a.store.close()
	})
}

// serveRouter runs a router until the returned function is called.
func serveRouter(t *testing.T, cfg router.Config) (r *router.Router, stop func()) {
	t.Helper()
	r, err := router.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	return r, sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func await(t *testing.T, what string, cond func() (bool, string)) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(2 * time.Millisecond) { // polls
		ok, seen := cond()
		if ok {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: still %s", what, seen)
		}
	}
}

// TestRouterOutlivesTheAgent: the agent gives the router its table and certificates and is
// stopped; a connection that was open stays open, over an agent's restart without servers; and a
// router that lost everything is given it again.
func TestRouterOutlivesTheAgent(t *testing.T) {
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") }))
	defer app.Close()
	dir := t.TempDir()
	cfg := router.Config{
		HTTPAddr: "127.0.0.1:0", HTTPSAddr: "127.0.0.1:0", ControlSocket: dir + "/socket", StateFile: dir + "/table", CertificateDir: dir + "/certs",
		ShutdownLimit: time.Second,
	}
	r, stopRouter := serveRouter(t, cfg)
	defer func() { stopRouter() }()
	server := &signer{t: t, life: time.Hour}
	client := router.Dial(cfg.ControlSocket)
	a, stop := ingress(t, dir, server, client)
	defer func() { stop() }()
	table := api.RouteTable{Version: 7, Routes: []api.Route{{
		Key: api.ServiceKey{App: "shop", Service: "web"}, Hosts: []string{"web.shop.test", "shop.test"}, Scheme: api.SchemeHTTP,
		Targets: []api.Target{{Process: "pone", Addr: app.Listener.Addr().String()}},
	}}}
	a.tables <- pb.Marshal(table)
	serves := func(version uint64) func() (bool, string) {
		return func() (bool, string) {
			st, err := client.Status(t.Context())
			a.mu.Lock()
			told := a.router != nil && a.router.Version == version
			a.mu.Unlock()
			return err == nil && st.Version == version && told, fmt.Sprintf("%+v %v, told: %v", st, err, told)
		}
	}
	await(t, "the first table", serves(7))
	conn, err := tls.Dial("tcp", r.HTTPSAddr(), &tls.Config{InsecureSkipVerify: true, ServerName: "shop.test"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if names := conn.ConnectionState().PeerCertificates[0].DNSNames; strings.Join(names, " ") != "shop.test web.shop.test" {
		t.Errorf("the certificate is for %q", names)
	}
	br := bufio.NewReader(conn)
	get := func(when string) {
		t.Helper()
		conn.SetDeadline(time.Now().Add(20 * time.Second))
		fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n")
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		if b, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != 200 || string(b) != "hello" {
			t.Errorf("%s: %s %q %v", when, resp.Status, b, err)
		}
	}
	get("with an agent")
	await(t, "the table in the agent's store", func() (bool, string) {
		doc, err := a.store.routes()
		return len(doc) > 0, fmt.Sprint(err)
	})
	stop()
	get("without an agent")
	server.away.Store(true)
	a, stop = ingress(t, dir, server, client)
	await(t, "the next agent", serves(7))
	get("with the next agent, without servers")

	// The router comes back with an empty directory.
	stopRouter()
	for _, path := range []string{cfg.StateFile, cfg.CertificateDir} {
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
	}
	r, stopRouter = serveRouter(t, cfg)
	await(t, "the lost table", serves(7))
	table.Version = 8
	server.away.Store(false)
	a.tables <- pb.Marshal(table)
	await(t, "a new table", serves(8))
	again, err := net.Dial("tcp", r.HTTPSAddr())
	if err != nil {
		t.Fatal(err)
	}
	conn, br = tls.Client(again, &tls.Config{InsecureSkipVerify: true, ServerName: "web.shop.test"}), nil
	defer conn.Close()
	if err := conn.Handshake(); err != nil {
		t.Errorf("the certificate did not come back: %v", err)
	}
}

// desk is a router that takes everything at once.
type desk struct {
	mu     sync.Mutex
	served api.RouterStatus
	certs  int
}

func (d *desk) Apply(_ context.Context, t api.RouteTable) (api.RouterStatus, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.served.Version = t.Version
	return d.served, nil
}
func (d *desk) Status(context.Context) (api.RouterStatus, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.served, nil
}
func (d *desk) Watch(ctx context.Context, _ func(api.RouterStatus)) error { <-ctx.Done(); return nil }
func (d *desk) SetCertificate(context.Context, string, []byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.certs++
	return nil
}

// TestCertificatesStayFresh: they are renewed before they end, asked for again when servers were
// away, and no table waits long for them.
func TestCertificatesStayFresh(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		d, server := &desk{}, &signer{t: t, life: 90 * 24 * time.Hour}
		a, stop := ingress(t, filepath.Clean(dir), server, d)
		defer stop()
		table := func(version uint64, hosts ...string) {
			a.tables <- pb.Marshal(api.RouteTable{Version: version, Routes: []api.Route{{Key: api.ServiceKey{App: "shop", Service: "web"}, Hosts: hosts}}})
		}
		expect := func(when string, version uint64, certs int) {
			t.Helper()
			synctest.Wait()
			d.mu.Lock()
			defer d.mu.Unlock()
			if d.served.Version != version || d.certs != certs {
				t.Errorf("%s: table %d and %d certificates, want %d and %d", when, d.served.Version, d.certs, version, certs)
			}
		}
		table(1, "shop.test")
		expect("a new app", 1, 1)
		table(2, "shop.test")
		expect("the same hosts", 2, 1)
		time.Sleep(61 * 24 * time.Hour) // virtual
		expect("two thirds of its life later", 2, 2)
		server.away.Store(true)
		table(3, "shop.test", "www.test")
		expect("a new host, no server", 3, 2)
		server.away.Store(false)
		time.Sleep(2 * certifyRetry) // virtual
		expect("the server is back", 3, 3)
		server.hang.Store(true)
		table(4, "shop.test", "other.test")
		time.Sleep(certifyMax) // virtual
		expect("the server is silent", 4, 3)
	})
}

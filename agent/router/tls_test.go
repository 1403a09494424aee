package router

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"slipway/api"
	"slipway/durable"
)

// certificate makes a certificate for the names, with its key, as PEM.
func certificate(t *testing.T, serial int64, names ...string) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(serial), DNSNames: names,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Duration(serial) * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	b, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	out := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return append(out, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: b})...)
}

// newTLSRig is a rig that serves HTTPS with a default certificate.
func newTLSRig(t *testing.T, edit ...func(*Config)) *rig {
	g := newRig(t, append(edit, func(c *Config) {
		c.HTTPSAddr = "127.0.0.1:0"
		c.CertificateDir = filepath.Join(t.TempDir(), "certs")
	})...)
	if err := g.client.SetCertificate(t.Context(), "default", certificate(t, 1, "*.test")); err != nil {
		t.Fatal(err)
	}
	return g
}

// secure is a client that connects to the router under a TLS name.
func (g *rig) secure(name string, protocols ...string) *http.Client {
	tr := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", g.router.HTTPSAddr())
		},
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true, ServerName: name, NextProtos: protocols},
		ForceAttemptHTTP2: len(protocols) == 0,
	}
	g.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: deadline}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	g := newTLSRig(t)
	app, other := lead(backend(t, mirror)), lead(backend(t, mirror))
	app.Redirect = true
	other.Key.App, other.Hosts = "other", []string{"other.test"}
	g.apply(app, other)

	resp, _ := g.do("POST", "/path?q=1", strings.NewReader("x"))
	_, port, _ := net.SplitHostPort(g.router.HTTPSAddr())
	if want := "https://app.test:" + port + "/path?q=1"; resp.StatusCode != 308 || resp.Header.Get("Location") != want {
		t.Errorf("plain HTTP: %s to %q, want 308 to %q", resp.Status, resp.Header.Get("Location"), want)
	}
	for _, protocols := range [][]string{nil, {"http/1.1"}} {
		c := g.secure("app.test", protocols...)
		resp, err := c.Post("https://app.test/", "text/plain", io.MultiReader(strings.NewReader("streamed")))
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if want := 2 - len(protocols); resp.ProtoMajor != want || !strings.Contains(string(b), `"X-Forwarded-Proto":["https"]`) ||
			!strings.Contains(string(b), `"Body":"streamed"`) || !strings.Contains(string(b), `"X-Forwarded-Port":["443"]`) {
			t.Errorf("%s: %s", resp.Proto, b)
		}
		if resp, err = c.Get("https://other.test/"); err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 421 {
			t.Errorf("another app's host on the connection: %s, want 421", resp.Status)
		}
	}
}

func TestCertificates(t *testing.T) {
	t.Parallel()
	g := newTLSRig(t)
	serial := func(name string) int64 {
		t.Helper()
		c, err := tls.Dial("tcp", g.router.HTTPSAddr(), &tls.Config{InsecureSkipVerify: true, ServerName: name})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
	}
	set := func(name string, b []byte) error { return g.client.SetCertificate(t.Context(), name, b) }
	if err := set("app.test", certificate(t, 2, "app.test")); err != nil {
		t.Fatal(err)
	}
	if err := set("*.wild.test", certificate(t, 3, "*.wild.test")); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]int64{"app.test": 2, "x.wild.test": 3, "x.test": 1, "elsewhere.example": 1, "": 1} {
		if got := serial(name); got != want {
			t.Errorf("%q: certificate %d, want %d", name, got, want)
		}
	}
	for name, b := range map[string][]byte{"app.test": []byte("nonsense"), "../evil": certificate(t, 9, "x"), "": nil} {
		if err := set(name, b); err == nil {
			t.Errorf("certificate %q was taken", name)
		}
	}
	// A file that somebody else changes is seen as well; a broken one changes nothing.
	path := filepath.Join(g.cfg.CertificateDir, "app.test.pem")
	if err := durable.WriteFile(path, certificate(t, 4, "app.test")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "renewed", func() (bool, string) { n := serial("app.test"); return n == 4, fmt.Sprint(n) })
	if err := durable.WriteFile(path, []byte("broken")); err != nil {
		t.Fatal(err)
	}
	g.router.certs.reload(g.router.logger)
	if got := serial("app.test"); got != 4 {
		t.Errorf("after a broken file: certificate %d", got)
	}
	if err := g.client.RemoveCertificate(t.Context(), "app.test"); err != nil {
		t.Fatal(err)
	}
	if got := serial("app.test"); got != 1 {
		t.Errorf("after its removal: certificate %d", got)
	}
}

// TestTLSTarget leads to a process that speaks TLS with a certificate of its own.
func TestTLSTarget(t *testing.T) {
	t.Parallel()
	s := httptest.NewTLSServer(http.HandlerFunc(mirror))
	t.Cleanup(s.Close)
	g := newRig(t)
	rt := lead(s.Listener.Addr().String())
	rt.Scheme = api.SchemeHTTPS
	g.apply(rt)
	for range 3 {
		if resp, body := g.do("PUT", "/", strings.NewReader("hi")); resp.StatusCode != 200 || !strings.Contains(body, `"hi"`) {
			t.Errorf("%s %s", resp.Status, body)
		}
	}
}

func TestGRPC(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server, state := grpc.NewServer(), health.NewServer()
	grpc_health_v1.RegisterHealthServer(server, state)
	go server.Serve(l)
	t.Cleanup(server.Stop)
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead.Close()
	g := newTLSRig(t)
	rt := lead(dead.Addr().String(), l.Addr().String())
	rt.Scheme = api.SchemeGRPC
	g.apply(rt)
	cc, err := grpc.NewClient("passthrough:///"+g.router.HTTPSAddr(), grpc.WithAuthority("app.test"),
		grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{InsecureSkipVerify: true, ServerName: "app.test"})))
	if err != nil {
		t.Fatal(err)
	}
	defer cc.Close()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	client := grpc_health_v1.NewHealthClient(cc)
	for range 20 {
		var trailer metadata.MD
		if r, err := client.Check(ctx, &grpc_health_v1.HealthCheckRequest{}, grpc.Trailer(&trailer)); err != nil || r.Status != 1 {
			t.Fatalf("unary: %v %v", r, err)
		}
	}
	plain, err := grpc.NewClient("passthrough:///"+g.router.HTTPAddr(), grpc.WithAuthority("app.test"),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	if r, err := grpc_health_v1.NewHealthClient(plain).Check(ctx, &grpc_health_v1.HealthCheckRequest{}); err != nil || r.Status != 1 {
		t.Errorf("without TLS: %v %v", r, err)
	}
	if _, err := client.Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: "none"}); status.Code(err) != codes.NotFound {
		t.Errorf("error trailer: %v", err)
	}
	watch, err := client.Watch(ctx, &grpc_health_v1.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []grpc_health_v1.HealthCheckResponse_ServingStatus{1, 2, 1} {
		if want == 2 {
			state.SetServingStatus("", want)
		}
		r, err := watch.Recv()
		if err != nil || r.Status != want {
			t.Fatalf("stream: %v %v, want %v", r, err, want)
		}
		if want == 2 {
			state.SetServingStatus("", 1)
		}
	}
	if st := g.apply(lead()); len(st.Draining) != 1 || st.Draining[0].InFlight != 1 {
		t.Errorf("draining %+v, want the open stream", st.Draining)
	}
	b, err := g.client.Metrics(ctx)
	if err != nil || !strings.Contains(string(b), `slipway_router_in_flight{app="app",service="web"}`) {
		t.Errorf("metrics: %v %s", err, b)
	}
	cancel()
	eventually(t, "drained", func() (bool, string) {
		st, err := g.client.Status(t.Context())
		return err == nil && len(st.Draining) == 0, fmt.Sprintf("%+v %v", st, err)
	})
}

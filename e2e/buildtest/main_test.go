package buildtest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"slipway/agent/build"
	"slipway/api"
	"slipway/e2e/images"
	"slipway/server/registry"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "builder" {
		if err := build.ChildMain(context.Background(), os.Stdin); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if len(os.Args) > 1 && os.Args[1] == "victim" {
		victim(os.Stdin)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

const (
	user     = "node"
	password = "secret"
)

// rack is a registry with TLS and rights, holding library/busybox.
type rack struct {
	*registry.Registry
	target images.Target
	ca     []byte
	root   string
	serves *atomic.Pointer[registry.Registry]
}

// switchTo makes another registry answer in place of the rack's.
func (r *rack) switchTo(other *registry.Registry) { r.serves.Store(other) }

// newRegistry returns a registry that lets one user in.
func newRegistry(t *testing.T, root string) *registry.Registry {
	t.Helper()
	reg, err := registry.New(registry.Config{
		Root: root, HTTPSecret: "s", Grace: -1, FreeMin: 1, Logger: slog.New(slog.DiscardHandler),
		Authorize: func(u, p, _, _ string) error {
			if u != user || p != password {
				return errors.New("wrong name or password")
			}
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return reg
}

func newRack(t *testing.T) *rack {
	t.Helper()
	root := t.TempDir()
	reg := newRegistry(t, root)
	cert, ca := certificate(t)
	mux := http.NewServeMux()
	serves := &atomic.Pointer[registry.Registry]{}
	serves.Store(reg)
	mux.HandleFunc("/v2/", func(w http.ResponseWriter, req *http.Request) { serves.Load().ServeHTTP(w, req) })
	server := httptest.NewUnstartedServer(mux)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	server.StartTLS()
	t.Cleanup(server.Close)

	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	r := &rack{Registry: reg, ca: ca, root: root, serves: serves, target: images.Target{
		Addr: server.Listener.Addr().String(), CA: pool, ServerName: api.RackHost, User: user, Password: password}}
	busybox, err := images.Busybox()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := images.Push(t.Context(), r.target, "library/busybox:latest", busybox); err != nil {
		t.Fatal(err)
	}
	return r
}

// certificate makes one for api.RackHost alone, signed by itself.
func certificate(t *testing.T) (tls.Certificate, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{api.RackHost}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func (r *rack) config(root, cgroup string) build.Config {
	return build.Config{
		Root: root, Cgroup: cgroup, Memory: 256 * api.MiB,
		Registry: build.Registry{Addr: r.target.Addr, ServerName: api.RackHost, CA: r.ca, User: user, Password: password},
	}
}

// newBuilder runs a builder until the test ends.
func newBuilder(t *testing.T, r *rack, changes ...func(*build.Config)) *build.Builder {
	t.Helper()
	if testing.Short() || os.Getuid() != 0 {
		t.Skip("needs root and takes seconds")
	}
	config := r.config(buildRoot(t), cgroupName(t))
	for _, change := range changes {
		change(&config)
	}
	b, err := build.New(config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	return b
}

// buildRoot is t.TempDir with a path short enough for a socket.
func buildRoot(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "slipbuild")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("builder left something: %v", err)
		}
	})
	return dir
}

func cgroupName(t *testing.T) string {
	return fmt.Sprintf("slipbuild-%d-%s", os.Getpid(), strings.ToLower(strings.ReplaceAll(t.Name(), "/", "-")))
}

// source is a set of files by name, those that begin with "->" are links; its archive is
// gzip-compressed tar.
type source map[string]string

func (s source) archive() []byte {
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	w := tar.NewWriter(z)
	for _, name := range slices.Sorted(func(yield func(string) bool) {
		for n := range s {
			if !yield(n) {
				return
			}
		}
	}) {
		h, text := &tar.Header{Name: name, Mode: 0o644, ModTime: time.Unix(1e9, 0)}, s[name]
		if to, ok := strings.CutPrefix(text, "->"); ok {
			h.Typeflag, h.Linkname, text = tar.TypeSymlink, to, ""
		}
		h.Size = int64(len(text))
		if err := errors.Join(w.WriteHeader(h), second(io.WriteString(w, text))); err != nil {
			panic(err)
		}
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		panic(err)
	}
	return buf.Bytes()
}

func second[T any](_ T, err error) error { return err }

// output collects the lines of a build.
type output struct {
	mu sync.Mutex

	lines []string
}

func (o *output) log(_, text string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.lines = append(o.lines, text)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return strings.Join(o.lines, "\n")
}

// job is a build of one app named after nothing, with one service "web".
func job(s source, services ...api.ServiceSpec) (build.Job, *output) {
	if len(services) == 0 {
		services = []api.ServiceSpec{{Name: "web", Build: &api.BuildSpec{Path: ".", Dockerfile: "Dockerfile"}}}
	}
	out := &output{}
	return build.Job{
		App:   "hello",
		Build: api.BuildAssignment{ID: "BTESTTESTTE", Source: "sha256:x", Services: services},
		Fetch: func(context.Context, string) (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(s.archive())), nil
		},
		Log: out.log,
	}, out
}

// serveSecret serves one word on the machine's loopback.
func serveSecret(t *testing.T) (port string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "host-secret") }), ReadHeaderTimeout: time.Second}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }()
	t.Cleanup(func() { server.Close(); <-done })
	_, port, err = net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

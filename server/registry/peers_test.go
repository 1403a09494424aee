package registry

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
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
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"slipway/api"
)

// member is one server of a cluster under test.
type member struct {
	*rack
	id     string
	server *httptest.Server
	// fault handles a request of a peer instead of the registry, if it returns true.
	fault atomic.Pointer[func(http.ResponseWriter, *http.Request) bool]
	// asked counts the requests of peers by method and kind, as "GET blobs".
	mu    sync.Mutex
	asked map[string]int
}

// cluster is some registries that know one another by mutual TLS.
type cluster struct {
	members []*member
	client  *http.Client // a peer's: it has a certificate
	user    *http.Client // anybody's
}

// newCluster starts n registries.
func newCluster(t testing.TB, n int, change func(*Config)) *cluster {
	t.Helper()
	ca := newTestCA(t)
	tlsClient := func(certs ...tls.Certificate) *http.Client {
		tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.pool, Certificates: certs}, ForceAttemptHTTP2: true}
		t.Cleanup(tr.CloseIdleConnections)
		return &http.Client{Transport: tr}
	}
	cert := ca.issue(t)
	c := &cluster{client: tlsClient(cert), user: tlsClient()}
	for i := range n {
		c.members = append(c.members, &member{id: fmt.Sprintf("s%d", i), asked: map[string]int{}})
	}
	for _, m := range c.members {
		m.rack = newRack(t, func(config *Config) {
			config.ID, config.Client, config.PeerIdle = m.id, c.client, 20*time.Second
			config.Peers = func() (out []Peer) {
				for _, other := range c.members {
					if other != m {
						out = append(out, Peer{other.id, other.host})
					}
				}
				return out
			}
			if change != nil {
				change(config)
			}
		})
		mux := http.NewServeMux()
		mux.Handle("/v2/", m.rack.Registry)
		peers := m.PeerHandler(func(req *http.Request) error {
			if len(req.TLS.VerifiedChains) == 0 {
				return errors.New("not a server of the rack")
			}
			return nil
		})
		mux.HandleFunc(PeerPath, func(w http.ResponseWriter, req *http.Request) {
			m.count(req)
			if f := m.fault.Load(); f != nil && (*f)(w, req) {
				return
			}
			peers.ServeHTTP(w, req)
		})
		m.server = httptest.NewUnstartedServer(mux)
		m.server.EnableHTTP2 = true
		m.server.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: ca.pool}
		m.server.Config.ErrorLog = nil
		m.server.StartTLS()
		t.Cleanup(m.server.Close)
		m.host = m.server.Listener.Addr().String()
	}
	return c
}

func (m *member) count(req *http.Request) {
	if p := peerPath.FindStringSubmatch(req.URL.Path); p != nil {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.asked[req.Method+" "+p[2]]++
	}
}

func (m *member) askedFor(what string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.asked[what]
}

func (m *member) breakWith(f func(http.ResponseWriter, *http.Request) bool) { m.fault.Store(&f) }

// kill makes a server unreachable.
func (m *member) kill() {
	m.server.Listener.Close()
	m.server.CloseClientConnections()
}

// testCA signs the certificate that all servers share.
type testCA struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	pool *x509.CertPool
}

func newTestCA(t testing.TB) *testCA {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca := &testCA{key: key, pool: x509.NewCertPool()}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err == nil {
		ca.cert, err = x509.ParseCertificate(der)
	}
	if err != nil {
		t.Fatal(err)
	}
	ca.pool.AddCert(ca.cert)
	return ca
}

func (ca *testCA) issue(t testing.TB) tls.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "server"}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, &ca.key.PublicKey, ca.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: ca.key}
}

// push stores an image on one member as a client would.
func (c *cluster) push(t testing.TB, m *member, ref string, img v1.Image) string {
	t.Helper()
	if err := remote.Write(c.ref(t, m, ref), img, as("admin"), remote.WithTransport(c.user.Transport)); err != nil {
		t.Fatalf("push %s to %s: %v", ref, m.id, err)
	}
	return digestOf(t, img)
}

func (c *cluster) ref(t testing.TB, m *member, s string) name.Reference {
	t.Helper()
	ref, err := name.ParseReference(m.host + "/" + s)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

// pull reads an image from one member, and with it every byte; the client verifies the digests.
func (c *cluster) pull(t testing.TB, m *member, ref string) error {
	t.Helper()
	img, err := remote.Image(c.ref(t, m, ref), as("admin"), remote.WithTransport(c.user.Transport), remote.WithContext(t.Context()),
		remote.WithRetryBackoff(remote.Backoff{Steps: 1}))
	if err != nil {
		return err
	}
	return readAll(img)
}

func readAll(img v1.Image) error {
	if _, err := img.RawConfigFile(); err != nil {
		return err
	}
	layers, err := img.Layers()
	if err != nil {
		return err
	}
	for _, l := range layers {
		rc, err := l.Compressed()
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, rc)
		rc.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// get sends one request for a blob as admin.
func (c *cluster) get(ctx context.Context, m *member, method, path, byteRange string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "https://"+m.host+path, http.NoBody)
	if err != nil {
		return nil, err
	}
	req.SetBasicAuth("admin", "p")
	if byteRange != "" {
		req.Header.Set("Range", byteRange)
	}
	return c.user.Do(req)
}

// await waits for a condition.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("after 20 s: %s", what)
		}
		time.Sleep(2 * time.Millisecond) // between two looks
	}
}

// leftovers lists what a finished transfer should not leave.
func leftovers(t *testing.T, m *member) (out []string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(m.root, fetchDir))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return append(out, dangling(t, m.root)...)
}

// bigImage has one layer of size bytes.
func bigImage(t testing.TB, size int64) v1.Image {
	t.Helper()
	img, err := random.Image(size, 1)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func layerPath(t testing.TB, img v1.Image) (path, hex string) {
	t.Helper()
	d := digestOf(t, first(t, img))
	return "/v2/hello/blobs/" + d, strings.TrimPrefix(d, "sha256:")
}

// TestAnyServerServesAnyImage is the story: an image taken in by one server is served by all,
// and stays when that one has gone.
func TestAnyServerServesAnyImage(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, nil)
	a, b, d := c.members[0], c.members[1], c.members[2]
	digest := c.push(t, a, "hello:v1", randomImage(t, 3))

	for _, ref := range []string{"hello@" + digest, "hello:v1"} {
		if err := c.pull(t, b, ref); err != nil {
			t.Fatalf("%s from the second server: %v", ref, err)
		}
	}
	if b.Holds("hello", digest) || !a.Holds("hello", digest) {
		t.Error("a manifest came without being asked to stay")
	}
	if err := b.Replicate(t.Context(), "hello", digest); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(d.Holders(t.Context(), "hello", digest)); got != "[s0 s1]" {
		t.Errorf("it is held by %s", got)
	}
	a.kill()
	if err := c.pull(t, d, "hello@"+digest); err != nil {
		t.Errorf("from the third server, after the first has gone: %v", err)
	}
	for _, m := range []*member{b, d} {
		if left := leftovers(t, m); len(left) > 0 {
			t.Errorf("%s: left %q", m.id, left)
		}
	}
}

func TestPeersAreNotAskedOnBehalfOfStrangers(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2, nil)
	a, b := c.members[0], c.members[1]
	img := randomImage(t, 1)
	digest := c.push(t, a, "hello:v1", img)
	c.push(t, a, "other:v1", randomImage(t, 1))
	layer, _ := layerPath(t, img)
	before := a.askedFor("GET blobs") + a.askedFor("GET manifests") + a.askedFor("HEAD blobs")
	for path, want := range map[string]map[string]int{
		layer:                           {"": 401, "pull@other": 401},
		"/v2/hello/manifests/" + digest: {"": 401, "pull@other": 401},
	} {
		for user, status := range want {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+b.host+path, http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			if user != "" {
				req.SetBasicAuth(user, "p")
			}
			resp, err := c.user.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != status {
				t.Errorf("%q %s: %d, want %d", user, path, resp.StatusCode, status)
			}
		}
	}
	if n := a.askedFor("GET blobs") + a.askedFor("GET manifests") + a.askedFor("HEAD blobs"); n != before {
		t.Errorf("%d requests reached the peer", n-before)
	}
	// A digest leads nowhere through a repository that does not hold it, on no server.
	if err := c.pull(t, b, "hello@"+digest); err != nil {
		t.Fatal(err)
	}
	resp, err := c.get(t.Context(), b, "GET", strings.Replace(layer, "hello", "other", 1), "")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusNotFound {
		t.Errorf("a blob of another repository: %s", resp.Status)
	}
	for _, path := range []string{PeerPath, peerBlob("hello", strings.Repeat("a", 64)), peerWhole("hello", digest)} {
		resp, err := c.get(t.Context(), a, "GET", path, "")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusForbidden {
			t.Errorf("%s without a server's certificate: %s", path, resp.Status)
		}
	}
}

// TestNoLoops asks for what nobody has: each peer is asked once.
func TestNoLoops(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, nil)
	hex := strings.Repeat("a", 64)
	resp, err := c.get(t.Context(), c.members[0], "GET", "/v2/hello/blobs/sha256:"+hex, "")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusNotFound {
		t.Errorf("%s", resp.Status)
	}
	err = c.members[0].Replicate(t.Context(), "hello", "sha256:"+hex)
	if api.CodeOf(err) != api.CodeNotFound {
		t.Errorf("replicate: %v", err)
	}
	for i, want := range []int{0, 1, 1} {
		m := c.members[i]
		if got := m.askedFor("GET blobs"); got != want {
			t.Errorf("%s was asked for the blob %d times, want %d", m.id, got, want)
		}
		if got := m.askedFor("GET manifests"); got != want {
			t.Errorf("%s was asked for the manifest %d times, want %d", m.id, got, want)
		}
	}
}

package objects_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"slipway/api"
	"slipway/server/objects"
	"slipway/server/registry"
)

// member is one server under test. Its peers are asked by the registry's client, as in a rack.
type member struct {
	*objects.Store
	dir    string
	server *httptest.Server
	// fault handles a request instead of the store, if it returns true.
	fault atomic.Pointer[func(http.ResponseWriter, *http.Request) bool]
	gets  atomic.Int64
}

func newMembers(t *testing.T, n int) []*member {
	t.Helper()
	var members []*member
	for range n {
		m := &member{dir: t.TempDir()}
		var err error
		if m.Store, err = objects.Open(m.dir); err != nil {
			t.Fatal(err)
		}
		handler := m.Handler(func(req *http.Request) error {
			if req.Header.Get("Stranger") != "" {
				return errors.New("not a server of the rack")
			}
			return nil
		})
		m.server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			if req.Method == http.MethodGet {
				m.gets.Add(1)
			}
			if f := m.fault.Load(); f != nil && (*f)(w, req) {
				return
			}
			handler.ServeHTTP(w, req)
		}))
		t.Cleanup(m.server.Close)
		members = append(members, m)
	}
	for _, m := range members {
		r, err := registry.New(registry.Config{
			Root: t.TempDir(), HTTPSecret: "s", Authorize: func(_, _, _, _ string) error { return nil },
			Client: m.server.Client(), PeerIdle: time.Second, // all share one certificate
			Peers: func() (out []registry.Peer) {
				for i, other := range members {
					if other != m {
						out = append(out, registry.Peer{ID: fmt.Sprintf("s%d", i), Addr: other.server.Listener.Addr().String()})
					}
				}
				return out
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		m.Connect(r.Peers())
	}
	return members
}

func put(t *testing.T, m *member, size int) (digest string, content []byte) {
	t.Helper()
	content = make([]byte, size)
	_, _ = rand.Read(content)
	digest, _, err := m.Put(t.Context(), bytes.NewReader(content), api.GiB)
	if err != nil {
		t.Fatal(err)
	}
	return digest, content
}

func check(t *testing.T, m *member, digest string, want []byte) {
	t.Helper()
	f, err := m.Open(digest)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if got, err := io.ReadAll(f); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes, want %d that are equal; %v", len(got), len(want), err)
	}
	if left, err := os.ReadDir(filepath.Join(m.dir, "tmp")); err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
}

func TestAnyServerHasAnySource(t *testing.T) {
	t.Parallel()
	m := newMembers(t, 3)
	digest, content := put(t, m[0], 1<<20)
	if got := fmt.Sprint(m[0].Holders(t.Context(), digest)); got != "[]" {
		t.Errorf("held by %s", got)
	}
	if got := fmt.Sprint(m[0].Spread(t.Context(), digest)); got != "[s1 s2]" {
		t.Errorf("spread to %s", got)
	}
	if got := fmt.Sprint(m[0].Holders(t.Context(), digest)); got != "[s1 s2]" {
		t.Errorf("held by %s", got)
	}
	m[0].server.Close()
	check(t, m[2], digest, content)
	if err := m[2].Delete(digest); err != nil {
		t.Fatal(err)
	}
	if got := m[2].Missing([]string{digest, "x"}); len(got) != 2 {
		t.Errorf("missing %q", got)
	}
	if err := m[2].Fetch(t.Context(), digest); err != nil {
		t.Fatal(err)
	}
	check(t, m[2], digest, content)
}

func TestFetchRefuses(t *testing.T) {
	t.Parallel()
	m := newMembers(t, 2)
	unknown := "sha256:" + strings.Repeat("a", 64)
	if err := m[0].Fetch(t.Context(), unknown); api.CodeOf(err) != api.CodeNotFound {
		t.Errorf("unknown: %v", err)
	}
	if err := m[0].Fetch(t.Context(), "../x"); api.CodeOf(err) != api.CodeInvalid {
		t.Errorf("bad digest: %v", err)
	}
	if m[0].gets.Load() != 0 {
		t.Error("a request came back to the server that sent it")
	}
	m[1].server.Close()
	if err := m[0].Fetch(t.Context(), unknown); api.CodeOf(err) != api.CodeUnavailable {
		t.Errorf("no peer answers: %v", err)
	}
	alone, err := objects.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := alone.Fetch(t.Context(), unknown); api.CodeOf(err) != api.CodeNotFound {
		t.Errorf("without peers: %v", err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, m[0].server.URL+objects.PeerPath+unknown, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Stranger", "yes")
	resp, err := m[0].server.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusForbidden {
		t.Errorf("a stranger: %s", resp.Status)
	}
}

// TestFetchSurvivesPeers: one dies in the middle, one lies.
func TestFetchSurvivesPeers(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]func(w http.ResponseWriter, req *http.Request, content []byte){
		"dies": func(w http.ResponseWriter, _ *http.Request, content []byte) {
			w.Header().Set("Content-Length", fmt.Sprint(len(content)))
			_, _ = w.Write(content[:len(content)/2])
			panic(http.ErrAbortHandler)
		},
		"lies": func(w http.ResponseWriter, req *http.Request, content []byte) {
			lie := bytes.Clone(content)
			lie[0] ^= 1
			http.ServeContent(w, req, "", time.Time{}, bytes.NewReader(lie))
		},
		"is short": func(w http.ResponseWriter, _ *http.Request, content []byte) { _, _ = w.Write(content[:10]) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMembers(t, 3)
			digest, content := put(t, m[0], 1<<20)
			if err := m[1].Fetch(t.Context(), digest); err != nil {
				t.Fatal(err)
			}
			bad := func(w http.ResponseWriter, req *http.Request) bool {
				if req.Method != http.MethodGet {
					return false
				}
				fault(w, req, content)
				return true
			}
			m[0].fault.Store(&bad)
			for range 4 { // the order of the peers is by chance
				if err := errors.Join(m[2].Delete(digest), m[2].Fetch(t.Context(), digest)); err != nil {
					t.Fatal(err)
				}
				check(t, m[2], digest, content)
			}
			m[1].server.Close()
			if err := errors.Join(m[2].Delete(digest), m[2].Fetch(t.Context(), digest)); err == nil || m[2].Holds(digest) {
				t.Errorf("from a bad peer alone: %v", err)
			}
		})
	}
}

func TestFetchesShareOneTransfer(t *testing.T) {
	t.Parallel()
	m := newMembers(t, 2)
	digest, content := put(t, m[0], 1<<20)
	release := make(chan struct{})
	slow := func(http.ResponseWriter, *http.Request) bool { <-release; return false }
	m[0].fault.Store(&slow)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			if i == 0 { // whoever leaves does not end it for the others
				if err := m[1].Fetch(ctx, digest); err != nil && !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
				return
			}
			if err := m[1].Fetch(t.Context(), digest); err != nil {
				t.Error(err)
			}
		})
	}
	cancel()
	close(release)
	wg.Wait()
	check(t, m[1], digest, content)
	if n := m[0].gets.Load(); n > 2 {
		t.Errorf("%d transfers", n)
	}
}

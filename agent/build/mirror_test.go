package build

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	memory "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"slipway/api"
)

// to sends every request to one handler, whatever its host, and keeps the requests.
type to struct {
	handler http.Handler

	mu   sync.Mutex
	seen []*http.Request
}

func (s *to) RoundTrip(req *http.Request) (*http.Response, error) {
	s.mu.Lock()
	s.seen = append(s.seen, req)
	s.mu.Unlock()
	w := httptest.NewRecorder()
	body := req.Body
	if body == nil {
		body = http.NoBody
	}
	inner := req.Clone(req.Context())
	inner.Body, inner.RequestURI = body, req.URL.RequestURI()
	s.handler.ServeHTTP(w, inner)
	if err := req.Context().Err(); err != nil {
		return nil, err
	}
	resp := w.Result()
	resp.Request = req
	return resp, nil
}

func registryInMemory() *to {
	return &to{handler: memory.New(memory.Logger(log.New(io.Discard, "", 0)))}
}

// upstream holds docker.io/library/redis:7.
func upstream(t *testing.T) (*to, v1.Image) {
	t.Helper()
	img, err := random.Image(3000, 2)
	if err != nil {
		t.Fatal(err)
	}
	u := registryInMemory()
	u.push(t, "index.docker.io/library/redis:7", img)
	return u, img
}

func (s *to) push(t *testing.T, ref string, img v1.Image) {
	t.Helper()
	r, err := name.ParseReference(ref)
	if err == nil {
		err = remote.Write(r, img, remote.WithTransport(s))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// tags lists what the app's repository has.
func (s *to) tags(t *testing.T) []string {
	t.Helper()
	repo, err := name.NewRepository(api.RackHost + "/hello")
	if err != nil {
		t.Fatal(err)
	}
	tags, _ := remote.List(repo, remote.WithTransport(s)) // an error means none
	return tags
}

// change alters the answers of a registry to requests whose path holds a text.
func change(next http.Handler, path string, answer func(w http.ResponseWriter, req *http.Request, body []byte)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Method != http.MethodGet || !strings.Contains(req.URL.Path, path) {
			next.ServeHTTP(w, req)
			return
		}
		rec := httptest.NewRecorder()
		next.ServeHTTP(rec, req)
		for k, v := range rec.Header() {
			w.Header()[k] = v
		}
		answer(w, req, rec.Body.Bytes())
	})
}

func TestMirrorCopiesByDigest(t *testing.T) {
	t.Parallel()
	up, img := upstream(t)
	rack := registryInMemory()
	want, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	// The tag names another image from its second use on.
	other, err := random.Image(100, 1)
	if err != nil {
		t.Fatal(err)
	}
	inner, moved := up.handler, false
	up.handler = http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		inner.ServeHTTP(w, req)
		if strings.HasSuffix(req.URL.Path, "/manifests/7") && !moved {
			moved = true
			(&to{handler: inner}).push(t, "index.docker.io/library/redis:7", other)
		}
	})

	got, err := copyImage(t.Context(), "hello", "redis:7", rack, foreign{RoundTripper: up})
	if err != nil || got.Digest != want.String() || got.Repository != "hello" || got.Size < 6000 {
		t.Fatalf("%+v, %v; want %s", got, err, want)
	}
	ref, err := name.NewDigest(got.Ref())
	if err != nil {
		t.Fatal(err)
	}
	copied, err := remote.Image(ref, remote.WithTransport(rack))
	if err == nil {
		_, err = io.Copy(io.Discard, mustLayer(t, copied))
	}
	if err != nil || !moved {
		t.Fatalf("the copy in the rack: %v; the tag moved: %v", err, moved)
	}
	// The rack has it under the name of the app; under its own name it is asked for upstream.
	up.handler = http.NotFoundHandler()
	if _, err := copyImage(t.Context(), "hello", api.RackHost+"/hello@"+got.Digest, rack, foreign{RoundTripper: up}); err != nil {
		t.Errorf("from the rack: %v", err)
	}
}

func mustLayer(t *testing.T, img v1.Image) io.Reader {
	t.Helper()
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	r, err := layers[1].Compressed()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func TestMirrorRefusesLies(t *testing.T) {
	t.Parallel()
	replace := func(from, to string) func(http.ResponseWriter, *http.Request, []byte) {
		return func(w http.ResponseWriter, _ *http.Request, body []byte) {
			w.Header().Del("Docker-Content-Digest")
			w.Header().Del("Content-Length")
			_, _ = w.Write(bytes.Replace(body, []byte(from), []byte(to), 1))
		}
	}
	endless := func(w http.ResponseWriter, _ *http.Request, _ []byte) {
		w.Header().Del("Content-Length")
		for range 40 {
			_, _ = w.Write(make([]byte, 1<<20))
		}
	}
	for name, c := range map[string]struct {
		path   string
		answer func(http.ResponseWriter, *http.Request, []byte)
		want   string
	}{
		"content that is not the digest's": {"/blobs/", func(w http.ResponseWriter, _ *http.Request, b []byte) { b[0] ^= 1; _, _ = w.Write(b) }, "is broken"},
		"content that is too short": {"/blobs/", func(w http.ResponseWriter, _ *http.Request, b []byte) {
			w.Header().Del("Content-Length")
			_, _ = w.Write(b[1:])
		}, "is broken"},
		"layer size":             {"/manifests/", replace(`"layers":[{"mediaType":"application/vnd.docker.image.rootfs.diff.tar.gzip","size":`, `"layers":[{"mediaType":"application/vnd.docker.image.rootfs.diff.tar.gzip","size":1`), "does not deliver what it promises"},
		"configuration of 10 GB": {"/manifests/", replace(`"config":{"mediaType":"application/vnd.docker.container.image.v1+json","size":`, `"config":{"mediaType":"application/vnd.docker.container.image.v1+json","size":10000000`), "its configuration has"},
		"image and index":        {"/manifests/", replace(`"schemaVersion":2,`, `"schemaVersion":2,"manifests":[],`), "at once"},
		"endless manifest":       {"/manifests/", endless, "does not deliver what it promises"},
		"not JSON": {"/manifests/", func(w http.ResponseWriter, _ *http.Request, _ []byte) {
			w.Header().Del("Docker-Content-Digest")
			_, _ = w.Write([]byte("{"))
		}, ""},
		"old schema": {"/manifests/", func(w http.ResponseWriter, _ *http.Request, b []byte) {
			w.Header().Set("Content-Type", string(types.DockerManifestSchema1))
			_, _ = w.Write(b)
		}, "cannot run on linux"},
		"another platform": {"/manifests/", func(w http.ResponseWriter, _ *http.Request, _ []byte) {
			w.Header().Set("Content-Type", string(types.OCIImageIndex))
			w.Header().Del("Docker-Content-Digest")
			_, _ = w.Write([]byte(`{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","size":3,"digest":"sha256:` +
				strings.Repeat("a", 64) + `","platform":{"os":"windows","architecture":"arm"}}]}`))
		}, "cannot run on linux"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			up, _ := upstream(t)
			up.handler = change(up.handler, c.path, c.answer)
			rack := registryInMemory()
			_, err := copyImage(t.Context(), "hello", "redis:7", rack, foreign{RoundTripper: up})
			if err == nil {
				t.Fatal("was mirrored")
			}
			err = mirrorError(t.Context(), "image x", err)
			if c.want != "" && (api.CodeOf(err) != api.CodeInvalid || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("code %q, want invalid with %q: %v", api.CodeOf(err), c.want, err)
			}
			if tags := rack.tags(t); len(tags) > 0 {
				t.Errorf("it left tags: %v", tags)
			}
		})
	}
}

func TestMirrorErrorsTellWhatToDo(t *testing.T) {
	t.Parallel()
	status := func(code int) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) })
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for name, c := range map[string]struct {
		ctx      context.Context
		upstream http.RoundTripper
		code     api.Code
		want     string
	}{
		"missing":     {t.Context(), &to{handler: status(404)}, api.CodeInvalid, "does not exist"},
		"private":     {t.Context(), &to{handler: status(403)}, api.CodeInvalid, "needs a login"},
		"no way":      {t.Context(), roundTrip(func(*http.Request) (*http.Response, error) { return nil, errors.New("no route to host") }), api.CodeUnavailable, "no route to host"},
		"rate limit":  {t.Context(), &to{handler: status(418)}, api.CodeUnavailable, "418"},
		"redirects":   {t.Context(), &to{handler: http.RedirectHandler("/v2/x", http.StatusFound)}, api.CodeUnavailable, "redirects"},
		"interrupted": {cancelled, &to{handler: status(404)}, "", "cancelled"},
	} {
		_, err := copyImage(c.ctx, "hello", "redis:7", registryInMemory(), foreign{RoundTripper: c.upstream})
		err = mirrorError(c.ctx, "image x", err)
		if c.code != "" && api.CodeOf(err) != c.code || !strings.Contains(fmt.Sprint(err), c.want) {
			t.Errorf("%s: code %q, want %q with %q: %v", name, api.CodeOf(err), c.code, c.want, err)
		}
	}
}

// TestMirrorUsesAnEarlierCopy takes the registry of an image away.
func TestMirrorUsesAnEarlierCopy(t *testing.T) {
	t.Parallel()
	up, _ := upstream(t)
	rack := registryInMemory()
	if _, err := earlierCopy(t.Context(), "hello", "redis:7", rack); err == nil {
		t.Error("there is a copy of what was never mirrored")
	}
	first, err := copyImage(t.Context(), "hello", "redis:7", rack, foreign{RoundTripper: up})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := earlierCopy(t.Context(), "hello", "redis:7", rack); err != nil || got != first {
		t.Errorf("%+v, want %+v; %v", got, first, err)
	}
	for app, image := range map[api.AppName]string{"other": "redis:7", "hello": "redis:8"} {
		if _, err := earlierCopy(t.Context(), app, image, rack); err == nil {
			t.Errorf("app %s has a copy of %s", app, image)
		}
	}
	newer, err := random.Image(100, 1)
	if err != nil {
		t.Fatal(err)
	}
	up.push(t, "index.docker.io/library/redis:7", newer)
	second, err := copyImage(t.Context(), "hello", "redis:7", rack, foreign{RoundTripper: up})
	if err != nil || second.Digest == first.Digest {
		t.Fatalf("%+v, %v", second, err)
	}
	if got, err := earlierCopy(t.Context(), "hello", "redis:7", rack); err != nil || got != second {
		t.Errorf("%+v, want %+v; %v", got, second, err)
	}
}

// TestMirrorTellsNobodyThePassword lets a registry ask for credentials on behalf of others.
func TestMirrorTellsNobodyThePassword(t *testing.T) {
	t.Parallel()
	for name, challenge := range map[string]string{
		"token":        `Bearer realm="https://attacker.example/token",service="x",scope="repository:library/redis:pull"`,
		"rack's token": `Bearer realm="https://` + api.RackHost + `/token"`,
		"basic":        `Basic realm="slipway"`,
	} {
		up, _ := upstream(t)
		inner := up.handler
		up.handler = http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			switch {
			case strings.HasSuffix(req.URL.Path, "/token"):
				fmt.Fprint(w, `{"token": "stolen"}`)
			case req.Header.Get("Authorization") == "" && strings.HasPrefix(req.URL.Path, "/v2/"):
				w.Header().Set("WWW-Authenticate", challenge)
				w.WriteHeader(http.StatusUnauthorized)
			default:
				inner.ServeHTTP(w, req)
			}
		})
		_, _ = copyImage(t.Context(), "hello", "redis:7", registryInMemory(), foreign{RoundTripper: up})
		if len(up.seen) < 2 {
			t.Errorf("%s: nothing was asked", name)
		}
		for _, req := range up.seen {
			if a := req.Header.Get("Authorization"); a != "" && a != "Bearer stolen" {
				t.Errorf("%s: %s %s got %q", name, req.Method, req.URL, a)
			}
		}
	}
}

// TestMirrorStaysOutside names registries that only the machine itself can reach.
func TestMirrorStaysOutside(t *testing.T) {
	t.Parallel()
	asked := make(chan string, 100)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) { asked <- req.URL.Path }))
	defer server.Close()
	addr := strings.TrimPrefix(server.URL, "http://")
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	digest := "sha256:" + strings.Repeat("a", 64)
	for _, image := range []string{addr + "/x", addr + "/x@" + digest, "localhost:" + port + "/a/b:1", "[::1]:" + port + "/x", addr + "@" + digest, "[::ffff:127.0.0.1]:" + port + "/x"} {
		up := upstreamTransport(egress{local: net.InterfaceAddrs})
		_, err := copyImage(t.Context(), "hello", image, registryInMemory(), foreign{RoundTripper: up})
		if err == nil {
			t.Errorf("%s: was mirrored", image)
		}
		up.CloseIdleConnections()
	}
	close(asked)
	for p := range asked {
		t.Errorf("the machine's own service was asked for %s", p)
	}
}

// TestPasswordGoesToTheRackAlone follows a redirect that leads away from the rack's registry.
func TestPasswordGoesToTheRackAlone(t *testing.T) {
	t.Parallel()
	var got []string
	bucket := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		got = append(got, req.Header.Get("Authorization"))
		fmt.Fprint(w, "content")
	}))
	defer bucket.Close()
	var user string
	rack := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		user, _, _ = req.BasicAuth()
		http.Redirect(w, req, bucket.URL+"/blob", http.StatusTemporaryRedirect)
	}))
	defer rack.Close()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: rack.Certificate().Raw})
	client, err := Registry{Addr: strings.TrimPrefix(rack.URL, "https://"), ServerName: "example.com", CA: ca, User: "node", Password: "canary"}.client(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer client.CloseIdleConnections()
	resp, err := client.Get("https://" + api.RackHost + "/v2/hello/blobs/x")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if user != "node" || len(got) != 1 || got[0] != "" {
		t.Errorf("the rack saw the user %q, the bucket %q", user, got)
	}
}

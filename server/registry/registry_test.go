package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"slipway/api"
)

// rack is a registry under test and where it listens.
type rack struct {
	*Registry
	host string
	root string
}

// newRack lets "admin" do everything and any other user what its name says of one repository,
// for example "pull@hello". The password is "p" for all.
func newRack(t testing.TB, change func(*Config)) *rack {
	t.Helper()
	config := Config{
		Root: t.TempDir(), HTTPSecret: "s", Grace: -1, FreeMin: 1,
		Authorize: func(user, password, repo, action string) error {
			if password == "p" && (user == "admin" || action == ActionLogin || user == action+"@"+repo) {
				return nil
			}
			return errors.New("denied")
		},
	}
	if change != nil {
		change(&config)
	}
	r, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(r)
	t.Cleanup(server.Close)
	return &rack{r, strings.TrimPrefix(server.URL, "http://"), config.Root}
}

func (r *rack) ref(t *testing.T, s string) name.Reference {
	t.Helper()
	ref, err := name.ParseReference(r.host + "/" + s)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func as(user string) remote.Option {
	return remote.WithAuth(&authn.Basic{Username: user, Password: "p"})
}

func (r *rack) push(t *testing.T, ref string, img v1.Image) string {
	t.Helper()
	if err := remote.Write(r.ref(t, ref), img, as("admin")); err != nil {
		t.Fatalf("push %s: %v", ref, err)
	}
	return digestOf(t, img)
}

func digestOf(t testing.TB, x interface{ Digest() (v1.Hash, error) }) string {
	t.Helper()
	d, err := x.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return d.String()
}

func randomImage(t *testing.T, layers int64) v1.Image {
	t.Helper()
	img, err := random.Image(10_000, layers)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// pull reads every layer.
func (r *rack) pull(t *testing.T, ref string) error {
	t.Helper()
	img, err := remote.Image(r.ref(t, ref), as("admin"))
	if err != nil {
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

func TestPushPullResolve(t *testing.T) {
	t.Parallel()
	r := newRack(t, nil)
	digest := r.push(t, "hello:v1", randomImage(t, 2))

	if err := r.pull(t, "hello@"+digest); err != nil {
		t.Fatal(err)
	}
	if got, err := r.ResolveTag(t.Context(), "hello", "v1"); err != nil || got != digest {
		t.Fatalf("v1 is %q, %v; want %s", got, err, digest)
	}
	for _, missing := range [][2]string{{"hello", "v2"}, {"nobody", "v1"}} {
		if _, err := r.ResolveTag(t.Context(), missing[0], missing[1]); api.CodeOf(err) != api.CodeNotFound {
			t.Errorf("%v: %v", missing, err)
		}
	}
	for _, bad := range []string{"", "../x", "UP", "a//b"} {
		if _, err := r.ResolveTag(t.Context(), bad, "v1"); api.CodeOf(err) != api.CodeInvalid {
			t.Errorf("repository %q: %v", bad, err)
		}
	}
}

func TestRights(t *testing.T) {
	t.Parallel()
	r := newRack(t, nil)
	img := randomImage(t, 1)
	digest := r.push(t, "hello:v1", img)
	r.push(t, "other:v1", randomImage(t, 1))
	layer := digestOf(t, first(t, img))

	for _, c := range []struct {
		user, method, path string
		want               int
	}{
		{"", "GET", "/v2/", 401},
		{"pull@hello", "GET", "/v2/", 200},
		{"pull@hello", "GET", "/v2/hello/manifests/" + digest, 200},
		{"pull@hell", "GET", "/v2/hello/manifests/" + digest, 401},
		{"pull@hello2", "GET", "/v2/hello/manifests/" + digest, 401},
		{"pull@hello", "GET", "/v2/hello/blobs/" + layer, 200},
		{"pull@hello", "GET", "/v2/other/blobs/" + layer, 401},
		// A guessed digest leads nowhere through a repository that does not hold it.
		{"pull@other", "GET", "/v2/other/blobs/" + layer, 404},
		{"pull@other", "GET", "/v2/other/manifests/" + digest, 404},
		{"push@other", "POST", "/v2/other/blobs/uploads/?mount=" + layer + "&from=hello", 401},
		{"pull@hello", "POST", "/v2/hello/blobs/uploads/", 401},
		{"pull@hello", "DELETE", "/v2/hello/manifests/" + digest, 401},
		{"delete@hello", "DELETE", "/v2/hello/manifests/" + digest, 202},
		{"pull@hello", "GET", "/v2/_catalog", 401},
		{"admin", "GET", "/v2/_catalog", 200},
		{"admin", "GET", "/v2/hello/../other/tags/list", 404},
	} {
		req, err := http.NewRequestWithContext(t.Context(), c.method, "http://"+r.host, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		req.URL.Opaque = "//" + r.host + c.path
		if c.user != "" {
			req.SetBasicAuth(c.user, "p")
		}
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != c.want && (c.want != 404 || resp.StatusCode != 301) {
			t.Errorf("%s %s %s: %d, want %d", c.user, c.method, c.path, resp.StatusCode, c.want)
		}
		if resp.StatusCode == 401 && resp.Header.Get("WWW-Authenticate") != `Basic realm="slipway"` {
			t.Errorf("%s: challenge %q", c.path, resp.Header.Get("WWW-Authenticate"))
		}
	}
}

func first(t testing.TB, img v1.Image) v1.Layer {
	t.Helper()
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	return layers[0]
}

func TestRegistriesDoNotShareRights(t *testing.T) {
	t.Parallel()
	open := newRack(t, func(c *Config) { c.Authorize = func(_, _, _, _ string) error { return nil } })
	closed := newRack(t, func(c *Config) { c.Authorize = func(_, _, _, _ string) error { return errors.New("no") } })
	for host, want := range map[string]int{open.host: 200, closed.host: 401} {
		resp, err := http.Get("http://" + host + "/v2/")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%d, want %d", resp.StatusCode, want)
		}
	}
}

func TestGCKeepsTheKeepSet(t *testing.T) {
	t.Parallel()
	r := newRack(t, nil)
	base := randomImage(t, 1)
	kept, err := mutate.AppendLayers(base, first(t, randomImage(t, 1)))
	if err != nil {
		t.Fatal(err)
	}
	gone, err := mutate.AppendLayers(base, first(t, randomImage(t, 1)))
	if err != nil {
		t.Fatal(err)
	}
	platform := randomImage(t, 1)
	index := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: platform})
	if err := remote.WriteIndex(r.ref(t, "multi:v1"), index, as("admin")); err != nil {
		t.Fatal(err)
	}
	keptDigest, goneDigest := r.push(t, "hello:v1", kept), r.push(t, "hello:v2", gone)
	r.push(t, "hello:latest", gone)
	libraryDigest := r.push(t, "library/x:1", randomImage(t, 1))
	r.push(t, "dead:v1", gone)
	before := diskUse(t, r.root)

	keep := func(repo string) map[string]bool {
		return map[string]map[string]bool{
			"hello": {keptDigest: true, "sha256:" + strings.Repeat("0", 64): true},
			"multi": {digestOf(t, index): true},
			"dead":  {},
		}[repo] // nil, everything, for library/x
	}
	freed, err := r.GC(t.Context(), keep)
	if err != nil {
		t.Fatal(err)
	}
	goneLayers, err := gone.Layers()
	if err != nil {
		t.Fatal(err)
	}
	size, err := goneLayers[1].Size()
	if err != nil {
		t.Fatal(err)
	}
	if freed < api.Bytes(size) || diskUse(t, r.root) > before-size {
		t.Errorf("freed %d bytes, disk %d to %d; the layer alone has %d", freed, before, diskUse(t, r.root), size)
	}
	for _, ref := range []string{"hello@" + keptDigest, "hello:v1", "multi@" + digestOf(t, index), "multi@" + digestOf(t, platform), "library/x@" + libraryDigest} {
		if err := r.pull(t, ref); err != nil && !strings.Contains(err.Error(), "no child with platform") {
			t.Errorf("%s should be kept: %v", ref, err)
		}
	}
	for _, ref := range []string{"hello@" + goneDigest, "hello:v2", "hello:latest", "dead:v1"} {
		if err := r.pull(t, ref); err == nil {
			t.Errorf("%s should be gone", ref)
		}
	}
	if again, err := r.GC(t.Context(), keep); err != nil || again != 0 {
		t.Errorf("second collection freed %d, %v", again, err)
	}
	r.push(t, "hello:v3", gone) // what was removed can come back
	if err := r.pull(t, "hello:v3"); err != nil {
		t.Errorf("pushed again: %v", err)
	}
}

func diskUse(t *testing.T, root string) (n int64) {
	t.Helper()
	err := filepath.Walk(root, func(_ string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().IsRegular() {
			n += info.Size()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestGCGraceKeepsWhatWasTouched(t *testing.T) {
	t.Parallel()
	r := newRack(t, func(c *Config) { c.Grace = time.Hour })
	img := randomImage(t, 1)
	digest := r.push(t, "hello:v1", img)
	none := func(string) map[string]bool { return map[string]bool{} }

	if freed, err := r.GC(t.Context(), none); err != nil || freed != 0 {
		t.Fatalf("freed %d of a fresh image, %v", freed, err)
	}
	old := time.Now().Add(-2 * time.Hour)
	age := func() {
		err := filepath.Walk(r.root, func(p string, _ os.FileInfo, err error) error { return errors.Join(err, os.Chtimes(p, old, old)) })
		if err != nil {
			t.Fatal(err)
		}
	}
	age()
	layer := digestOf(t, first(t, img))
	req, _ := http.NewRequestWithContext(t.Context(), "HEAD", "http://"+r.host+"/v2/hello/blobs/"+layer, http.NoBody)
	req.SetBasicAuth("admin", "p")
	resp, err := http.DefaultClient.Do(req)
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("%v, %v", resp, err)
	}
	resp.Body.Close()
	if freed, err := r.GC(t.Context(), none); err != nil || freed == 0 {
		t.Fatalf("freed %d of an old image, %v", freed, err)
	}
	if err := r.pull(t, "hello@"+digest); err == nil {
		t.Error("the old manifest should be gone")
	}
	if _, err := os.Stat(filepath.Join(r.root, blobData(strings.TrimPrefix(layer, "sha256:")))); err != nil {
		t.Errorf("a blob that a client was just told exists is gone: %v", err)
	}
}

func TestGCOfAnEmptyRegistry(t *testing.T) {
	t.Parallel()
	if freed, err := newRack(t, nil).GC(t.Context(), func(string) map[string]bool { return nil }); err != nil || freed != 0 {
		t.Fatalf("%d, %v", freed, err)
	}
}

// TestGCBesidePushes pushes and collects at once: what a client was told is stored stays.
func TestGCBesidePushes(t *testing.T) {
	t.Parallel()
	r := newRack(t, func(c *Config) { c.Grace = time.Hour })
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			<-tick.C
			if _, err := r.GC(ctx, func(string) map[string]bool { return map[string]bool{} }); err != nil && ctx.Err() == nil {
				t.Error(err)
			}
		}
	})
	var pushes sync.WaitGroup
	for w := range 4 {
		pushes.Go(func() {
			for i := range 5 {
				ref := fmt.Sprintf("app%d:v%d", w, i)
				img, err := random.Image(5000, 2)
				if err == nil {
					err = remote.Write(r.ref(t, ref), img, as("admin"))
				}
				if err == nil {
					err = r.pull(t, ref)
				}
				if err != nil {
					t.Errorf("%s: %v", ref, err)
				}
			}
		})
	}
	pushes.Wait()
	cancel()
	wg.Wait()
}

func TestStalledUploadDelaysOnlyGC(t *testing.T) {
	t.Parallel()
	r := newRack(t, nil)
	if err := r.gate.enter(t.Context()); err != nil { // an upload that hangs
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := r.GC(ctx, func(string) map[string]bool { return nil }); api.CodeOf(err) != api.CodeUnavailable {
		t.Fatalf("collection during an upload: %v", err)
	}
	r.push(t, "hello:v1", randomImage(t, 1))
	r.gate.leave()
	if _, err := r.GC(t.Context(), func(string) map[string]bool { return nil }); err != nil {
		t.Fatal(err)
	}
}

func TestFullDiskIsSaid(t *testing.T) {
	t.Parallel()
	r := newRack(t, func(c *Config) { c.FreeMin = 1 << 60 })
	err := remote.Write(r.ref(t, "hello:v1"), randomImage(t, 1), as("admin"), remote.WithRetryStatusCodes(), remote.WithRetryBackoff(remote.Backoff{Steps: 1}))
	e, ok := errors.AsType[*transport.Error](err)
	if !ok || e.StatusCode != http.StatusInsufficientStorage || !strings.Contains(err.Error(), "the disk of the rack's registry") {
		t.Fatalf("push to a full disk: %v", err)
	}
	err = remote.Write(r.ref(t, "hello:v1"), randomImage(t, 1), as("nobody"))
	if e, ok := errors.AsType[*transport.Error](err); !ok || e.StatusCode != 401 {
		t.Fatalf("a stranger should not hear of it: %v", err)
	}
}

func TestNewRefusesBadConfig(t *testing.T) {
	t.Parallel()
	ok := Config{Root: t.TempDir(), HTTPSecret: "s", Authorize: func(_, _, _, _ string) error { return nil }}
	for name, change := range map[string]func(*Config){
		"root": func(c *Config) { c.Root = "" }, "secret": func(c *Config) { c.HTTPSecret = "" }, "rights": func(c *Config) { c.Authorize = nil },
	} {
		c := ok
		change(&c)
		if _, err := New(c); api.CodeOf(err) != api.CodeInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestLyingDigestIsRefused(t *testing.T) {
	t.Parallel()
	r := newRack(t, nil)
	do := func(method, url string, body []byte) *http.Response {
		req, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.SetBasicAuth("admin", "p")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp
	}
	begun := do("POST", "http://"+r.host+"/v2/hello/blobs/uploads/", nil)
	where, err := begun.Location()
	if err != nil {
		t.Fatal(err)
	}
	q := where.Query()
	q.Set("digest", "sha256:"+strings.Repeat("a", 64))
	where.RawQuery = q.Encode()
	if resp := do("PUT", where.String(), []byte("something else")); resp.StatusCode != http.StatusBadRequest {
		t.Fatalf("upload with a false digest: %s", resp.Status)
	}
}

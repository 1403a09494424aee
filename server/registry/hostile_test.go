package registry

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"slipway/api"
)

// do sends one request as admin and returns the status and the answer's head.
func (r *rack) do(t *testing.T, method, url string, body io.Reader, header ...string) *http.Response {
	t.Helper()
	if strings.HasPrefix(url, "/") {
		url = "http://" + r.host + url
	}
	req, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth("admin", "p")
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

// begin begins an upload and returns where it goes on.
func (r *rack) begin(t *testing.T, repo string) string {
	t.Helper()
	resp := r.do(t, "POST", "/v2/"+repo+"/blobs/uploads/", http.NoBody)
	where, err := resp.Location()
	if err != nil {
		t.Fatalf("%s: %v", resp.Status, err)
	}
	return where.String()
}

func TestAmbiguousManifestsAreRefused(t *testing.T) {
	t.Parallel()
	r := newRack(t, nil)
	img := randomImage(t, 1)
	r.push(t, "hello:v1", img)
	m, err := img.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	d, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	type document struct {
		SchemaVersion int             `json:"schemaVersion"`
		MediaType     types.MediaType `json:"mediaType,omitempty"`
		Config        *v1.Descriptor  `json:"config,omitempty"`
		Layers        []v1.Descriptor `json:"layers,omitempty"`
		Manifests     []v1.Descriptor `json:"manifests,omitempty"`
	}
	list := []v1.Descriptor{{MediaType: m.MediaType, Digest: d, Size: 1, Platform: &v1.Platform{OS: "linux", Architecture: "amd64"}}}
	missing := v1.Descriptor{MediaType: types.OCILayer, Size: 3, Digest: v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("a", 64)}}
	for name, c := range map[string]struct {
		media types.MediaType
		doc   any
	}{
		"index with layers":         {types.OCIImageIndex, document{2, types.OCIImageIndex, &m.Config, m.Layers, list}},
		"manifest with manifests":   {types.OCIManifestSchema1, document{2, types.OCIManifestSchema1, &m.Config, m.Layers, list}},
		"without a type of its own": {types.OCIManifestSchema1, document{2, "", &m.Config, m.Layers, list}},
		"says index, is manifest":   {types.OCIImageIndex, document{2, types.OCIManifestSchema1, &m.Config, m.Layers, nil}},
		"says manifest, is index":   {types.OCIManifestSchema1, document{2, types.OCIImageIndex, nil, nil, list}},
		"layer that is not there":   {types.OCIManifestSchema1, document{2, types.OCIManifestSchema1, &m.Config, []v1.Descriptor{missing}, nil}},
		"old schema":                {"application/vnd.docker.distribution.manifest.v1+json", map[string]any{"schemaVersion": 1, "name": "hello", "tag": "x", "fsLayers": []any{}}},
		"not JSON":                  {types.OCIManifestSchema1, "x"},
		"5 MiB":                     {types.OCIManifestSchema1, map[string]string{"annotations": strings.Repeat("x", 5<<20)}},
	} {
		body, err := json.Marshal(c.doc)
		if err != nil {
			t.Fatal(err)
		}
		resp := r.do(t, "PUT", "/v2/hello/manifests/bad", bytes.NewReader(body), "Content-Type", string(c.media))
		if resp.StatusCode < 400 || resp.StatusCode >= 500 {
			t.Errorf("%s: %s", name, resp.Status)
		}
		for _, ref := range []string{"bad", fmt.Sprintf("sha256:%x", sha256.Sum256(body))} {
			if resp := r.do(t, "GET", "/v2/hello/manifests/"+ref, http.NoBody); resp.StatusCode != http.StatusNotFound {
				t.Errorf("%s: is stored all the same: %s", name, resp.Status)
			}
		}
	}
}

// TestStalledUploadEnds sends half a blob and then nothing.
func TestStalledUploadEnds(t *testing.T) {
	t.Parallel()
	r := newRack(t, func(c *Config) { c.UploadIdle = 100 * time.Millisecond })
	where := r.begin(t, "hello")
	conn, err := net.Dial("tcp", r.host)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, err = fmt.Fprintf(conn, "PATCH %s HTTP/1.1\r\nHost: x\r\nAuthorization: Basic YWRtaW46cA==\r\nContent-Length: 1000\r\nContent-Type: application/octet-stream\r\n\r\nhalf",
		strings.TrimPrefix(where, "http://"+r.host))
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("the server does not end it: %v", err)
	}
	resp.Body.Close()
	if resp.StatusCode < 400 {
		t.Errorf("half an upload: %s", resp.Status)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := r.GC(ctx, func(string) map[string]bool { return nil }); err != nil {
		t.Errorf("collection after it: %v", err)
	}
}

// TestStalledStreamEnds does the same on one of the streams of a connection.
func TestStalledStreamEnds(t *testing.T) {
	t.Parallel()
	r := newRack(t, func(c *Config) { c.UploadIdle = 100 * time.Millisecond })
	server := httptest.NewUnstartedServer(r)
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	body, w := io.Pipe()
	defer w.Close()
	where := strings.Replace(r.begin(t, "hello"), "http://"+r.host, server.URL, 1)
	req, err := http.NewRequestWithContext(t.Context(), "PATCH", where, body)
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth("admin", "p")
	go func() { _, _ = io.WriteString(w, "half") }() // ends with the pipe
	resp, err := server.Client().Do(req)
	if err == nil {
		resp.Body.Close()
		if resp.ProtoMajor != 2 || resp.StatusCode < 400 {
			t.Errorf("half an upload: %s %s", resp.Proto, resp.Status)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := r.GC(ctx, func(string) map[string]bool { return nil }); err != nil {
		t.Errorf("collection after it: %v", err)
	}
}

// TestUnfinishedUploadIsGivenUp leaves one behind.
func TestUnfinishedUploadIsGivenUp(t *testing.T) {
	t.Parallel()
	r := newRack(t, nil)
	where := r.begin(t, "hello")
	if resp := r.do(t, "PATCH", where, strings.NewReader("half"), "Content-Type", "application/octet-stream"); resp.StatusCode != http.StatusAccepted {
		t.Fatal(resp.Status)
	}
	all := func(string) map[string]bool { return nil }
	uploads := filepath.Join(r.root, repoPath("hello"), "_uploads")
	collect := func() int {
		if _, err := r.GC(t.Context(), all); err != nil {
			t.Fatal(err)
		}
		left, err := os.ReadDir(uploads)
		if err != nil {
			t.Fatal(err)
		}
		return len(left)
	}
	if n := collect(); n != 1 {
		t.Errorf("%d uploads in progress are left, want 1", n)
	}
	started, err := filepath.Glob(uploads + "/*/startedat")
	if err != nil || len(started) != 1 {
		t.Fatal(started, err)
	}
	if err := os.WriteFile(started[0], []byte(time.Now().Add(-uploadAgeMax-time.Minute).UTC().Format(time.RFC3339)), 0o600); err != nil {
		t.Fatal(err)
	}
	if n := collect(); n != 0 {
		t.Errorf("%d uploads given up are left", n)
	}
}

// TestUploadThatFillsTheDisk sends more than there is room for.
func TestUploadThatFillsTheDisk(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("needs root to mount a small disk")
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=128m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	const free = 40 * api.MiB
	r := newRack(t, func(c *Config) { c.Root = dir; c.FreeMin = free })
	r.push(t, "hello:v1", randomImage(t, 1))
	for _, size := range []int64{-1, 400 << 20} { // unknown, and told beforehand
		req, err := http.NewRequestWithContext(t.Context(), "PUT", r.begin(t, "hello")+"&digest=sha256:"+strings.Repeat("a", 64), io.LimitReader(zeros{}, 400<<20))
		if err != nil {
			t.Fatal(err)
		}
		req.SetBasicAuth("admin", "p")
		req.ContentLength = size
		req.Header.Set("Expect", "100-continue")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != http.StatusInsufficientStorage || !strings.Contains(string(text), "the disk of the rack's registry") {
			t.Errorf("%s: %s, %v", resp.Status, text, err)
		}
		if r.full() {
			t.Error("what it sent still fills the disk")
		}
	}
	r.push(t, "hello:v2", randomImage(t, 1))
	if err := r.pull(t, "hello:v1"); err != nil {
		t.Error(err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// TestGCKeepsWhatAPushWasToldOf asks for an old image between marking and removing.
func TestGCKeepsWhatAPushWasToldOf(t *testing.T) {
	t.Parallel()
	r := newRack(t, func(c *Config) { c.Grace = time.Hour })
	digest := r.push(t, "hello:v1", randomImage(t, 1))
	old := time.Now().Add(-2 * time.Hour)
	err := filepath.Walk(r.root, func(p string, _ os.FileInfo, err error) error {
		if err == nil {
			err = os.Chtimes(p, old, old)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	g := &collection{Registry: r.Registry, now: time.Now()}
	if err := g.markAll(t.Context(), func(string) map[string]bool { return map[string]bool{} }); err != nil {
		t.Fatal(err)
	}
	if resp := r.do(t, "HEAD", "/v2/hello/manifests/v1", http.NoBody); resp.StatusCode != http.StatusOK {
		t.Fatal(resp.Status)
	}
	if done, err := g.removeManifests(t.Context()); done || err != nil {
		t.Fatalf("removed what a push was told of: %v, %v", done, err)
	}
	if _, err := r.GC(t.Context(), func(string) map[string]bool { return map[string]bool{} }); err != nil {
		t.Fatal(err)
	}
	if err := r.pull(t, "hello@"+digest); err != nil {
		t.Errorf("its content is gone: %v", err)
	}
}

package build

import (
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/buildkit/client"
	"github.com/opencontainers/go-digest"

	"slipway/api"
)

func TestEgress(t *testing.T) {
	t.Parallel()
	e := egress{
		deny: []netip.Prefix{netip.MustParsePrefix("10.8.0.0/16")},
		local: func() ([]net.Addr, error) {
			return []net.Addr{&net.IPNet{IP: net.IPv4(192, 168, 7, 1), Mask: net.CIDRMask(24, 32)}}, nil
		},
	}
	for addr, allowed := range map[string]bool{
		"192.168.7.2": true, "10.9.0.1": true, "2001:db8::1": true,
		"192.168.7.1": false, "::ffff:192.168.7.1": false, "10.8.255.1": false, "127.8.9.1": false, "::1": false,
		"169.254.169.254": false, "fe80::1": false, "0.0.0.0": false, "::": false, "224.0.0.1": false, "255.255.255.255": false,
		"::ffff:127.0.0.1": false,
	} {
		if err := e.check(netip.MustParseAddr(addr)); (err == nil) != allowed {
			t.Errorf("%s: allowed %v, want %v: %v", addr, err == nil, allowed, err)
		}
	}
}

func TestDockerfileArguments(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "Dockerfile")
	text := "ARG BASE=busybox\nFROM $BASE AS build\narg A B=2 \\\n  C\nfrom build as Development\nRUN <<EOT\nARG D\nEOT\n"
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	args, stages, err := readDockerfile(name)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]bool{"BASE": true, "A": true, "B": true, "C": true}, args); diff != "" {
		t.Errorf("arguments: %s", diff)
	}
	if !stages[developmentStage] || !stages["build"] {
		t.Errorf("stages: %v", stages)
	}
	env := map[string]string{"A": "env", "B": "env", "C": "env", "SECRET": "env"}
	got := chooseArgs(args, []string{"B=manifest", "C=manifest", "X=manifest", "A"}, env, map[string]string{"C": "given", "Y": "given"})
	if diff := cmp.Diff(map[string]string{"A": "env", "B": "manifest", "C": "given"}, got); diff != "" {
		t.Errorf("values: %s", diff)
	}
}

func TestPlanStaysInTheSource(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	source := filepath.Join(dir, "source")
	for name, text := range map[string]string{"secret/Dockerfile": "FROM x", "source/app/Dockerfile": "FROM x", "source/Dockerfile": "FROM x"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for from, to := range map[string]string{"out": "../secret", "abs": dir + "/secret", "inside": "app", "app/up": "../Dockerfile", "app/file": "../../secret/Dockerfile"} {
		if err := os.Symlink(to, filepath.Join(source, from)); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		path, dockerfile string
		ok               bool
	}{
		{".", "Dockerfile", true}, {"", "", true}, {"app", "Dockerfile", true}, {"inside", "Dockerfile", true}, {".", "app/Dockerfile", true},
		{"..", "Dockerfile", false}, {"../secret", "Dockerfile", false}, {dir + "/secret", "Dockerfile", false},
		{"out", "Dockerfile", false}, {"abs", "Dockerfile", false}, {"app", "../Dockerfile", false}, {"app", "up", false},
		{"app", "file", false}, {"app", "missing", false}, {".", "app", false}, {"missing", "Dockerfile", false},
	} {
		service := &api.ServiceSpec{Name: "web", Build: &api.BuildSpec{Path: c.path, Dockerfile: c.dockerfile}}
		_, err := planBuild(source, service, &Job{})
		if (err == nil) != c.ok {
			t.Errorf("path %q, dockerfile %q: %v, want ok %v", c.path, c.dockerfile, err, c.ok)
		}
		if err != nil && (api.CodeOf(err) != api.CodeInvalid || strings.Contains(strings.ReplaceAll(err.Error(), c.path, ""), dir)) {
			t.Errorf("path %q: code %q or the builder's paths in: %v", c.path, api.CodeOf(err), err)
		}
	}
}

func TestMirrorHidesApps(t *testing.T) {
	t.Parallel()
	var asked []string
	transport := mirrorTransport{roundTrip(func(req *http.Request) (*http.Response, error) {
		asked = append(asked, req.URL.Path)
		return httptest.NewRecorder().Result(), nil
	})}
	for _, p := range []string{"/v2/hello/manifests/latest", "/v2/library/redis/manifests/7", "/v2/hello/blobs/sha256:x", "/v2/a/b/c/blobs/sha256:x"} {
		resp, err := transport.RoundTrip(httptest.NewRequest(http.MethodGet, "https://"+api.RackHost+p, nil))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	if diff := cmp.Diff([]string{"/v2/library/redis/manifests/7", "/v2/a/b/c/blobs/sha256:x"}, asked); diff != "" {
		t.Error(diff)
	}
	if _, err := mirrorSources("hello", api.RackHost+"/other:latest", nil, foreign{}); api.CodeOf(err) != api.CodeDenied {
		t.Errorf("image of another app: %v", err)
	}
	for _, bad := range []string{"", "UPPER", "a b", "a@sha256:zz", "$(id)"} {
		if _, err := mirrorSources("hello", bad, nil, foreign{}); api.CodeOf(err) != api.CodeInvalid {
			t.Errorf("image %q: %v", bad, err)
		}
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

func TestProgressLines(t *testing.T) {
	t.Parallel()
	var got []string
	p := newProgress(func(stream, text string) { got = append(got, stream+" "+text) })
	a, b := digest.FromString("a"), digest.FromString("b")
	at := func(ms int) *time.Time { v := time.UnixMilli(int64(1000 + ms)); return &v }
	ch := make(chan *client.SolveStatus, 10)
	ch <- &client.SolveStatus{Vertexes: []*client.Vertex{{Digest: a, Name: "[1/2] FROM x"}, {Digest: b, Name: "[2/2] RUN y"}}}
	ch <- &client.SolveStatus{Vertexes: []*client.Vertex{{Digest: a, Name: "[1/2] FROM x", Started: at(0), Completed: at(0), Cached: true}}}
	ch <- &client.SolveStatus{Vertexes: []*client.Vertex{{Digest: b, Name: "[2/2] RUN y", Started: at(0)}}}
	ch <- &client.SolveStatus{Logs: []*client.VertexLog{{Vertex: b, Stream: 1, Data: []byte("one\r\ntw")}, {Vertex: b, Stream: 2, Data: []byte("bad \xff")}}}
	ch <- &client.SolveStatus{Logs: []*client.VertexLog{{Vertex: b, Stream: 1, Data: []byte("o\n" + strings.Repeat("z", lineMax+5))}}}
	ch <- &client.SolveStatus{Vertexes: []*client.Vertex{{Digest: b, Name: "[2/2] RUN y", Started: at(0), Completed: at(1234), Error: "exit code: 1"}}}
	close(ch)
	p.follow(ch)

	for i, l := range got {
		if len(l) > 100 {
			got[i] = l[:20] + "…"
		}
	}
	head, last := got[:6], got[len(got)-1]
	want := []string{"stdout #1 [1/2] FROM x", "stdout #1 cached", "stdout #2 [2/2] RUN y", "stdout #2 one", "stdout #2 two", "stdout #2 zzzzzzzzzz…"}
	if diff := cmp.Diff(want, head); diff != "" || last != "stderr #2 failed: exit code: 1" {
		t.Errorf("%s\nlast: %s", diff, last)
	}
	if s := p.failedStep(); s == nil || s.name != "[2/2] RUN y" {
		t.Errorf("failed step: %+v", s)
	}
}

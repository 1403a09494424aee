package registry_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"slipway/api/client"
	"slipway/server"
)

// node is one real server in this process, with Raft, certificates and all.
type node struct {
	cfg server.Config
	end func()
}

func freeAddr(t *testing.T) string {
	t.Helper()
	for range 100 {
		addr := fmt.Sprintf("127.0.0.1:%d", 10000+rand.IntN(20000)) // the kernel gives these to no connection
		if l, err := net.Listen("tcp", addr); err == nil {
			l.Close()
			return addr
		}
	}
	t.Fatal("no port is free")
	return ""
}

func startServer(t *testing.T, change func(*server.Config)) *node {
	t.Helper()
	cfg := server.Config{
		Dir: t.TempDir(), Rack: "test", Domain: "rack.test", Network: "10.192.0.0/10", Version: "v1", Log: slog.New(slog.DiscardHandler),
		GRPCAddr: freeAddr(t), HTTPAddr: freeAddr(t), RaftAddr: freeAddr(t), GossipAddr: freeAddr(t),
	}
	change(&cfg)
	s, err := server.New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := s.Run(ctx); err != nil {
			t.Errorf("server %s: %v", cfg.GRPCAddr, err)
		}
	}()
	n := &node{cfg, func() { cancel(); <-ended }}
	t.Cleanup(n.end)
	select {
	case <-s.Ready():
	case <-time.After(time.Minute):
		t.Fatalf("server %s is not ready", cfg.GRPCAddr)
	}
	return n
}

func (n *node) read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(n.cfg.Dir, file))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestRackOfThreeServers runs the servers that users run: images and sources outlive the one that
// took them in.
func TestRackOfThreeServers(t *testing.T) {
	t.Parallel()
	first := startServer(t, func(c *server.Config) { c.Bootstrap = true })
	join := func(c *server.Config) {
		c.Join, c.Token = []string{first.cfg.GRPCAddr}, first.read(t, server.JoinServerTokenFile)
	}
	second, third := startServer(t, join), startServer(t, join)
	token := strings.TrimSpace(first.read(t, server.AdminTokenFile))
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(first.read(t, server.TrustFile)))
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "rack.internal"}}
	t.Cleanup(transport.CloseIdleConnections)
	ref := func(n *node, s string) name.Reference {
		r, err := name.ParseReference(n.cfg.HTTPAddr + "/" + s)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	options := []remote.Option{remote.WithTransport(transport), remote.WithAuth(&authn.Basic{Username: "x", Password: token}), remote.WithContext(t.Context())}
	push := func(n *node, s string) string {
		img, err := random.Image(1<<20, 3)
		if err == nil {
			err = remote.Write(ref(n, s), img, options...)
		}
		if err != nil {
			t.Fatalf("push %s: %v", s, err)
		}
		d, err := img.Digest()
		if err != nil {
			t.Fatal(err)
		}
		return d.String()
	}
	pull := func(n *node, s string) error {
		img, err := remote.Image(ref(n, s), options...)
		if err != nil {
			return err
		}
		return readLayers(img)
	}

	image := "hello@" + push(first, "hello:v1")
	push(first, "library/base:latest")
	for _, s := range []string{image, "library/base:latest"} {
		if err := pull(second, s); err != nil {
			t.Fatalf("%s from the second server: %v", s, err)
		}
	}
	source := bytes.Repeat([]byte("source"), 1<<16)
	rack, err := client.Dial(t.Context(), client.Context{Addr: second.cfg.GRPCAddr, CA: first.read(t, server.TrustFile), Token: token})
	if err != nil {
		t.Fatal(err)
	}
	defer rack.Close()
	if _, err := rack.CreateApp(t.Context(), "hello"); err != nil {
		t.Fatal(err)
	}
	digest, err := rack.UploadSource(t.Context(), "hello", bytes.NewReader(source))
	if err != nil {
		t.Fatal(err)
	}
	copies := 0
	for _, n := range []*node{first, second, third} {
		b, err := os.ReadFile(filepath.Join(n.cfg.Dir, "sources/blobs/sha256", strings.TrimPrefix(digest, "sha256:")))
		if err == nil && bytes.Equal(b, source) {
			copies++
		}
	}
	if copies < 2 {
		t.Errorf("the source is on %d of 3 servers when the upload ends", copies)
	}

	// The second server has been asked for both images: it goes on until it has all of them.
	deadline := time.Now().Add(time.Minute)
	for _, s := range []string{image, "library/base:latest"} {
		for !holds(second, s) {
			if time.Now().After(deadline) {
				t.Fatalf("%s does not come to stay", s)
			}
			time.Sleep(20 * time.Millisecond) // between two looks
		}
	}
	first.end()
	for _, n := range []*node{second, third} {
		for _, s := range []string{image, "library/base:latest"} {
			if err := pull(n, s); err != nil {
				t.Errorf("%s from %s, with the first server gone: %v", s, n.cfg.HTTPAddr, err)
			}
		}
	}
}

// holds looks at the disk: a manifest is stored last, and so is a tag.
func holds(n *node, ref string) bool {
	repo, dgst, ok := strings.Cut(ref, "@sha256:")
	path := "_manifests/revisions/sha256/" + dgst + "/link"
	if !ok {
		repo, path = strings.TrimSuffix(ref, ":latest"), "_manifests/tags/latest/current/link"
	}
	_, err := os.Stat(filepath.Join(n.cfg.Dir, "registry/docker/registry/v2/repositories", repo, path))
	return err == nil
}

func readLayers(img v1.Image) error {
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

package registry

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/opencontainers/go-digest"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"
)

// resolver pulls as the agents' containerd does, from the given members in this order.
func (c *cluster) resolver(members ...*member) remotes.Resolver {
	auth := docker.NewDockerAuthorizer(docker.WithAuthCreds(func(string) (string, string, error) { return "admin", "p", nil }))
	return docker.NewResolver(docker.ResolverOptions{Hosts: func(string) (hosts []docker.RegistryHost, _ error) {
		for _, m := range members {
			hosts = append(hosts, docker.RegistryHost{Client: c.user, Host: m.host, Scheme: "https", Path: "/v2", Authorizer: auth,
				Capabilities: docker.HostCapabilityPull | docker.HostCapabilityResolve})
		}
		return hosts, nil
	}})
}

// TestContainerdPulls resolves by digest and by tag, and reads a layer with a break in the middle.
func TestContainerdPulls(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, nil)
	a, b := c.members[0], c.members[1]
	img := bigImage(t, bigSize)
	dgst := c.push(t, a, "hello:v1", img)
	size, err := first(t, img).Size()
	if err != nil {
		t.Fatal(err)
	}
	_, hex := layerPath(t, img)
	layer := imagespec.Descriptor{Digest: digest.NewDigestFromEncoded("sha256", hex), Size: size, MediaType: imagespec.MediaTypeImageLayerGzip}
	want := content(t, a, hex)

	resolver := c.resolver(b)
	for _, ref := range []string{"rack.internal/hello@" + dgst, "rack.internal/hello:v1"} {
		_, desc, err := resolver.Resolve(t.Context(), ref)
		if err != nil || desc.Digest.String() != dgst {
			t.Fatalf("%s is %s, %v", ref, desc.Digest, err)
		}
	}
	fetcher, err := resolver.Fetcher(t.Context(), "rack.internal/hello@"+dgst)
	if err != nil {
		t.Fatal(err)
	}
	// A client that goes on at some byte, as containerd does after a break, while the blob is
	// still on its way here and after it has come.
	for _, offset := range []int64{size / 3, 0, size - 10} {
		rc, err := fetcher.Fetch(t.Context(), layer)
		if err != nil {
			t.Fatal(err)
		}
		seeker, ok := rc.(io.Seeker)
		if !ok {
			t.Fatal("containerd cannot go on in the middle")
		}
		if _, err := seeker.Seek(offset, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(rc)
		rc.Close()
		if err != nil || !bytes.Equal(got, want[offset:]) {
			t.Errorf("from byte %d: %d bytes, want %d; %v", offset, len(got), size-offset, err)
		}
	}
}

// TestContainerdTriesTheNextServer: the first server does not answer, the second one fetches from
// the third, which breaks off; containerd tries again and has it all.
func TestContainerdTriesTheNextServer(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, func(config *Config) { config.PeerIdle = time.Second })
	dead, b, a := c.members[0], c.members[1], c.members[2]
	img := bigImage(t, bigSize)
	dgst := c.push(t, a, "hello:v1", img)
	dead.kill()
	var breaks atomic.Int64
	a.onBlob(func(w http.ResponseWriter, req *http.Request, hex string) bool {
		return breaks.Add(1) <= 2 && half(t, a, func(*http.Request) {})(w, req, hex)
	})
	fetcher, err := c.resolver(dead, b).Fetcher(t.Context(), "rack.internal/hello@"+dgst)
	if err != nil {
		t.Fatal(err)
	}
	size, err := first(t, img).Size()
	if err != nil {
		t.Fatal(err)
	}
	_, hex := layerPath(t, img)
	read := func() error {
		rc, err := fetcher.Fetch(t.Context(), imagespec.Descriptor{Digest: digest.NewDigestFromEncoded("sha256", hex), Size: size, MediaType: imagespec.MediaTypeImageLayerGzip})
		if err != nil {
			return err
		}
		defer rc.Close()
		sum := sha256.New()
		if _, err := io.Copy(sum, rc); err != nil {
			return err
		}
		if fmt.Sprintf("%x", sum.Sum(nil)) != hex {
			return errors.New("other bytes")
		}
		return nil
	}
	err = read()
	if err != nil {
		err = read()
	}
	if err != nil {
		t.Fatal(err)
	}
	if breaks.Load() < 3 {
		t.Errorf("the peer was asked %d times only", breaks.Load())
	}
}

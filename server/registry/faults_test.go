package registry

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"slipway/api"
)

const bigSize = 4 << 20

// spread makes an image that the first two of three members hold.
func spread(t *testing.T, change func(*Config)) (c *cluster, img v1.Image, digest string) {
	t.Helper()
	c = newCluster(t, 3, change)
	img = bigImage(t, bigSize)
	digest = c.push(t, c.members[0], "hello:v1", img)
	if err := c.members[1].Replicate(t.Context(), "hello", digest); err != nil {
		t.Fatal(err)
	}
	return c, img, digest
}

// content reads the layer of an image from a member's disk.
func content(t *testing.T, m *member, hex string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(m.root, blobData(hex)))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// onBlob makes a fault of the requests for blobs whose data is at least 1 MiB long.
func (m *member) onBlob(f func(w http.ResponseWriter, req *http.Request, hex string) bool) {
	m.breakWith(func(w http.ResponseWriter, req *http.Request) bool {
		p := peerPath.FindStringSubmatch(req.URL.Path)
		if p == nil || p[2] != "blobs" || req.Method != http.MethodGet {
			return false
		}
		hex := strings.TrimPrefix(p[3], "sha256:")
		info, err := os.Stat(filepath.Join(m.root, blobData(hex)))
		return err == nil && info.Size() >= 1<<20 && f(w, req, hex)
	})
}

// half sends the first half of a blob and then does what then says.
func half(t *testing.T, m *member, then func(*http.Request)) func(http.ResponseWriter, *http.Request, string) bool {
	return func(w http.ResponseWriter, req *http.Request, hex string) bool {
		b := content(t, m, hex)
		w.Header().Set("Content-Length", fmt.Sprint(len(b)))
		_, _ = w.Write(b[:len(b)/2])
		_ = http.NewResponseController(w).Flush()
		then(req)
		panic(http.ErrAbortHandler)
	}
}

// whole reads the answer to a request for a blob and checks every byte.
func whole(t *testing.T, c *cluster, m *member, path, hex string) error {
	t.Helper()
	resp, err := c.get(t.Context(), m, "GET", path, "")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if got := fmt.Sprintf("%x", sha256.Sum256(b)); resp.StatusCode != 200 || got != hex {
		return fmt.Errorf("%s with %d bytes of digest %s", resp.Status, len(b), got)
	}
	return nil
}

// TestPeerDiesMidStream: the next peer goes on where it stopped, and the client sees nothing.
func TestPeerDiesMidStream(t *testing.T) {
	t.Parallel()
	for name, then := range map[string]func(*http.Request){
		"closes":  func(*http.Request) {},
		"stalls":  func(req *http.Request) { <-req.Context().Done() },
		"crashes": nil,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, img, _ := spread(t, func(config *Config) { config.PeerIdle = time.Second })
			path, hex := layerPath(t, img)
			var ranges sync.Map
			var once atomic.Bool
			for _, m := range c.members[:2] {
				dies := then
				if dies == nil {
					dies = func(*http.Request) { m.kill() }
				}
				m.onBlob(func(w http.ResponseWriter, req *http.Request, hex string) bool {
					ranges.Store(m.id, req.Header.Get("Range"))
					return once.CompareAndSwap(false, true) && half(t, m, dies)(w, req, hex)
				})
			}
			if err := whole(t, c, c.members[2], path, hex); err != nil {
				t.Fatal(err)
			}
			resumed := false
			ranges.Range(func(_, r any) bool { resumed = resumed || strings.HasPrefix(r.(string), "bytes="); return true })
			if !resumed {
				t.Error("the second peer began anew")
			}
			if !bytes.Equal(content(t, c.members[2], hex), content(t, c.members[1], hex)) {
				t.Error("what was stored differs")
			}
			if left := leftovers(t, c.members[2]); len(left) > 0 {
				t.Errorf("left %q", left)
			}
		})
	}
}

// TestOnlyPeerDiesMidStream: the client sees an error, nothing partial is kept, and a new try works.
func TestOnlyPeerDiesMidStream(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2, nil)
	img := bigImage(t, bigSize)
	digest := c.push(t, c.members[0], "hello:v1", img)
	path, hex := layerPath(t, img)
	c.members[0].onBlob(half(t, c.members[0], func(*http.Request) {}))
	// It is asked twice, once with patience; both times it breaks off, the second time at once.
	if err := whole(t, c, c.members[1], path, hex); !errors.Is(err, io.ErrUnexpectedEOF) && (err == nil || !strings.Contains(err.Error(), "INTERNAL_ERROR")) {
		t.Errorf("the client saw %v", err)
	}
	if c.members[1].hasData(hex) {
		t.Error("a half blob was stored")
	}
	if left := leftovers(t, c.members[1]); len(left) > 0 {
		t.Errorf("left %q", left)
	}
	c.members[0].fault.Store(nil)
	if err := c.pull(t, c.members[1], "hello@"+digest); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// wrong sends as many bytes as the blob has, of which one differs.
func wrong(t *testing.T, m *member, at int) func(http.ResponseWriter, *http.Request, string) bool {
	return func(w http.ResponseWriter, req *http.Request, hex string) bool {
		b := content(t, m, hex)
		b[(at+len(b))%len(b)] ^= 1
		http.ServeContent(w, req, "", time.Time{}, bytes.NewReader(b))
		return true
	}
}

// TestPeerSendsWrongBytes: what it sent is never stored and never sent whole; another peer's is.
func TestPeerSendsWrongBytes(t *testing.T) {
	t.Parallel()
	c, img, digest := spread(t, nil)
	path, hex := layerPath(t, img)
	liar, third := c.members[0], c.members[2]
	liar.onBlob(wrong(t, liar, -1))

	// Replicate does not care who is asked first.
	if err := third.Replicate(t.Context(), "hello", digest); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(content(t, third, hex), content(t, c.members[1], hex)) {
		t.Error("wrong bytes were stored")
	}

	// With nobody else, there is an error and nothing else.
	c.members[1].onBlob(wrong(t, c.members[1], 0))
	forget(t, third)
	if err := third.Replicate(t.Context(), "hello", digest); err == nil {
		t.Error("wrong bytes were taken")
	}
	if err := whole(t, c, third, path, hex); err == nil || strings.Contains(err.Error(), "of digest") {
		t.Errorf("a client saw %v, want an answer that breaks off", err)
	}
	if third.hasData(hex) {
		t.Error("wrong bytes were stored")
	}
	if left := leftovers(t, third); len(left) > 0 {
		t.Errorf("left %q", left)
	}
	liar.fault.Store(nil)
	err := c.pull(t, third, "hello@"+digest)
	if err != nil {
		err = c.pull(t, third, "hello@"+digest) // the first try may have met the other liar
	}
	if err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// forget removes everything that a member has.
func forget(t *testing.T, m *member) {
	t.Helper()
	if _, err := m.GC(t.Context(), func(string) map[string]bool { return map[string]bool{} }); err != nil {
		t.Fatal(err)
	}
}

// TestWrongHalfIsNotContinued: one peer sends a wrong half and dies, the other continues it.
// Nobody knows who lied, so each is asked for the whole.
func TestWrongHalfIsNotContinued(t *testing.T) {
	t.Parallel()
	c, img, digest := spread(t, nil)
	_, hex := layerPath(t, img)
	liar := c.members[0]
	liar.onBlob(func(w http.ResponseWriter, req *http.Request, hex string) bool {
		b := content(t, liar, hex)
		b[0] ^= 1
		w.Header().Set("Content-Length", fmt.Sprint(len(b)))
		_, _ = w.Write(b[:len(b)/2])
		panic(http.ErrAbortHandler)
	})
	for range 8 { // the order of the peers is by chance
		forget(t, c.members[2])
		if err := c.members[2].Replicate(t.Context(), "hello", digest); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(content(t, c.members[2], hex), content(t, c.members[1], hex)) {
			t.Fatal("wrong bytes were stored")
		}
	}
}

// TestWrongManifest: the digest of a manifest is verified as well.
func TestWrongManifest(t *testing.T) {
	t.Parallel()
	c, _, digest := spread(t, nil)
	lie := func(w http.ResponseWriter, req *http.Request) bool {
		if !strings.Contains(req.URL.Path, "/manifests/") {
			return false
		}
		w.Header().Set("Content-Type", "application/vnd.docker.distribution.manifest.v2+json")
		w.Header().Set("Docker-Content-Digest", digest)
		_, _ = io.WriteString(w, `{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.v2+json"}`)
		return true
	}
	c.members[0].breakWith(lie)
	if err := c.pull(t, c.members[2], "hello@"+digest); err != nil {
		t.Errorf("with one honest peer: %v", err)
	}
	c.members[1].breakWith(lie)
	forget(t, c.members[2])
	if err := c.members[2].Replicate(t.Context(), "hello", digest); api.CodeOf(err) != api.CodeUnavailable {
		t.Errorf("without: %v", err)
	}
}

// TestSlowPeerIsLeft: one sends, but hardly anything; the other one is asked.
func TestSlowPeerIsLeft(t *testing.T) {
	t.Parallel()
	c, img, digest := spread(t, func(config *Config) { config.PeerIdle = time.Second })
	_, hex := layerPath(t, img)
	slow := c.members[0]
	slow.onBlob(func(w http.ResponseWriter, req *http.Request, hex string) bool {
		b := content(t, slow, hex)
		w.Header().Set("Content-Length", fmt.Sprint(len(b)))
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for len(b) > 0 {
			n := min(100, len(b))
			_, _ = w.Write(b[:n])
			b = b[n:]
			_ = http.NewResponseController(w).Flush()
			select {
			case <-tick.C:
			case <-req.Context().Done():
				return true
			}
		}
		return true
	})
	for range 4 {
		forget(t, c.members[2])
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		err := c.members[2].Replicate(ctx, "hello", digest)
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(content(t, c.members[2], hex), content(t, c.members[1], hex)) {
			t.Fatal("wrong bytes were stored")
		}
	}
}

// TestManyPullsShareOneFetch: the peer is asked once, and each client gets every byte.
func TestManyPullsShareOneFetch(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2, nil)
	a, b := c.members[0], c.members[1]
	img := bigImage(t, bigSize)
	c.push(t, a, "hello:v1", img)
	path, hex := layerPath(t, img)
	release := make(chan struct{})
	a.onBlob(func(w http.ResponseWriter, req *http.Request, hex string) bool {
		bytes := content(t, a, hex)
		w.Header().Set("Content-Length", fmt.Sprint(len(bytes)))
		_, _ = w.Write(bytes[:len(bytes)/2])
		_ = http.NewResponseController(w).Flush()
		<-release
		_, _ = w.Write(bytes[len(bytes)/2:])
		return true
	})
	const clients = 16
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			if i%2 == 0 {
				if err := whole(t, c, b, path, hex); err != nil {
					t.Error(err)
				}
				return
			}
			from := int64(i) * bigSize / clients
			resp, err := c.get(t.Context(), b, "GET", path, fmt.Sprintf("bytes=%d-", from))
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			got, err := io.ReadAll(resp.Body)
			if want := content(t, a, hex)[from:]; err != nil || resp.StatusCode != 206 || !bytes.Equal(got, want) {
				t.Errorf("from byte %d: %s, %d bytes, %v", from, resp.Status, len(got), err)
			}
		})
	}
	await(t, "not all clients wait for the same fetch", func() bool {
		b.flightsMu.Lock()
		defer b.flightsMu.Unlock()
		f := b.flights["hello@"+hex]
		return f != nil && f.users == clients
	})
	if b.hasData(hex) {
		t.Error("a half blob is visible")
	}
	close(release)
	wg.Wait()
	if n := a.askedFor("GET blobs"); n != 1 {
		t.Errorf("the peer was asked %d times", n)
	}
	if left := leftovers(t, b); len(left) > 0 || len(b.flights) > 0 {
		t.Errorf("left %q and %d flights", left, len(b.flights))
	}
}

// TestClientsThatLeave: a fetch ends with the last one who wants it, and not before.
func TestClientsThatLeave(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2, func(config *Config) { config.PeerIdle = time.Minute })
	a, b := c.members[0], c.members[1]
	img := bigImage(t, bigSize)
	digest := c.push(t, a, "hello:v1", img)
	path, hex := layerPath(t, img)
	ended := make(chan struct{})
	a.onBlob(half(t, a, func(req *http.Request) { <-req.Context().Done(); close(ended) }))

	ctx, cancel := context.WithCancel(t.Context())
	resp, err := c.get(ctx, b, "GET", path, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(resp.Body, make([]byte, 1000)); err != nil {
		t.Fatalf("the first bytes come before the last: %v", err)
	}
	cancel()
	resp.Body.Close()
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Fatal("the fetch goes on for nobody")
	}
	await(t, "the temporary file stays", func() bool { return len(leftovers(t, b)) == 0 })
	a.fault.Store(nil)
	if err := c.pull(t, b, "hello@"+digest); err != nil || !b.hasData(hex) {
		t.Errorf("afterwards: %v", err)
	}
}

// TestPushGoesOnAtAnotherServer: what a push was told of by HEAD is brought together.
func TestPushGoesOnAtAnotherServer(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, nil)
	a, b := c.members[0], c.members[1]
	base := randomImage(t, 3)
	c.push(t, a, "hello:v1", base)
	next, err := mutate.AppendLayers(base, first(t, randomImage(t, 1)))
	if err != nil {
		t.Fatal(err)
	}
	digest := c.push(t, b, "hello:v2", next)
	if n := a.askedFor("GET blobs"); n != 3 {
		t.Errorf("%d blobs came from the other server, want the 3 layers", n)
	}
	index := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: base}, mutate.IndexAddendum{Add: next})
	if err := remote.WriteIndex(c.ref(t, b, "hello:all"), index, as("admin"), remote.WithTransport(c.user.Transport)); err != nil {
		t.Fatal(err)
	}
	if !b.Holds("hello", digest) || !b.Holds("hello", digestOf(t, index)) {
		t.Error("the second server does not hold what was pushed to it")
	}
	a.kill()
	third := c.members[2]
	if err := third.Replicate(t.Context(), "hello", digestOf(t, index)); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{digest, digestOf(t, base), digestOf(t, index)} {
		if !third.Holds("hello", d) {
			t.Errorf("the third server does not hold %s", d)
		}
	}
	if left := leftovers(t, third); len(left) > 0 {
		t.Errorf("left %q", left)
	}
}

// TestDeadPeerDoesNotStopPushes: a push asks for what nobody has while a server is down.
func TestDeadPeerDoesNotStopPushes(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, func(config *Config) { config.PeerIdle = time.Second })
	c.members[2].breakWith(func(_ http.ResponseWriter, req *http.Request) bool { <-req.Context().Done(); return true })
	digest := c.push(t, c.members[0], "hello:v1", randomImage(t, 30))
	if n := c.members[2].askedFor("HEAD blobs"); n > 10 { // the client asks for four at once
		t.Errorf("the push waited %d times for the server that does not answer", n)
	}
	if err := c.pull(t, c.members[1], "hello@"+digest); err != nil {
		t.Error(err)
	}
	// That nobody else has it is not known while one cannot be asked.
	unknown := hex.EncodeToString(make([]byte, 32))
	for method, want := range map[string]int{"GET": 503, "HEAD": 404} {
		resp, err := c.get(t.Context(), c.members[0], method, "/v2/hello/manifests/sha256:"+unknown, "")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s of an unknown manifest: %s, want %d", method, resp.Status, want)
		}
	}
}

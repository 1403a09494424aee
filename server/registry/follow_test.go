package registry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distribution/distribution/v3/registry/storage"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"slipway/api"
)

func TestMissing(t *testing.T) {
	t.Parallel()
	at := func(n int) time.Time { return time.Unix(int64(n), 0) }
	wanted := []Image{{"b", "1", at(1)}, {"a", "3", at(3)}, {"a", "2", at(2)}, {"a", "3", at(9)}, {"a", "held", at(5)}, {"a", "old", time.Time{}}, {"c", "3", at(3)}}
	got := Missing(wanted, func(_, digest string) bool { return digest == "held" })
	want := []Image{{"a", "3", at(9)}, {"c", "3", at(3)}, {"a", "2", at(2)}, {"b", "1", at(1)}, {"a", "old", time.Time{}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	rand.Shuffle(len(wanted), func(i, j int) { wanted[i], wanted[j] = wanted[j], wanted[i] })
	if diff := cmp.Diff(want, Missing(wanted, func(_, digest string) bool { return digest == "held" })); diff != "" {
		t.Errorf("another order of the same: %s", diff)
	}
}

// TestReplicator runs in virtual time: two at once, the most urgent first, and ever longer
// waits before what failed is tried again.
func TestReplicator(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var (
			mu        sync.Mutex
			missing   = []string{"bad", "1", "2", "3", "4"}
			order     []string
			tries     []time.Duration
			now, most int
			start     = time.Now()
		)
		p := Replicator[string]{
			Missing: func() []string { mu.Lock(); defer mu.Unlock(); return slices.Clone(missing) },
			Fetch: func(_ context.Context, what string) error {
				mu.Lock()
				now++
				most = max(most, now)
				mu.Unlock()
				took := 10 * time.Millisecond
				if what == "bad" {
					took /= 2 // so that no two end at the same time
				}
				time.Sleep(took) // virtual
				mu.Lock()
				defer mu.Unlock()
				now--
				if what == "bad" {
					tries = append(tries, time.Since(start).Round(time.Second))
					return errors.New("no server has it")
				}
				order = append(order, what)
				missing = slices.DeleteFunc(missing, func(s string) bool { return s == what })
				return nil
			},
			Logger: slog.New(slog.DiscardHandler),
		}
		ctx, cancel := context.WithCancel(t.Context())
		changed := make(chan struct{}, 1)
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := p.Run(ctx, changed); err != nil {
				t.Error(err)
			}
		})
		time.Sleep(time.Second / 2) // virtual
		synctest.Wait()
		if diff := cmp.Diff([]string{"1", "2", "3", "4"}, order); diff != "" || most != replicasMax {
			t.Errorf("%d at once; order: %s", most, diff)
		}
		mu.Lock()
		missing = append(missing, "5")
		mu.Unlock()
		changed <- struct{}{}
		time.Sleep(time.Second / 2) // virtual
		synctest.Wait()
		if order[len(order)-1] != "5" {
			t.Errorf("a change was not looked at: %q", order)
		}
		time.Sleep(4 * time.Minute) // virtual
		synctest.Wait()
		want := []time.Duration{0, time.Second, 3 * time.Second, 7 * time.Second, 15 * time.Second, 31 * time.Second, 63 * time.Second,
			123 * time.Second, 183 * time.Second}
		if diff := cmp.Diff(want, tries); diff != "" {
			t.Errorf("tries: %s", diff)
		}
		cancel()
		wg.Wait()
	})
}

// follow runs Follow on a member until the test ends.
func (m *member) follow(t *testing.T, wanted func() []Image, changed <-chan struct{}) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := m.Follow(ctx, wanted, changed, nil); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
}

// TestFollow copies what the state names to all servers, and survives the one that took it in.
func TestFollow(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, nil)
	var mu sync.Mutex
	var wanted []Image
	changed := make([]chan struct{}, 3)
	for i, m := range c.members {
		changed[i] = make(chan struct{}, 1)
		m.follow(t, func() []Image { mu.Lock(); defer mu.Unlock(); return slices.Clone(wanted) }, changed[i])
	}
	name := func(repo, digest string) {
		mu.Lock()
		wanted = append(wanted, Image{repo, digest, time.Now()})
		mu.Unlock()
		for _, ch := range changed {
			select {
			case ch <- struct{}{}:
			default:
			}
		}
	}
	for i := range 6 {
		repo := fmt.Sprintf("app%d", i%2)
		name(repo, c.push(t, c.members[i%3], repo+":v1", randomImage(t, 2)))
	}
	base := randomImage(t, 1)
	index := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: base}, mutate.IndexAddendum{Add: randomImage(t, 2)})
	if err := remote.WriteIndex(c.ref(t, c.members[0], "app0:all"), index, as("admin"), remote.WithTransport(c.user.Transport)); err != nil {
		t.Fatal(err)
	}
	name("app0", digestOf(t, index))

	for _, i := range wanted {
		var holders []string
		await(t, i.Repository+"@"+i.Digest+" is not on all servers", func() bool {
			holders = c.members[0].Holders(t.Context(), i.Repository, i.Digest)
			return len(holders) == 3
		})
	}
	// Whatever the state names stays, and nothing else, on each server.
	for _, m := range c.members {
		_, err := m.GC(t.Context(), func(repo string) map[string]bool {
			keep := map[string]bool{}
			for _, i := range wanted[1:] {
				keep[i.Digest] = keep[i.Digest] || i.Repository == repo
			}
			return keep
		})
		if err != nil {
			t.Fatal(err)
		}
		if m.Holds(wanted[0].Repository, wanted[0].Digest) {
			t.Errorf("%s still holds what nothing names", m.id)
		}
		for _, i := range wanted[1:] {
			if !m.Holds(i.Repository, i.Digest) {
				t.Errorf("%s lost %s@%s", m.id, i.Repository, i.Digest)
			}
		}
		if left := leftovers(t, m); len(left) > 0 {
			t.Errorf("%s: left %q", m.id, left)
		}
	}
}

// TestFollowRepairs: what a collection or the disk took away comes back from a peer.
func TestFollowRepairs(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2, nil)
	img := randomImage(t, 1)
	digest := c.push(t, c.members[0], "hello:v1", img)
	changed := make(chan struct{}, 1)
	b := c.members[1]
	var looks atomic.Int64
	b.follow(t, func() []Image { looks.Add(1); return []Image{{Repository: "hello", Digest: digest}} }, changed)
	await(t, "it does not come", func() bool { return b.Holds("hello", digest) })
	for range 2 { // when the second look has begun, the first one has seen that it is there
		n := looks.Load()
		changed <- struct{}{}
		await(t, "nobody looks", func() bool { return looks.Load() > n })
	}
	forget(t, b) // as if the state had not named it for a moment
	if b.Holds("hello", digest) {
		t.Fatal("it is not gone")
	}
	changed <- struct{}{}
	await(t, "it does not come back", func() bool { return b.Holds("hello", digest) })

	_, hex := layerPath(t, img)
	if err := os.Remove(filepath.Join(b.root, blobData(hex))); err != nil {
		t.Fatal(err)
	}
	if b.Holds("hello", digest) {
		t.Error("it is not complete without its layer")
	}
	if _, err := b.GC(t.Context(), func(string) map[string]bool { return nil }); err != nil {
		t.Fatal(err)
	}
	changed <- struct{}{}
	await(t, "its layer does not come back", func() bool { return b.Holds("hello", digest) })
}

// TestFollowKeepsWhatIsPulled: an image that a client got through a server comes to stay there.
func TestFollowKeepsWhatIsPulled(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2, nil)
	digest := c.push(t, c.members[0], "hello:v1", randomImage(t, 2))
	b := c.members[1]
	b.follow(t, func() []Image { return nil }, nil)
	resp, err := c.get(t.Context(), b, "GET", "/v2/hello/manifests/"+digest, "")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	await(t, "the image does not come", func() bool { return b.Holds("hello", digest) })
}

// TestGCBesideReplication collects again and again, keeping nothing, while an image comes: what
// is being replicated stays until it is complete.
func TestGCBesideReplication(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2, nil) // no grace at all
	a, b := c.members[0], c.members[1]
	img := randomImage(t, 6)
	digest := c.push(t, a, "hello:v1", img)
	var stop atomic.Bool
	var collections atomic.Int64
	a.breakWith(func(_ http.ResponseWriter, req *http.Request) bool { // one collection at least between two blobs
		if n := collections.Load(); strings.Contains(req.URL.Path, "/blobs/") && !stop.Load() {
			await(t, "nothing is collected", func() bool { return collections.Load() > n+1 })
		}
		return false
	})
	var wg sync.WaitGroup
	wg.Go(func() {
		for !stop.Load() {
			_, err := b.GC(t.Context(), func(string) map[string]bool { return map[string]bool{} })
			if err != nil {
				t.Error(err)
			}
			collections.Add(1)
		}
	})
	for range 3 {
		if err := b.Replicate(t.Context(), "hello", digest); err != nil {
			t.Errorf("after %d collections: %v", collections.Load(), err)
		}
	}
	stop.Store(true)
	wg.Wait()
	if len(b.pins) > 0 {
		t.Errorf("%d digests stay pinned", len(b.pins))
	}
	forget(t, b)
	if b.Holds("hello", digest) {
		t.Error("what was replicated stays though nothing names it")
	}
	if left := leftovers(t, b); len(left) > 0 {
		t.Errorf("left %q", left)
	}
}

// TestReplicationStoppedAnywhere stops a replication in each of its changes: no name without
// content is left, and after a restart it is completed.
func TestReplicationStoppedAnywhere(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2, nil)
	index := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: randomImage(t, 2)}, mutate.IndexAddendum{Add: randomImage(t, 1)})
	if err := remote.WriteIndex(c.ref(t, c.members[0], "hello:all"), index, as("admin"), remote.WithTransport(c.user.Transport)); err != nil {
		t.Fatal(err)
	}
	digest := digestOf(t, index)
	config := c.members[1].Registry.config
	stopped := 0
	for n := 1; ; n++ {
		config.Root = t.TempDir()
		start := func() *Registry {
			r, err := New(config)
			if err != nil {
				t.Fatal(err)
			}
			return r
		}
		r := start()
		r.driver = &faulty{r.driver, n}
		var err error
		if r.store, err = storage.NewRegistry(t.Context(), r.driver, storage.EnableDelete); err != nil {
			t.Fatal(err)
		}
		err = r.Replicate(t.Context(), "hello", digest)
		if d := dangling(t, config.Root); len(d) > 0 {
			t.Errorf("stopped in change %d: %q", n, d)
		}
		if r.Holds("hello", digest) != (err == nil) {
			t.Errorf("stopped in change %d: %v, and it is held: %v", n, err, err != nil)
		}
		next := start()
		if errNext := next.Replicate(t.Context(), "hello", digest); errNext != nil || !next.Holds("hello", digest) {
			t.Errorf("after change %d and a restart: %v", n, errNext)
		}
		if left, errNext := os.ReadDir(filepath.Join(config.Root, fetchDir)); errNext != nil || len(left) > 0 {
			t.Errorf("after change %d and a restart: left %v, %v", n, left, errNext)
		}
		if err == nil {
			break
		}
		if !errors.Is(err, errStopped) {
			t.Fatalf("stopped in change %d: %v", n, err)
		}
		stopped++
	}
	if stopped < 15 { // five blobs with a link each, three manifests with a link each
		t.Errorf("only %d changes", stopped)
	}
}

// TestReplicationToAFullDisk says what is wrong, and keeps room for the Raft log.
func TestReplicationToAFullDisk(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2, func(config *Config) {
		if config.ID == "s1" {
			config.FreeMin = 1 << 60
		}
	})
	img := randomImage(t, 1)
	digest := c.push(t, c.members[0], "hello:v1", img)
	err := c.members[1].Replicate(t.Context(), "hello", digest)
	if api.CodeOf(err) != api.CodeExhausted || !strings.Contains(err.Error(), "the disk of the rack's registry") {
		t.Errorf("replicate: %v", err)
	}
	path, _ := layerPath(t, img)
	resp, err := c.get(t.Context(), c.members[1], "GET", path, "")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusInsufficientStorage {
		t.Errorf("pull: %s", resp.Status)
	}
	if got := fmt.Sprint(c.members[0].Spread(t.Context(), "hello", digest)); got != "[s0]" {
		t.Errorf("spread to %s", got)
	}
	if left := leftovers(t, c.members[1]); len(left) > 0 {
		t.Errorf("left %q", left)
	}
}

func TestNewerTags(t *testing.T) {
	t.Parallel()
	tag := func(name, digest string, at int) sharedTag {
		return sharedTag{"library/x", name, digest, time.Unix(int64(at), 0).UTC()}
	}
	got := newerTags([]sharedTag{tag("a", "1", 1), tag("b", "1", 5), tag("c", "1", 3), tag("e", "1", 1)},
		[]sharedTag{tag("a", "2", 2), tag("a", "3", 3), tag("b", "2", 4), tag("c", "2", 3), tag("d", "1", 1), tag("e", "1", 1)})
	want := []sharedTag{tag("a", "3", 3), tag("c", "2", 3), tag("d", "1", 1)}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestSharedImages: what belongs to no app is on every server as well, under its latest tag.
func TestSharedImages(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, func(config *Config) {
		config.Shared = func(repo string) bool { return strings.HasPrefix(repo, "library/") }
	})
	sync := func() {
		for range 2 {
			for _, m := range c.members {
				if err := m.takeOverTags(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	tagged := func(m *member) string {
		d, err := m.ResolveTag(t.Context(), "library/x", "latest")
		if err != nil && api.CodeOf(err) != api.CodeNotFound {
			t.Fatal(err)
		}
		return d
	}
	c.push(t, c.members[0], "hello:v1", randomImage(t, 1))
	first := c.push(t, c.members[0], "library/x:latest", randomImage(t, 1))
	second := c.push(t, c.members[1], "library/x:latest", randomImage(t, 1))
	// The third server hears of the first push only after the second one was made.
	c.members[1].breakWith(func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(500); return true })
	if err := c.members[2].takeOverTags(t.Context()); err != nil || tagged(c.members[2]) != first {
		t.Fatalf("latest is %s, want %s; %v", tagged(c.members[2]), first, err)
	}
	c.members[1].fault.Store(nil)
	sync()
	for _, m := range c.members {
		if got := tagged(m); got != second {
			t.Errorf("%s: latest is %s, want %s (before it was %s)", m.id, got, second, first)
		}
		if !m.Holds("library/x", second) {
			t.Errorf("%s does not hold it", m.id)
		}
		if _, err := m.ResolveTag(t.Context(), "hello", "v1"); (err == nil) != (m == c.members[0]) {
			t.Errorf("%s: the tag of an app: %v", m.id, err)
		}
	}
	third := c.push(t, c.members[2], "library/x:latest", randomImage(t, 1))
	resp, err := c.get(t.Context(), c.members[2], "DELETE", "/v2/library/x/manifests/"+third, "")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	sync()
	for _, m := range c.members {
		if got := tagged(m); resp.StatusCode != http.StatusAccepted || got == third || m.Holds("library/x", third) {
			t.Errorf("%s: what was deleted came back: latest is %s, %s", m.id, got, resp.Status)
		}
	}
	c.members[0].kill()
	resp, err = c.get(t.Context(), c.members[1], "DELETE", "/v2/library/x/manifests/"+second, "")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("a deletion that would be undone: %s", resp.Status)
	}
}

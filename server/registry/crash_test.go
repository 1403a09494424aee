package registry

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http/httptest"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/distribution/distribution/v3/registry/storage"
	"github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

func TestMain(m *testing.M) {
	if root := os.Getenv("REGISTRY_VICTIM"); root != "" {
		if err := victim(root); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// dangling lists the names in a registry's directory that lead nowhere: tags without a
// manifest, manifests without content, and what manifests refer to and is not there.
func dangling(t *testing.T, root string) (out []string) {
	t.Helper()
	top := filepath.Join(root, "docker/registry/v2/repositories")
	blob := func(digest string) ([]byte, error) {
		return os.ReadFile(filepath.Join(root, blobData(strings.TrimPrefix(digest, "sha256:"))))
	}
	err := filepath.WalkDir(top, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() != "link" {
			return err
		}
		b, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		digest, hex := string(b), strings.TrimPrefix(string(b), "sha256:")
		rel, _ := filepath.Rel(top, p)
		repo, kind, _ := strings.Cut(rel, "/_")
		switch {
		case strings.HasPrefix(kind, "manifests/tags/") && strings.HasSuffix(kind, "/current/link"):
			if _, err := os.Stat(filepath.Join(root, manifestLink(repo, hex))); err != nil {
				out = append(out, "tag "+rel)
			}
		case strings.HasPrefix(kind, "manifests/revisions/"):
			content, err := blob(digest)
			if err != nil {
				out = append(out, "manifest "+rel)
				return nil
			}
			var m struct {
				Config            v1.Descriptor
				Layers, Manifests []v1.Descriptor
			}
			if err := json.Unmarshal(content, &m); err != nil {
				return err
			}
			for _, r := range slices.Concat([]v1.Descriptor{m.Config}, m.Layers, m.Manifests) {
				if r.Digest.Hex == "" {
					continue
				}
				if _, err := blob(r.Digest.String()); err != nil {
					out = append(out, "content of "+rel)
				}
			}
		case strings.HasPrefix(kind, "layers/"):
			if _, err := os.Stat(filepath.Join(root, blobData(hex))); err != nil {
				out = append(out, "layer "+rel)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// faulty is a driver that stops in the middle of its nth change, and makes none after.
type faulty struct {
	driver.StorageDriver
	left int
}

var errStopped = errors.New("the power failed")

// Delete implements driver.StorageDriver: the last one removes only a part.
func (f *faulty) Delete(ctx context.Context, p string) error {
	f.left--
	if f.left > 0 {
		return f.StorageDriver.Delete(ctx, p)
	}
	if f.left == 0 {
		removed := false
		err := f.Walk(ctx, p, func(i driver.FileInfo) error {
			if i.IsDir() || removed {
				return nil
			}
			removed = true
			return f.StorageDriver.Delete(ctx, i.Path())
		})
		return errors.Join(err, errStopped)
	}
	return errStopped
}

// Move implements driver.StorageDriver.
func (f *faulty) Move(ctx context.Context, from, to string) error {
	if f.left--; f.left <= 0 {
		return errStopped
	}
	return f.StorageDriver.Move(ctx, from, to)
}

// PutContent implements driver.StorageDriver.
func (f *faulty) PutContent(ctx context.Context, p string, b []byte) error {
	if f.left--; f.left <= 0 {
		return errStopped
	}
	return f.StorageDriver.PutContent(ctx, p, b)
}

// TestGCStoppedAnywhere stops a collection in each of its changes.
func TestGCStoppedAnywhere(t *testing.T) {
	t.Parallel()
	r := newRack(t, nil)
	base := randomImage(t, 1)
	with := func() v1.Image {
		img, err := mutate.AppendLayers(base, first(t, randomImage(t, 1)))
		if err != nil {
			t.Fatal(err)
		}
		return img
	}
	kept, gone := with(), with()
	keptDigest := r.push(t, "hello:v2", kept)
	for _, ref := range []string{"hello:v1", "hello:latest", "dead:v1"} {
		r.push(t, ref, gone)
	}
	index := mutate.AppendManifests(mutate.IndexMediaType(randomIndex(t), "application/vnd.oci.image.index.v1+json"), mutate.IndexAddendum{Add: with()})
	if err := remote.WriteIndex(r.ref(t, "dead:index"), index, as("admin")); err != nil {
		t.Fatal(err)
	}
	keep := func(repo string) map[string]bool {
		return map[string]map[string]bool{"hello": {keptDigest: true}, "dead": {}}[repo]
	}
	copied := func(i int) string {
		dir := filepath.Join(t.TempDir(), fmt.Sprint(i))
		if err := os.CopyFS(dir, os.DirFS(r.root)); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	clean := func(dir string) string {
		reg := newRack(t, func(c *Config) { c.Root = dir })
		if _, err := reg.GC(t.Context(), keep); err != nil {
			t.Fatalf("collection: %v", err)
		}
		if err := reg.pull(t, "hello@"+keptDigest); err != nil {
			t.Errorf("the image that is kept: %v", err)
		}
		return listing(t, dir)
	}
	want := clean(copied(0))

	stopped := 0
	for n := 1; ; n++ {
		dir := copied(n)
		reg := newRack(t, func(c *Config) { c.Root = dir })
		reg.Registry.driver = &faulty{reg.Registry.driver, n}
		var err error
		if reg.store, err = storage.NewRegistry(t.Context(), reg.Registry.driver, storage.EnableDelete); err != nil {
			t.Fatal(err)
		}
		_, err = reg.GC(t.Context(), keep)
		if d := dangling(t, dir); len(d) > 0 {
			t.Errorf("stopped in change %d: %q", n, d)
		}
		if diff := cmp.Diff(want, clean(dir)); diff != "" {
			t.Errorf("stopped in change %d, the next collection left: %s", n, diff)
		}
		if err == nil {
			break
		}
		if !errors.Is(err, errStopped) {
			t.Fatalf("stopped in change %d: %v", n, err)
		}
		stopped++
	}
	if stopped < 10 {
		t.Errorf("only %d changes", stopped)
	}
}

func randomIndex(t *testing.T) v1.ImageIndex {
	t.Helper()
	index, err := random.Index(1000, 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	return index
}

// listing names everything in a registry but the parents of blobs, of which some are empty.
func listing(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := fs.WalkDir(os.DirFS(dir), ".", func(p string, d fs.DirEntry, err error) error {
		if err == nil && (!d.IsDir() || !strings.Contains(p, "/blobs/")) {
			b.WriteString(p + "\n")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestGCRemovesWhatLostItsContent takes content away from an image that is kept.
func TestGCRemovesWhatLostItsContent(t *testing.T) {
	t.Parallel()
	r := newRack(t, nil)
	lost, whole := r.push(t, "hello:lost", randomImage(t, 1)), r.push(t, "hello:whole", randomImage(t, 1))
	if err := os.RemoveAll(filepath.Join(r.root, path.Dir(blobData(strings.TrimPrefix(lost, "sha256:"))))); err != nil {
		t.Fatal(err)
	}
	if _, err := r.GC(t.Context(), func(string) map[string]bool { return nil }); err != nil {
		t.Fatal(err)
	}
	if d := dangling(t, r.root); len(d) > 0 {
		t.Errorf("left: %q", d)
	}
	if err := r.pull(t, "hello@"+whole); err != nil {
		t.Error(err)
	}
}

// victim pushes and collects until it is killed. It prints each image that must not be lost.
func victim(root string) error {
	var mu sync.Mutex
	keep := map[string]bool{}
	reg, err := New(Config{Root: root, HTTPSecret: "s", Grace: time.Minute, FreeMin: 1, Logger: slog.New(slog.DiscardHandler),
		Authorize: func(_, _, _, _ string) error { return nil }})
	if err != nil {
		return err
	}
	server := httptest.NewServer(reg)
	host := strings.TrimPrefix(server.URL, "http://")
	go func() { // until the end
		for {
			_, err := reg.GC(context.Background(), func(string) map[string]bool {
				mu.Lock()
				defer mu.Unlock()
				out := map[string]bool{}
				for d := range keep {
					out[d] = true
				}
				return out
			})
			if err != nil {
				fmt.Println("error", err)
			}
		}
	}()
	for i := 0; ; i++ {
		img, err := random.Image(20_000, 2)
		if err != nil {
			return err
		}
		digest, err := img.Digest()
		if err != nil {
			return err
		}
		if i%2 == 0 {
			mu.Lock()
			keep[digest.String()] = true
			mu.Unlock()
		}
		ref, err := name.ParseReference(fmt.Sprintf("%s/app%d:t%d", host, i%3, i%7))
		if err != nil {
			return err
		}
		if err := remote.Write(ref, img); err != nil {
			fmt.Println("error", err)
		} else if i%2 == 0 {
			fmt.Printf("kept app%d@%s\n", i%3, digest)
		}
	}
}

// TestKilledServerLosesNothing kills a server again and again while it pushes and collects.
func TestKilledServerLosesNothing(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	for round := range 4 {
		// What earlier rounds have pushed is old now, and nobody keeps it.
		old := time.Now().Add(-time.Hour)
		err := filepath.WalkDir(root, func(p string, _ fs.DirEntry, err error) error { return errors.Join(err, os.Chtimes(p, old, old)) })
		if err != nil {
			t.Fatal(err)
		}
		earlier, err := filepath.Glob(filepath.Join(root, "docker/registry/v2/blobs/sha256/*/*/data"))
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "REGISTRY_VICTIM="+root)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		var kept []string
		lines := bufio.NewScanner(out)
		for len(kept) < 5+2*round && lines.Scan() {
			if ref, ok := strings.CutPrefix(lines.Text(), "kept "); ok {
				kept = append(kept, ref)
			} else {
				t.Errorf("round %d: %s", round, lines.Text())
			}
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, out)
		_ = cmd.Wait()

		if d := dangling(t, root); len(d) > 0 {
			t.Errorf("round %d: %q", round, d)
		}
		r := newRack(t, func(c *Config) { c.Root = root; c.Grace = -1 })
		for _, ref := range kept {
			if err := r.pull(t, ref); err != nil {
				t.Errorf("round %d: %s was acknowledged and is lost: %v", round, ref, err)
			}
		}
		if len(kept) < 5 {
			t.Fatalf("round %d: the victim ended after %d images", round, len(kept))
		}
		if _, err := r.GC(t.Context(), func(string) map[string]bool { return nil }); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		isThere := func(p string) bool { _, err := os.Stat(p); return err == nil }
		if len(earlier) > 0 && !slices.ContainsFunc(earlier, func(p string) bool { return !isThere(p) }) {
			t.Errorf("round %d: none of %d blobs was collected", round, len(earlier))
		}
	}
}

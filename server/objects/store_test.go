package objects

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"slipway/api"
)

func open(t *testing.T) *Store {
	t.Helper()
	s, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestPutOpenListDelete(t *testing.T) {
	t.Parallel()
	s, content := open(t), []byte("a source archive")

	digest, size, err := s.Put(t.Context(), bytes.NewReader(content), api.MiB)
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("sha256:%x", sha256.Sum256(content)); digest != want || size != api.Bytes(len(content)) {
		t.Fatalf("got %s of %d bytes, want %s of %d", digest, size, want, len(content))
	}
	if again, _, err := s.Put(t.Context(), bytes.NewReader(content), api.MiB); err != nil || again != digest {
		t.Fatalf("same content again: %s, %v", again, err)
	}
	list, err := s.List()
	if err != nil || len(list) != 1 || list[0].Digest != digest || list[0].Size != size {
		t.Fatalf("list: %+v, %v", list, err)
	}

	f, err := s.Open(digest)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := errors.Join(s.Delete(digest), s.Delete(digest)); err != nil {
		t.Fatalf("delete twice: %v", err)
	}
	if got, err := io.ReadAll(f); err != nil || !bytes.Equal(got, content) {
		t.Fatalf("read while deleted: %q, %v", got, err)
	}
	if _, err := s.Open(digest); api.CodeOf(err) != api.CodeNotFound {
		t.Fatalf("open after delete: %v", err)
	}
}

func TestPutRefuses(t *testing.T) {
	t.Parallel()
	s := open(t)

	if _, _, err := s.Put(t.Context(), strings.NewReader("12345"), 5); err != nil {
		t.Fatalf("exactly the limit: %v", err)
	}
	if _, _, err := s.Put(t.Context(), strings.NewReader("123456"), 5); api.CodeOf(err) != api.CodeExhausted {
		t.Fatalf("one byte over the limit: %v", err)
	}
	broken := io.MultiReader(strings.NewReader("half"), errReader{})
	if _, _, err := s.Put(t.Context(), broken, api.MiB); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatalf("upload cut off: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := s.Put(ctx, strings.NewReader("x"), api.MiB); !errors.Is(err, context.Canceled) {
		t.Fatalf("cancelled: %v", err)
	}
	if left, err := os.ReadDir(s.tmp); err != nil || len(left) != 0 {
		t.Fatalf("failed uploads left %v, %v", left, err)
	}
	if list, err := s.List(); err != nil || len(list) != 1 {
		t.Fatalf("store has %v, %v, want only the first object", list, err)
	}
}

func TestDigestsAreChecked(t *testing.T) {
	t.Parallel()
	s := open(t)
	for _, d := range []string{"", "sha256:", "sha256:../../tmp/x", "md5:" + strings.Repeat("a", 64), "sha256:" + strings.Repeat("A", 64),
		"sha256:" + strings.Repeat("a", 63) + "/", "sha256:" + strings.Repeat("a", 65), strings.Repeat("a", 64)} {
		if _, err := s.Open(d); api.CodeOf(err) != api.CodeInvalid {
			t.Errorf("open %q: %v", d, err)
		}
		if err := s.Delete(d); api.CodeOf(err) != api.CodeInvalid {
			t.Errorf("delete %q: %v", d, err)
		}
	}
}

func TestHalfUploadsAreRemovedAtOpen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "tmp"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "tmp", "put-1"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(s.tmp); err != nil || len(left) != 0 {
		t.Fatalf("left %v, %v", left, err)
	}
}

func TestCollectKeepsWhatIsNeededOrYoung(t *testing.T) {
	t.Parallel()
	s := open(t)
	put := func(text string, age time.Duration) string {
		digest, _, err := s.Put(t.Context(), strings.NewReader(text), api.MiB)
		if err != nil {
			t.Fatal(err)
		}
		when := time.Now().Add(-age)
		if err := os.Chtimes(filepath.Join(s.blobs, strings.TrimPrefix(digest, digestPrefix)), when, when); err != nil {
			t.Fatal(err)
		}
		return digest
	}
	needed, young, asked, gone := put("needed", 2*time.Hour), put("young", 0), put("asked", 2*time.Hour), put("gone", 2*time.Hour)
	if !s.Has(asked) || s.Has("sha256:"+strings.Repeat("a", 64)) || s.Has("../x") {
		t.Error("Has is wrong")
	}
	freed, err := s.Collect(map[string]bool{needed: true, "": true}, time.Hour)
	if err != nil || freed != api.Bytes(len("gone")) {
		t.Errorf("freed %d, %v", freed, err)
	}
	for digest, want := range map[string]bool{needed: true, young: true, asked: true, gone: false} {
		if s.Has(digest) != want {
			t.Errorf("%s: there %v, want %v", digest, !want, want)
		}
	}
}

// TestFullDiskIsSaid fills a small disk; what was stored before stays whole.
func TestFullDiskIsSaid(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("needs root to mount a small disk")
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=8m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	before, _, err := s.Put(t.Context(), io.LimitReader(zeros{}, 2<<20), api.GiB)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Put(t.Context(), zeros{}, api.GiB); api.CodeOf(err) != api.CodeExhausted || !strings.Contains(err.Error(), "is full") {
		t.Errorf("put on a full disk: %v", err)
	}
	if left, err := os.ReadDir(s.tmp); err != nil || len(left) != 0 {
		t.Errorf("it left %v, %v", left, err)
	}
	if _, _, err := s.Put(t.Context(), strings.NewReader("small"), api.MiB); err != nil || !s.Has(before) {
		t.Errorf("afterwards: %v, there before %v", err, s.Has(before))
	}
}

func TestConcurrentPutsOfTheSameContent(t *testing.T) {
	t.Parallel()
	s := open(t)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			if _, _, err := s.Put(t.Context(), strings.NewReader("same"), api.MiB); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if list, err := s.List(); err != nil || len(list) != 1 {
		t.Fatalf("store has %v, %v", list, err)
	}
}

func TestMemoryIsFlat(t *testing.T) {
	s := open(t)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, _, err := s.Put(t.Context(), io.LimitReader(zeros{}, 64<<20), 64*api.MiB); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 1<<20 {
		t.Fatalf("64 MiB upload allocated %d bytes", grown)
	}
}

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

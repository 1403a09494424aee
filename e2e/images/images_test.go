package images

import (
	"archive/tar"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

func TestImagesAreSoundAndDeterministic(t *testing.T) {
	t.Parallel()
	program := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(program, []byte("not really"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, make := range map[string]func() (v1.Image, error){
		"busybox": Busybox,
		"binary":  func() (v1.Image, error) { return FromBinary(program, "serve") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, err := make()
			if err != nil {
				t.Fatal(err)
			}
			b, err := make()
			if err != nil {
				t.Fatal(err)
			}
			checkLayers(t, a)
			x, errX := a.Digest()
			y, errY := b.Digest()
			if errX != nil || errY != nil || x != y {
				t.Errorf("digests %s and %s, %v, %v", x, y, errX, errY)
			}
		})
	}
}

func TestGolangIsCached(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("packs a toolchain")
	}
	cache := t.TempDir()
	a, err := Golang(cache)
	if err != nil {
		t.Fatal(err)
	}
	b, err := Golang(cache)
	if err != nil {
		t.Fatal(err)
	}
	x, errX := a.Digest()
	y, errY := b.Digest()
	if errX != nil || errY != nil || x != y {
		t.Fatalf("digests %s and %s, %v, %v", x, y, errX, errY)
	}
	layers, err := b.Layers()
	if err != nil {
		t.Fatal(err)
	}
	r, err := layers[1].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	found := map[string]bool{"usr/local/go/bin/go": false, "usr/local/go/src/fmt/print.go": false}
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := found[h.Name]; ok {
			found[h.Name] = true
		}
	}
	for name, ok := range found {
		if !ok {
			t.Errorf("%s is missing", name)
		}
	}
}

// checkLayers reads every layer and compares the sums it claims.
func checkLayers(t *testing.T, img v1.Image) {
	t.Helper()
	layers, err := img.Layers()
	if err != nil || len(layers) == 0 {
		t.Fatalf("%d layers, %v", len(layers), err)
	}
	for _, l := range layers {
		for name, of := range map[string]struct {
			want func() (v1.Hash, error)
			open func() (io.ReadCloser, error)
		}{"digest": {l.Digest, l.Compressed}, "diff ID": {l.DiffID, l.Uncompressed}} {
			want, err := of.want()
			if err != nil {
				t.Fatal(err)
			}
			r, err := of.open()
			if err != nil {
				t.Fatal(err)
			}
			sum := sha256.New()
			_, err = io.Copy(sum, r)
			if err := errors.Join(err, r.Close()); err != nil {
				t.Fatal(err)
			}
			if got := fmt.Sprintf("sha256:%x", sum.Sum(nil)); got != want.String() {
				t.Errorf("%s is %s, the content has %s", name, want, got)
			}
		}
	}
}

package images

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"io"
	"slices"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
)

// names are those of the entries of an archive.
func names(t *testing.T, r io.Reader) (all []string) {
	t.Helper()
	for a := tar.NewReader(r); ; {
		h, err := a.Next()
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, h.Name)
	}
}

func TestArchives(t *testing.T) {
	entries := []Entry{File("b", "two"), {Header: tar.Header{Typeflag: tar.TypeSymlink, Name: "a", Linkname: "b"}}, File("../c", "")}
	want := []string{"b", "a", "../c"}
	zipped, err := Zipped(entries...)
	if err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(bytes.NewReader(zipped))
	if err != nil {
		t.Fatal(err)
	}
	if got := names(t, z); !slices.Equal(got, want) {
		t.Errorf("the archive has %q, want %q", got, want)
	}
	l, err := Layer(entries...)
	if err != nil {
		t.Fatal(err)
	}
	content, err := l.Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	if got := names(t, content); !slices.Equal(got, want) {
		t.Errorf("the layer has %q, want %q", got, want)
	}
	image, err := mutate.AppendLayers(empty.Image, l)
	if err != nil {
		t.Fatal(err)
	}
	b, err := Layout(mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: image}))
	if err != nil {
		t.Fatal(err)
	}
	digest, err := image.Digest()
	if err != nil {
		t.Fatal(err)
	}
	got := names(t, bytes.NewReader(b))
	for _, name := range []string{"index.json", "oci-layout", "blobs/sha256/" + digest.Hex} {
		if !slices.Contains(got, name) {
			t.Errorf("the layout has %q, not %s", got, name)
		}
	}
	if _, err := Archive(Entry{Header: tar.Header{Name: "x", Typeflag: tar.TypeDir}, Content: "of a directory"}); err == nil {
		t.Error("a directory with a content is packed")
	}
}

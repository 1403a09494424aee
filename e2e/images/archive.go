package images

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// Entry is one of an archive. Its size is that of the content.
type Entry struct {
	tar.Header
	Content string
}

// File is the entry of a file that everybody may run.
func File(name, content string) Entry {
	return Entry{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o755}, content}
}

// Archive packs entries in their order, whatever they are.
func Archive(entries ...Entry) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		e.Size = int64(len(e.Content))
		if err := w.WriteHeader(&e.Header); err != nil {
			return nil, err
		}
		if _, err := io.WriteString(w, e.Content); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return b.Bytes(), err
}

// Zipped is Archive, compressed.
func Zipped(entries ...Entry) ([]byte, error) {
	plain, err := Archive(entries...)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, err = z.Write(plain)
	err = errors.Join(err, z.Close())
	return b.Bytes(), err
}

// Layer is a layer of entries.
func Layer(entries ...Entry) (v1.Layer, error) {
	b, err := Archive(entries...)
	if err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil })
}

// Layout packs images as a tar of an OCI layout.
func Layout(index v1.ImageIndex) ([]byte, error) {
	dir, err := os.MkdirTemp("", "slipway-layout-*")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if _, err := layout.Write(dir, index); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	err = errors.Join(w.AddFS(os.DirFS(dir)), w.Close())
	return b.Bytes(), err
}

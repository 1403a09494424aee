package images

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"
)

// epoch is the time of every file in a layer: fixed, so that digests are, and not zero, which
// some tools take for "unknown".
var epoch = time.Unix(1_600_000_000, 0)

// layer is a zstd-compressed layer whose digests are known.
type layer struct {
	sums
	open func() (io.ReadCloser, error)
}

// sums is what a registry has to know of a layer.
type sums struct {
	Digest v1.Hash `json:"digest"`
	DiffID v1.Hash `json:"diff_id"`
	Size   int64   `json:"size"` // compressed, in bytes
}

// registryLayer gives a layer the method names that v1.Layer wants.
type registryLayer struct{ l *layer }

// Digest implements v1.Layer.
func (r registryLayer) Digest() (v1.Hash, error) { return r.l.Digest, nil }

// DiffID implements v1.Layer.
func (r registryLayer) DiffID() (v1.Hash, error) { return r.l.DiffID, nil }

// Size implements v1.Layer.
func (r registryLayer) Size() (int64, error) { return r.l.Size, nil }

// MediaType implements v1.Layer.
func (r registryLayer) MediaType() (types.MediaType, error) { return types.OCILayerZStd, nil }

// Compressed implements v1.Layer.
func (r registryLayer) Compressed() (io.ReadCloser, error) { return r.l.open() }

// Uncompressed implements v1.Layer.
func (r registryLayer) Uncompressed() (io.ReadCloser, error) {
	f, err := r.l.open()
	if err != nil {
		return nil, err
	}
	d, err := zstd.NewReader(f, zstd.WithDecoderConcurrency(1))
	if err != nil {
		f.Close()
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{d, closers{d.IOReadCloser(), f}}, nil
}

type closers [2]io.Closer

// Close implements io.Closer.
func (c closers) Close() error {
	first := c[0].Close()
	if err := c[1].Close(); err != nil {
		return err
	}
	return first
}

// memoryLayer holds the archive that write makes.
func memoryLayer(write func(*tar.Writer) error) (v1.Layer, error) {
	var buf bytes.Buffer
	s, err := compress(&buf, write)
	if err != nil {
		return nil, err
	}
	return registryLayer{&layer{s, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(buf.Bytes())), nil }}}, nil
}

// cachedLayer is memoryLayer on disk: the archive is made once per key and cache directory.
func cachedLayer(dir, key string, write func(*tar.Writer) error) (v1.Layer, error) {
	path := filepath.Join(dir, key+".tar.zst")
	l := &layer{open: func() (io.ReadCloser, error) { return os.Open(path) }}
	if b, err := os.ReadFile(path + ".json"); err == nil && json.Unmarshal(b, &l.sums) == nil {
		if info, err := os.Stat(path); err == nil && info.Size() == l.Size {
			return registryLayer{l}, nil
		}
	}

	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(dir, key+".*.tmp")
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if l.sums, err = compress(f, write); err != nil {
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	b, err := json.Marshal(l.sums)
	if err != nil {
		return nil, err
	}
	// Two makers at once write the same bytes, so it does not matter whose rename is last.
	if err := os.Rename(f.Name(), path); err != nil {
		return nil, err
	}
	return registryLayer{l}, os.WriteFile(path+".json", b, 0o644)
}

// compress writes the archive to w and returns its sums.
func compress(w io.Writer, write func(*tar.Writer) error) (sums, error) {
	packed, plain := sha256.New(), sha256.New()
	count := &counter{}
	z, err := zstd.NewWriter(io.MultiWriter(w, packed, count), zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return sums{}, err
	}
	t := tar.NewWriter(io.MultiWriter(z, plain))
	if err := write(t); err != nil {
		z.Close()
		return sums{}, err
	}
	if err := t.Close(); err != nil {
		z.Close()
		return sums{}, err
	}
	if err := z.Close(); err != nil {
		return sums{}, err
	}
	return sums{Digest: toHash(packed), DiffID: toHash(plain), Size: count.n}, nil
}

func toHash(h hash.Hash) v1.Hash {
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(h.Sum(nil))}
}

type counter struct{ n int64 }

// Write implements io.Writer.
func (c *counter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return len(p), nil
}

// The helpers below add one entry each.

func addDir(t *tar.Writer, name string, mode int64) error {
	return t.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: mode, ModTime: epoch})
}

func addLink(t *tar.Writer, name, target string) error {
	return t.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777, ModTime: epoch})
}

func addText(t *tar.Writer, name, text string) error {
	h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(text)), ModTime: epoch}
	if err := t.WriteHeader(h); err != nil {
		return err
	}
	_, err := io.WriteString(t, text)
	return err
}

func addFile(t *tar.Writer, name, path string, mode int64) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: info.Size(), ModTime: epoch}); err != nil {
		return err
	}
	if _, err := io.Copy(t, f); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

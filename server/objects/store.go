package objects

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"slipway/api"
	"slipway/durable"
)

const (
	digestPrefix = "sha256:"
	// copyBuffer is the only memory that an upload of any size takes, in bytes.
	copyBuffer = 256 << 10
)

// Store is a directory of content-addressed objects.
type Store struct {
	blobs string
	tmp   string
	peers Peers // nil without any

	mu sync.Mutex

	fetching map[string]chan struct{} // closed when the transfer of a digest has ended
}

// Object describes one stored object.
type Object struct {
	Digest string // "sha256:…"
	Size   api.Bytes
	// Stored is when its newest Put ended, or Has was asked for it last.
	Stored time.Time
}

// Open returns the store in dir, made if need be. Uploads that an earlier run left half done
// are removed, so only one process may use a directory.
func Open(dir string) (*Store, error) {
	s := &Store{blobs: filepath.Join(dir, "blobs", "sha256"), tmp: filepath.Join(dir, "tmp"), fetching: map[string]chan struct{}{}}
	if err := os.RemoveAll(s.tmp); err != nil {
		return nil, fmt.Errorf("object store %q: remove half uploads: %w", dir, err)
	}
	for _, d := range []string{s.blobs, s.tmp} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, fmt.Errorf("object store %q: %w", dir, err)
		}
	}
	return s, nil
}

// Put stores what r delivers until its end and returns its digest and size. More than limit
// bytes, or a full disk, is an error of code exhausted; a cancelled ctx stops the copy. Nothing
// is kept of a failed Put.
func (s *Store) Put(ctx context.Context, r io.Reader, limit api.Bytes) (string, api.Bytes, error) {
	f, err := os.CreateTemp(s.tmp, "put-")
	if err != nil {
		return "", 0, s.failed("store an object", err)
	}
	defer os.Remove(f.Name())
	defer f.Close()

	sum := sha256.New()
	src := io.LimitReader(contextReader{ctx, r}, int64(limit)+1)
	n, err := io.CopyBuffer(io.MultiWriter(f, sum), src, make([]byte, copyBuffer))
	if err != nil {
		return "", 0, s.failed("store an object", err)
	}
	if n > int64(limit) {
		return "", 0, api.Errorf(api.CodeExhausted,
			"source is larger than %s; leave out what the build does not need with .dockerignore", limit)
	}
	if err := f.Sync(); err != nil {
		return "", 0, s.failed("store an object", err)
	}

	name := hex.EncodeToString(sum.Sum(nil))
	if err := os.Rename(f.Name(), filepath.Join(s.blobs, name)); err != nil {
		return "", 0, s.failed("store an object", err)
	}
	if err := durable.SyncDir(s.blobs); err != nil {
		return "", 0, s.failed("store an object", err)
	}
	return digestPrefix + name, api.Bytes(n), nil
}

// Open returns the content of an object. The caller closes it; deleting the object meanwhile
// does no harm. An unknown digest is an error of code not_found.
func (s *Store) Open(digest string) (*os.File, error) {
	path, err := s.path(digest)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, api.Errorf(api.CodeNotFound, "object %s is not in the store: %w", digest, err)
	}
	if err != nil {
		return nil, fmt.Errorf("open object %s: %w", digest, err)
	}
	return f, nil
}

// Has reports whether an object is there, and makes it as young as if it had just been put: who
// is told that it is there will not send it again.
func (s *Store) Has(digest string) bool {
	path, err := s.path(digest)
	if err != nil {
		return false
	}
	now := time.Now()
	return os.Chtimes(path, now, now) == nil
}

// Collect deletes the objects that keep does not name, but for those younger than grace, which
// may be of a build that is just being made. It returns what that freed.
func (s *Store) Collect(keep map[string]bool, grace time.Duration) (api.Bytes, error) {
	list, err := s.List()
	if err != nil {
		return 0, err
	}
	var freed api.Bytes
	for _, o := range list {
		if keep[o.Digest] || time.Since(o.Stored) < grace {
			continue
		}
		if err := s.Delete(o.Digest); err != nil {
			return freed, err
		}
		freed += o.Size
	}
	return freed, nil
}

// Delete removes an object. One that does not exist is no error.
func (s *Store) Delete(digest string) error {
	path, err := s.path(digest)
	if err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("delete object %s: %w", digest, err)
	}
	return nil
}

// List returns every object, ordered by digest.
func (s *Store) List() ([]Object, error) {
	entries, err := os.ReadDir(s.blobs)
	if err != nil {
		return nil, fmt.Errorf("list objects: %w", err)
	}
	var out []Object
	for _, e := range entries {
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // deleted since ReadDir
		}
		if err != nil {
			return nil, fmt.Errorf("list objects: %w", err)
		}
		out = append(out, Object{digestPrefix + e.Name(), api.Bytes(info.Size()), info.ModTime()})
	}
	return out, nil
}

// path returns where an object lies; it accepts nothing but a well-formed digest, for digests
// come from clients.
func (s *Store) path(digest string) (string, error) {
	name, ok := strings.CutPrefix(digest, digestPrefix)
	if b, err := hex.DecodeString(name); !ok || err != nil || len(b) != sha256.Size || name != strings.ToLower(name) {
		return "", api.Errorf(api.CodeInvalid, "object digest %.80q is not \"sha256:\" and 64 hex digits", digest)
	}
	return filepath.Join(s.blobs, name), nil
}

func (s *Store) failed(op string, err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return api.Errorf(api.CodeExhausted, "%s: the disk of %s is full; free space there or add a disk: %w", op, s.blobs, err)
	}
	return fmt.Errorf("%s: %w", op, err)
}

// contextReader ends a copy when ctx does.
type contextReader struct {
	ctx context.Context //nolint:containedctx // lives as long as one Put
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := context.Cause(c.ctx); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

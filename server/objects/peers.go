package objects

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"slipway/api"
	"slipway/durable"
)

// PeerPath is where Handler is to be mounted.
const PeerPath = "/objects/"

// Sink takes the bytes of a download. Reset tells the size before the first byte, and that what
// came before is void.
type Sink = interface {
	io.Writer
	Reset(size int64) error
}

// Peers are the other servers of the rack, as a Store needs them. Each serves a Handler.
type Peers interface {
	// Download writes what path names on the first server that has it, and verifies the digest.
	Download(ctx context.Context, path, digest string, sink Sink) error
	// Holders returns the IDs of the servers that have what path names.
	Holders(ctx context.Context, path string) []string
	// Spread makes every server fetch what path names and returns the IDs of those that have it.
	Spread(ctx context.Context, path string) []string
}

// Connect tells the store of the other servers. It is called before the store is used.
func (s *Store) Connect(peers Peers) { s.peers = peers }

// Fetch makes this server hold an object, from the peers that hold it. Many callers share one
// transfer. An error of code not_found means that no server has it; of code unavailable, that not
// every one could be asked.
func (s *Store) Fetch(ctx context.Context, digest string) error {
	path, err := s.path(digest)
	if err != nil {
		return err
	}
	unlock, err := s.lock(ctx, digest)
	if err != nil {
		return fmt.Errorf("fetch object %s: %w", digest, err)
	}
	defer unlock()
	if s.Has(digest) {
		return nil
	}
	if s.peers == nil {
		return api.Errorf(api.CodeNotFound, "object %s is not in the store, and there is no other server", digest)
	}
	if err := s.download(ctx, digest, path); err != nil {
		return fmt.Errorf("fetch object %s: %w", digest, err)
	}
	return nil
}

func (s *Store) download(ctx context.Context, digest, path string) error {
	f, err := os.CreateTemp(s.tmp, "fetch-")
	if err != nil {
		return s.failed("store it", err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if err := s.peers.Download(ctx, PeerPath+digest, digest, &fetched{s, f}); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return s.failed("store it", err)
	}
	now := time.Now()
	err = errors.Join(os.Chtimes(f.Name(), now, now), os.Rename(f.Name(), path), durable.SyncDir(s.blobs))
	if err != nil {
		return s.failed("store it", err)
	}
	return nil
}

// fetched is the file of a download.
type fetched struct {
	store *Store
	file  *os.File
}

// Reset implements Sink.
func (f *fetched) Reset(int64) error {
	if _, err := f.file.Seek(0, io.SeekStart); err != nil {
		return f.store.failed("store it", err)
	}
	if err := f.file.Truncate(0); err != nil {
		return f.store.failed("store it", err)
	}
	return nil
}

// Write implements Sink.
func (f *fetched) Write(p []byte) (int, error) {
	n, err := f.file.Write(p)
	if err != nil {
		return n, f.store.failed("store it", err)
	}
	return n, nil
}

// lock lets one caller per digest in.
func (s *Store) lock(ctx context.Context, digest string) (unlock func(), err error) {
	for {
		s.mu.Lock()
		busy, ok := s.fetching[digest]
		if !ok {
			done := make(chan struct{})
			s.fetching[digest] = done
			s.mu.Unlock()
			return func() {
				s.mu.Lock()
				defer s.mu.Unlock()
				delete(s.fetching, digest)
				close(done)
			}, nil
		}
		s.mu.Unlock()
		select {
		case <-busy:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// Holds reports whether an object is there, and leaves its age alone.
func (s *Store) Holds(digest string) bool {
	path, err := s.path(digest)
	if err != nil {
		return false
	}
	_, err = os.Stat(path)
	return err == nil
}

// Missing returns the wanted objects that are not there, in their order.
func (s *Store) Missing(wanted []string) (out []string) {
	for _, digest := range wanted {
		if !s.Holds(digest) {
			out = append(out, digest)
		}
	}
	return out
}

// Holders returns the IDs of the other servers that hold an object.
func (s *Store) Holders(ctx context.Context, digest string) []string {
	if s.peers == nil {
		return nil
	}
	return s.peers.Holders(ctx, PeerPath+digest)
}

// Spread makes every other server fetch an object and returns the IDs of those that hold it in
// the end. It waits for all that answer; ctx bounds it.
func (s *Store) Spread(ctx context.Context, digest string) []string {
	if s.peers == nil {
		return nil
	}
	return s.peers.Spread(ctx, PeerPath+digest)
}

// Handler serves the objects of this server, and no others, to the other servers of the rack:
// so no request goes round in circles. authorize says why a request is not from one of them.
//
//	GET, HEAD /objects/DIGEST    ranges as well
//	POST      /objects/DIGEST    fetch it, then 204
func (s *Store) Handler(authorize func(*http.Request) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if err := authorize(req); err != nil {
			http.Error(w, err.Error(), http.StatusForbidden)
			return
		}
		digest := strings.TrimPrefix(req.URL.Path, PeerPath)
		switch req.Method {
		case http.MethodGet, http.MethodHead:
			s.serve(w, req, digest)
		case http.MethodPost:
			if err := s.Fetch(req.Context(), digest); err != nil {
				http.Error(w, err.Error(), api.HTTPStatus(err))
				return
			}
			w.WriteHeader(http.StatusNoContent)
		default:
			http.Error(w, "peers only read", http.StatusMethodNotAllowed)
		}
	})
}

func (s *Store) serve(w http.ResponseWriter, req *http.Request, digest string) {
	f, err := s.Open(digest)
	if err != nil {
		http.Error(w, err.Error(), api.HTTPStatus(err))
		return
	}
	defer f.Close()
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("ETag", `"`+filepath.Base(f.Name())+`"`)
	http.ServeContent(w, req, "", time.Time{}, f)
}

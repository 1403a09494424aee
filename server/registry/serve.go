package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"slipway/api"
)

// ServeHTTP implements http.Handler for every path below /v2/.
func (r *Registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	app, err := r.app()
	if err != nil {
		r.config.Logger.Error("registry does not start", "err", err)
		http.Error(w, "the registry does not start; see the log of the server", http.StatusInternalServerError)
		return
	}
	if r.peers.any() && r.fromPeers(w, req) {
		return
	}
	head := req.Method == http.MethodHead
	if head {
		w = &touchWriter{ResponseWriter: w, registry: r, path: req.URL.Path}
	}
	if head && manifestPath.MatchString(req.URL.Path) {
		r.names.RLock()
		defer r.names.RUnlock()
	}
	if req.Method == http.MethodGet || head && !blobPath.MatchString(req.URL.Path) {
		app.ServeHTTP(w, req)
		return
	}

	write := !head && req.Method != http.MethodDelete
	if write {
		req.Body = &upload{ReadCloser: req.Body, registry: r, conn: http.NewResponseController(w)}
	}
	if !head && !write && r.peers.any() && !r.deleteFromPeers(w, req) {
		return
	}
	if write && r.peers.any() {
		if !r.gather(w, req) {
			return
		}
		if manifestPath.MatchString(req.URL.Path) { // its body is here by now
			r.tags.Lock()
			defer r.tags.Unlock()
		}
	}

	// Only a push asks whether a blob exists, and what it is told must hold: no sweep meanwhile.
	if err := r.gate.enter(req.Context()); err != nil {
		return // the client has gone
	}
	defer r.gate.leave()
	if !write {
		app.ServeHTTP(w, req)
		if !head {
			r.removals.Add(1)
		}
		return
	}
	full := &fullWriter{ResponseWriter: w, registry: r, req: req}
	app.ServeHTTP(full, req)
	if full.replaced {
		r.dropUpload(req.Context(), req.URL.Path)
	}
	if m := manifestPath.FindStringSubmatch(req.URL.Path); m != nil && full.created && r.config.Shared(m[1]) {
		signal(r.pushed)
	}
}

// signal tells a loop that something has happened, once for all that happened until it looks.
func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// upload is the body of a write. It ends one that stalls, and one that fills the disk.
type upload struct {
	io.ReadCloser
	registry *Registry
	conn     *http.ResponseController
	unseen   api.Bytes // read since the disk was looked at
	allowed  time.Time // when the time for the next bytes was set last
}

// checkEvery is how much an upload may write between two looks at the disk.
const checkEvery = 32 * api.MiB

// Read implements io.Reader.
func (u *upload) Read(p []byte) (int, error) {
	if u.unseen >= checkEvery {
		u.unseen = 0
		if u.registry.full() {
			return 0, syscall.ENOSPC
		}
	}
	// Not before each read: HTTP/2 makes it costly.
	if now, idle := time.Now(), u.registry.config.UploadIdle; now.Sub(u.allowed) > idle/4 {
		_ = u.conn.SetReadDeadline(now.Add(idle))
		u.allowed = now
	}
	n, err := u.ReadCloser.Read(p)
	u.unseen += api.Bytes(n)
	if errors.Is(err, io.EOF) {
		_ = u.conn.SetReadDeadline(time.Time{}) // the answer may take its time
	}
	return n, err
}

var uploadPath = regexp.MustCompile(`^/v2/(.+)/blobs/uploads/([0-9a-f-]{36})$`)

// dropUpload removes what a refused upload has written, which may be what fills the disk.
func (r *Registry) dropUpload(ctx context.Context, path string) {
	m := uploadPath.FindStringSubmatch(path)
	if m == nil {
		return
	}
	dir := repoPath(m[1]) + "/_uploads/" + m[2]
	if err := r.driver.Delete(context.WithoutCancel(ctx), dir); err != nil && !isNotFound(err) {
		r.config.Logger.Warn("refused upload not removed", "path", path, "err", err)
	}
}

// full reports whether the disk has less room than the registry may use up.
func (r *Registry) full() bool {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(r.config.Root, &fs); err != nil {
		return false // the write itself will tell
	}
	return api.Bytes(fs.Bavail)*api.Bytes(fs.Bsize) < r.config.FreeMin
}

func (r *Registry) fullText() string {
	return fmt.Sprintf("the disk of the rack's registry has less than %s free; remove old releases or add a disk", r.config.FreeMin)
}

// fullWriter turns the answer to a write into 507 with a sentence when the disk is full:
// before an upload begins, and in place of any 5xx. distribution checks rights before it
// answers 202 or 5xx, so the sentence is not shown to strangers.
type fullWriter struct {
	http.ResponseWriter
	registry *Registry
	req      *http.Request
	written  bool
	replaced bool
	created  bool // 201 was sent
}

// WriteHeader implements http.ResponseWriter.
func (w *fullWriter) WriteHeader(status int) {
	if w.written {
		return // distribution answers twice when the client has gone
	}
	w.written = true
	began := status == http.StatusAccepted || status == http.StatusCreated
	if status >= 500 {
		w.registry.config.Logger.Error("image write failed", "status", status, "method", w.req.Method, "path", w.req.URL.Path)
	}
	if (status < 500 && !began) || !w.registry.full() {
		w.created = status == http.StatusCreated
		w.ResponseWriter.WriteHeader(status)
		return
	}
	w.replaced = true
	h := w.Header()
	for _, name := range []string{"Location", "Docker-Upload-Uuid", "Docker-Content-Digest", "Range", "Content-Length"} {
		h.Del(name)
	}
	writeError(w.ResponseWriter, http.StatusInsufficientStorage, w.registry.fullText())
}

// Write implements http.ResponseWriter.
func (w *fullWriter) Write(p []byte) (int, error) {
	if w.replaced {
		return len(p), nil
	}
	return w.ResponseWriter.Write(p)
}

// Unwrap lets http.ResponseController reach the connection.
func (w *fullWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

var (
	blobPath     = regexp.MustCompile(`^/v2/(.+)/blobs/sha256:([0-9a-f]{64})$`)
	manifestPath = regexp.MustCompile(`^/v2/(.+)/manifests/([^/]+)$`)
)

// touchWriter renews the age of a blob or a manifest that a client has just been told exists.
type touchWriter struct {
	http.ResponseWriter
	registry *Registry
	path     string
}

// WriteHeader implements http.ResponseWriter.
func (w *touchWriter) WriteHeader(status int) {
	if status == http.StatusOK {
		w.touch()
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *touchWriter) touch() {
	var paths []string
	if m := blobPath.FindStringSubmatch(w.path); m != nil {
		paths = []string{blobData(m[2]), layerLink(m[1], m[2])}
	}
	hex, ok := strings.CutPrefix(w.Header().Get("Docker-Content-Digest"), "sha256:")
	if m := manifestPath.FindStringSubmatch(w.path); m != nil && ok && len(hex) == 64 {
		paths = []string{manifestLink(m[1], hex)}
	}
	w.registry.touch(paths...)
}

// touch makes files of the store young.
func (r *Registry) touch(paths ...string) {
	now := time.Now()
	for _, p := range paths {
		// What cannot be touched is as old as it is: the push may have to repeat it.
		_ = os.Chtimes(filepath.Join(r.config.Root, p), now, now)
	}
}

// Unwrap lets http.ResponseController reach the connection.
func (w *touchWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// The layout below the root is part of distribution's on-disk format, which is stable (its
// package storage, paths.go).

// layoutDirs are made at the start, for listing what does not exist yet is an error.
var layoutDirs = []string{"docker/registry/v2/repositories", "docker/registry/v2/blobs/sha256"}

func blobData(hex string) string {
	return "/docker/registry/v2/blobs/sha256/" + hex[:2] + "/" + hex + "/data"
}

func repoPath(repo string) string { return "/docker/registry/v2/repositories/" + repo }

func layerLink(repo, hex string) string {
	return repoPath(repo) + "/_layers/sha256/" + hex + "/link"
}

func manifestLink(repo, hex string) string {
	return repoPath(repo) + "/_manifests/revisions/sha256/" + hex + "/link"
}

func tagLink(repo, tag string) string {
	return repoPath(repo) + "/_manifests/tags/" + tag + "/current/link"
}

package registry

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
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
	if req.Method == http.MethodGet || req.Method == http.MethodHead {
		if req.Method == http.MethodHead {
			w = &touchWriter{ResponseWriter: w, registry: r, path: req.URL.Path}
		}
		app.ServeHTTP(w, req)
		return
	}

	if err := r.gate.enter(req.Context()); err != nil {
		return // the client has gone
	}
	defer r.gate.leave()
	if req.Method == http.MethodDelete {
		app.ServeHTTP(w, req)
		return
	}
	app.ServeHTTP(&fullWriter{ResponseWriter: w, registry: r, req: req}, req)
}

// full reports whether the disk has less room than the registry may use up.
func (r *Registry) full() bool {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(r.config.Root, &fs); err != nil {
		return false // the write itself will tell
	}
	return api.Bytes(fs.Bavail)*api.Bytes(fs.Bsize) < r.config.FreeMin
}

// fullWriter turns the answer to a write into 507 with a sentence when the disk is full:
// before an upload begins, and in place of any 5xx. distribution checks rights before it
// answers 202 or 5xx, so the sentence is not shown to strangers.
type fullWriter struct {
	http.ResponseWriter
	registry *Registry
	req      *http.Request
	replaced bool
}

// WriteHeader implements http.ResponseWriter.
func (w *fullWriter) WriteHeader(status int) {
	began := status == http.StatusAccepted || status == http.StatusCreated
	if status >= 500 {
		w.registry.config.Logger.Error("image write failed", "status", status, "method", w.req.Method, "path", w.req.URL.Path)
	}
	if (status < 500 && !began) || !w.registry.full() {
		w.ResponseWriter.WriteHeader(status)
		return
	}
	w.replaced = true
	h := w.Header()
	for _, name := range []string{"Location", "Docker-Upload-Uuid", "Docker-Content-Digest", "Range", "Content-Length"} {
		h.Del(name)
	}
	h.Set("Content-Type", "application/json")
	w.ResponseWriter.WriteHeader(http.StatusInsufficientStorage)
	type item struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}
	message := fmt.Sprintf("the disk of the rack's registry has less than %s free; remove old releases or add a disk", w.registry.config.FreeMin)
	_ = json.NewEncoder(w.ResponseWriter).Encode(map[string][]item{"errors": {{"UNAVAILABLE", message}}})
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

var blobPath = regexp.MustCompile(`^/v2/(.+)/blobs/sha256:([0-9a-f]{64})$`)

// touchWriter renews the age of a blob that a client has just been told exists.
type touchWriter struct {
	http.ResponseWriter
	registry *Registry
	path     string
}

// WriteHeader implements http.ResponseWriter.
func (w *touchWriter) WriteHeader(status int) {
	if m := blobPath.FindStringSubmatch(w.path); status == http.StatusOK && m != nil {
		now, root := time.Now(), w.registry.config.Root
		for _, p := range []string{blobData(m[2]), layerLink(m[1], m[2])} {
			// A blob that cannot be touched is as old as it is: the push may have to repeat it.
			_ = os.Chtimes(filepath.Join(root, p), now, now)
		}
	}
	w.ResponseWriter.WriteHeader(status)
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

func layerLink(repo, hex string) string {
	return "/docker/registry/v2/repositories/" + repo + "/_layers/sha256/" + hex + "/link"
}

func manifestLink(repo, hex string) string {
	return "/docker/registry/v2/repositories/" + repo + "/_manifests/revisions/sha256/" + hex + "/link"
}

package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"

	"slipway/api"
)

// manifestMax is the longest manifest, in bytes, that distribution takes.
const manifestMax = 4 << 20

// manifestRef is a tag or a digest.
var manifestRef = regexp.MustCompile(`^(\w[\w.-]{0,127}|sha256:[0-9a-f]{64})$`)

// fromPeers answers a request for what is not on this server and may be on another one. It
// returns false for all others, and for what no server has: distribution answers those.
func (r *Registry) fromPeers(w http.ResponseWriter, req *http.Request) bool {
	if req.Method != http.MethodGet && req.Method != http.MethodHead {
		return false
	}
	blob, manifest := blobPath.FindStringSubmatch(req.URL.Path), manifestPath.FindStringSubmatch(req.URL.Path)
	switch {
	case blob != nil:
		return !r.hasBlob(blob[1], blob[2]) && r.may(req, blob[1], ActionPull) && r.blobFromPeers(w, req, blob[1], blob[2])
	case manifest != nil && manifestRef.MatchString(manifest[2]):
		return !r.hasManifest(manifest[1], manifest[2]) && r.may(req, manifest[1], ActionPull) &&
			r.manifestFromPeers(w, req, manifest[1], manifest[2])
	}
	return false
}

// may reports whether a request has a right to a repository. distribution tells those who have
// none.
func (r *Registry) may(req *http.Request, repo, action string) bool {
	if _, err := reference.WithName(repo); err != nil {
		return false
	}
	user, password, _ := req.BasicAuth()
	return r.config.Authorize(user, password, repo, action) == nil
}

// blobFromPeers sends a blob while it comes from a peer.
func (r *Registry) blobFromPeers(w http.ResponseWriter, req *http.Request, repo, hex string) bool {
	h := w.Header()
	if req.Method == http.MethodHead {
		found := r.peers.have(req.Context(), peerBlob(repo, hex))
		if len(found) == 0 {
			return false
		}
		setBlobHeader(h, hex)
		if found[0].size >= 0 {
			h.Set("Content-Length", strconv.FormatInt(found[0].size, 10))
		}
		w.WriteHeader(http.StatusOK)
		return true
	}

	f := r.join(repo, hex)
	defer f.leave()
	content, err := f.reader(req.Context())
	if err != nil {
		return r.refuseMissing(w, req, err)
	}
	if content == nil {
		return false
	}
	setBlobHeader(h, hex)
	http.ServeContent(w, req, "", time.Time{}, content)
	if content.err != nil {
		r.config.Logger.Warn("blob sent in part", "path", req.URL.Path, "err", content.err)
		panic(http.ErrAbortHandler) // so that nobody takes the part for the whole
	}
	return true
}

func setBlobHeader(h http.Header, hex string) {
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Docker-Content-Digest", "sha256:"+hex)
	h.Set("ETag", `"sha256:`+hex+`"`)
}

// manifestFromPeers sends a manifest that a peer has. It is stored here only with all that it
// refers to: Follow sees to that.
func (r *Registry) manifestFromPeers(w http.ResponseWriter, req *http.Request, repo, ref string) bool {
	head := req.Method == http.MethodHead
	if head && len(r.peers.have(req.Context(), peerManifest(repo, ref))) == 0 {
		return false
	}
	doc, err := r.peerManifest(req.Context(), repo, ref)
	if tagged := !strings.Contains(ref, ":"); err != nil && (head || tagged) {
		return false // a push may ask for what was never there: that a server is down must not stop it
	}
	if err != nil {
		return r.refuseMissing(w, req, err)
	}
	h := w.Header()
	h.Set("Content-Type", doc.mediaType)
	h.Set("Content-Length", strconv.Itoa(len(doc.body)))
	h.Set("Docker-Content-Digest", doc.digest)
	h.Set("ETag", `"`+doc.digest+`"`)
	w.WriteHeader(http.StatusOK)
	if !head {
		_, _ = w.Write(doc.body) // the client may be gone
	}
	r.hints.add(Image{Repository: repo, Digest: doc.digest})
	if r.config.Shared(repo) {
		signal(r.nudged) // its tags are missing here as well
	}
	return true
}

// peerManifest gets a manifest by digest or tag from a peer.
func (r *Registry) peerManifest(ctx context.Context, repo, ref string) (document, error) {
	return r.peers.document(ctx, peerManifest(repo, ref), func(d document) error {
		got := digest.FromBytes(d.body).String()
		if want, err := digest.Parse(ref); err == nil && want.String() != got || d.digest != got {
			return fmt.Errorf("it sent a manifest of digest %s for %s and said %q", got, ref, d.digest)
		}
		return nil
	})
}

// refuseMissing answers why something did not come from the peers, but for not_found, which
// distribution says.
func (r *Registry) refuseMissing(w http.ResponseWriter, req *http.Request, err error) bool {
	status := http.StatusServiceUnavailable
	switch {
	case req.Context().Err() != nil:
		return true // nobody listens
	case api.CodeOf(err) == api.CodeNotFound:
		return false
	case api.CodeOf(err) == api.CodeExhausted:
		status = http.StatusInsufficientStorage
	}
	r.config.Logger.Warn("content not got from another server", "path", req.URL.Path, "err", err)
	writeError(w, status, err.Error())
	return true
}

// writeError answers in the form of the distribution protocol.
func writeError(w http.ResponseWriter, status int, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	type item struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}
	_ = json.NewEncoder(w).Encode(map[string][]item{"errors": {{"UNAVAILABLE", message}}}) // the client may be gone
}

// gather brings what a pushed manifest refers to here, as far as it is on other servers only: a
// push was told by HEAD that it need not be sent again. It returns false after it has answered.
func (r *Registry) gather(w http.ResponseWriter, req *http.Request) bool {
	m := manifestPath.FindStringSubmatch(req.URL.Path)
	if m == nil || req.Method != http.MethodPut || !r.may(req, m[1], ActionPush) {
		return true
	}
	body, err := io.ReadAll(io.LimitReader(req.Body, manifestMax+1))
	req.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(body), req.Body), req.Body}
	if err != nil || len(body) > manifestMax {
		return true // distribution says what is wrong with it
	}
	var doc struct {
		Config            descriptor
		Layers, Manifests []descriptor
	}
	if json.Unmarshal(body, &doc) != nil || len(doc.Layers)+len(doc.Manifests) > gatherMax {
		return true
	}
	for _, d := range doc.Manifests {
		if err := r.Replicate(req.Context(), m[1], d.Digest); isTemporary(err) {
			return !r.refuseMissing(w, req, err)
		}
	}
	for _, d := range append(doc.Layers, doc.Config) {
		hex, ok := strings.CutPrefix(d.Digest, "sha256:")
		if !ok || !manifestRef.MatchString(d.Digest) {
			continue
		}
		if err := r.fetchBlob(req.Context(), m[1], hex); isTemporary(err) {
			return !r.refuseMissing(w, req, err)
		}
	}
	return true
}

// gatherMax bounds what a manifest may make this server ask its peers for. No image has more.
const gatherMax = 1000

func isTemporary(err error) bool {
	return api.CodeOf(err) == api.CodeUnavailable || api.CodeOf(err) == api.CodeExhausted
}

// descriptor is the part of a descriptor that says where to look.
type descriptor struct{ Digest string }

package registry

import (
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"time"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"

	"slipway/api"
)

// PeerPath is where PeerHandler is to be mounted.
const PeerPath = "/images/"

var peerPath = regexp.MustCompile(`^` + PeerPath + `(.+)/(blobs|manifests|whole)/([^/]+)$`)

func peerBlob(repo, hex string) string     { return PeerPath + repo + "/blobs/sha256:" + hex }
func peerManifest(repo, ref string) string { return PeerPath + repo + "/manifests/" + ref }
func peerWhole(repo, dgst string) string   { return PeerPath + repo + "/whole/" + dgst }

// PeerHandler serves what is on this server, and nothing else, to the other servers of the rack:
// so no request goes round in circles. authorize says why a request is not from one of them.
//
//	GET, HEAD /images/REPO/blobs/DIGEST      ranges as well
//	GET, HEAD /images/REPO/manifests/REF     a digest or a tag
//	DELETE    /images/REPO/manifests/REF     of a shared repository only
//	HEAD      /images/REPO/whole/DIGEST      200 if the image is here completely
//	POST      /images/REPO/whole/DIGEST      replicate it, then 204
//	GET       /images/                       the tags of the shared repositories
//	POST      /images/                       they have changed on the peer: look there soon
func (r *Registry) PeerHandler(authorize func(*http.Request) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if err := authorize(req); err != nil {
			http.Error(w, err.Error(), http.StatusForbidden)
			return
		}
		m := peerPath.FindStringSubmatch(req.URL.Path)
		read := req.Method == http.MethodGet || req.Method == http.MethodHead
		switch {
		case req.URL.Path == PeerPath && read:
			r.serveTags(w, req)
		case req.URL.Path == PeerPath && req.Method == http.MethodPost:
			signal(r.nudged)
			w.WriteHeader(http.StatusNoContent)
		case m == nil || !isRepository(m[1]):
			http.NotFound(w, req)
		case m[2] == "whole":
			r.serveWhole(w, req, m[1], m[3])
		case m[2] == "manifests" && req.Method == http.MethodDelete:
			r.serveDelete(w, req, m[1], m[3])
		case !read:
			http.Error(w, "peers only read", http.StatusMethodNotAllowed)
		case m[2] == "blobs":
			r.serveBlob(w, req, m[1], m[3])
		default:
			r.serveManifest(w, req, m[1], m[3])
		}
	})
}

func isRepository(name string) bool {
	_, err := reference.WithName(name)
	return err == nil
}

func (r *Registry) serveBlob(w http.ResponseWriter, req *http.Request, repo, dgst string) {
	if req.Method == http.MethodHead { // what a peer is told, it may tell a push: as in ServeHTTP
		if err := r.gate.enter(req.Context()); err != nil {
			return // the peer has gone
		}
		defer r.gate.leave()
	}
	d, err := digest.Parse(dgst)
	if err != nil || !r.hasBlob(repo, d.Encoded()) {
		http.NotFound(w, req)
		return
	}
	f, err := os.Open(filepath.Join(r.config.Root, blobData(d.Encoded())))
	if err != nil {
		http.NotFound(w, req) // collected just now
		return
	}
	defer f.Close()
	if req.Method == http.MethodHead {
		r.touch(blobData(d.Encoded()), layerLink(repo, d.Encoded()))
	}
	setBlobHeader(w.Header(), d.Encoded())
	http.ServeContent(w, req, "", time.Time{}, f)
}

func (r *Registry) serveManifest(w http.ResponseWriter, req *http.Request, repo, ref string) {
	if req.Method == http.MethodHead {
		r.names.RLock()
		defer r.names.RUnlock()
	}
	if d, err := digest.Parse(ref); err == nil {
		ref = d.String()
	} else if ref, err = r.ResolveTag(req.Context(), repo, ref); err != nil {
		http.NotFound(w, req)
		return
	}
	manifest, err := r.localManifest(req.Context(), repo, digest.Digest(ref))
	if err != nil {
		http.NotFound(w, req)
		return
	}
	mediaType, body, err := manifest.Payload()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if req.Method == http.MethodHead {
		hex := digest.Digest(ref).Encoded()
		r.touch(blobData(hex), manifestLink(repo, hex))
	}
	h := w.Header()
	h.Set("Content-Type", mediaType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Docker-Content-Digest", ref)
	_, _ = w.Write(body) // the peer may be gone
}

func (r *Registry) serveWhole(w http.ResponseWriter, req *http.Request, repo, dgst string) {
	switch req.Method {
	case http.MethodPost:
		r.hints.add(Image{Repository: repo, Digest: dgst}) // Follow goes on with it if the peer does not wait
		err := r.Replicate(req.Context(), repo, dgst)
		if err != nil {
			http.Error(w, err.Error(), api.HTTPStatus(err))
			return
		}
		w.WriteHeader(http.StatusNoContent)
	default:
		if !r.Holds(repo, dgst) {
			http.NotFound(w, req)
		}
	}
}

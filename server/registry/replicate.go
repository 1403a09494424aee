package registry

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/distribution/distribution/v3"
	"github.com/opencontainers/go-digest"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"

	"slipway/api"
)

// depthMax bounds how deep lists of images may lie in one another.
const depthMax = 4

// Holds reports whether this server can serve an image without any other: its manifest, its
// configuration, its layers, and the same of every platform of a list.
func (r *Registry) Holds(repo, dgst string) bool {
	d, err := digest.Parse(dgst)
	return err == nil && r.holds(context.Background(), repo, d, 0)
}

func (r *Registry) holds(ctx context.Context, repo string, d digest.Digest, depth int) bool {
	if depth > depthMax {
		return false
	}
	manifest, err := r.localManifest(ctx, repo, d)
	if err != nil {
		return false
	}
	for _, ref := range manifest.References() {
		switch {
		case isManifest(ref):
			if !r.holds(ctx, repo, ref.Digest, depth+1) {
				return false
			}
		case !r.hasBlob(repo, ref.Digest.Encoded()) && len(ref.URLs) == 0:
			return false
		}
	}
	return true
}

// Replicate makes this server hold an image, from the peers that hold it. GC removes nothing of
// it meanwhile; afterwards the state decides, as for every image. An error of code not_found
// means that no peer has a part of it; of code unavailable, that not every one could be asked.
func (r *Registry) Replicate(ctx context.Context, repo, dgst string) error {
	d, err := digest.Parse(dgst)
	if err != nil {
		return api.Errorf(api.CodeInvalid, "image digest %.80q: %w", dgst, err)
	}
	held, err := r.keepYoung(ctx, repo, d)
	if err == nil && !held {
		err = r.replicate(ctx, repo, d, 0)
	}
	if err != nil {
		return fmt.Errorf("replicate %s@%s: %w", repo, dgst, err)
	}
	return nil
}

// keepYoung makes an image young that is here completely: the state may not name it yet.
func (r *Registry) keepYoung(ctx context.Context, repo string, d digest.Digest) (held bool, err error) {
	if err := r.gate.enter(ctx); err != nil {
		return false, err
	}
	defer r.gate.leave()
	if !r.holds(ctx, repo, d, 0) {
		return false, nil
	}
	r.touch(manifestLink(repo, d.Encoded()))
	return true, nil
}

// replicate stores the manifest last: a manifest that is here promises the rest.
func (r *Registry) replicate(ctx context.Context, repo string, d digest.Digest, depth int) error {
	if depth > depthMax {
		return api.Errorf(api.CodeInvalid, "lists of images lie more than %d deep in one another", depthMax)
	}
	manifest, err := r.anyManifest(ctx, repo, d)
	if err != nil {
		return err
	}
	refs := manifest.References()
	unpin, err := r.pin(ctx, d, refs)
	if err != nil {
		return err
	}
	defer unpin()

	for _, ref := range refs {
		if isManifest(ref) {
			err = r.replicate(ctx, repo, ref.Digest, depth+1)
		} else {
			err = r.fetchBlob(ctx, repo, ref.Digest.Encoded())
		}
		if err != nil && (len(ref.URLs) == 0 || api.CodeOf(err) != api.CodeNotFound) {
			return err
		}
	}
	return r.putManifest(ctx, repo, d, manifest)
}

func (r *Registry) putManifest(ctx context.Context, repo string, d digest.Digest, manifest distribution.Manifest) error {
	if err := r.gate.enter(ctx); err != nil {
		return err
	}
	defer r.gate.leave()
	if r.full() {
		return api.Errorf(api.CodeExhausted, "%s", r.fullText())
	}
	repository, err := r.repository(ctx, repo)
	if err != nil {
		return err
	}
	manifests, err := repository.Manifests(ctx)
	if err != nil {
		return err
	}
	switch got, err := manifests.Put(ctx, manifest); {
	case err != nil:
		return fmt.Errorf("store manifest %s: %w", d, err)
	case got != d:
		return fmt.Errorf("store manifest %s: it was stored as %s", d, got)
	}
	r.touch(blobData(d.Encoded()), manifestLink(repo, d.Encoded())) // they may have been there, and old
	return nil
}

// fetchBlob makes this server hold a blob of a repository.
func (r *Registry) fetchBlob(ctx context.Context, repo, hex string) error {
	if r.hasBlob(repo, hex) {
		return nil
	}
	f := r.join(repo, hex)
	defer f.leave()
	return f.wait(ctx)
}

func (r *Registry) localManifest(ctx context.Context, repo string, d digest.Digest) (distribution.Manifest, error) {
	repository, err := r.repository(ctx, repo)
	if err != nil {
		return nil, err
	}
	manifests, err := repository.Manifests(ctx)
	if err != nil {
		return nil, err
	}
	return manifests.Get(ctx, d)
}

// anyManifest returns a manifest from here, or else from a peer.
func (r *Registry) anyManifest(ctx context.Context, repo string, d digest.Digest) (distribution.Manifest, error) {
	if m, err := r.localManifest(ctx, repo, d); err == nil || api.CodeOf(err) == api.CodeInvalid {
		return m, err
	}
	doc, err := r.peerManifest(ctx, repo, d.String())
	if err != nil {
		return nil, err
	}
	m, _, err := distribution.UnmarshalManifest(doc.mediaType, doc.body)
	if err != nil {
		return nil, api.Errorf(api.CodeInvalid, "manifest %s cannot be read: %w", d, err)
	}
	for _, ref := range m.References() {
		if err := ref.Digest.Validate(); err != nil {
			return nil, api.Errorf(api.CodeInvalid, "manifest %s refers to %.80q: %w", d, ref.Digest, err)
		}
	}
	return m, nil
}

// isManifest reports whether a reference leads to another manifest, not to a blob.
func isManifest(ref imagespec.Descriptor) bool {
	return slices.Contains(distribution.ManifestMediaTypes(), ref.MediaType)
}

// pin keeps GC from an image until unpin is called. It waits for a collection that is going on,
// for that one may remove what looks as if it were here.
func (r *Registry) pin(ctx context.Context, d digest.Digest, refs []imagespec.Descriptor) (unpin func(), err error) {
	if err := r.gate.enter(ctx); err != nil {
		return nil, err
	}
	defer r.gate.leave()
	add := func(n int) {
		r.pinsMu.Lock()
		defer r.pinsMu.Unlock()
		r.pins[d] += n
		for _, ref := range refs {
			r.pins[ref.Digest] += n
		}
		maps.DeleteFunc(r.pins, func(_ digest.Digest, n int) bool { return n == 0 })
	}
	add(1)
	return func() { add(-1) }, nil
}

func (r *Registry) pinned(d digest.Digest) bool {
	r.pinsMu.Lock()
	defer r.pinsMu.Unlock()
	return r.pins[d] > 0
}

func (r *Registry) allPinned() []digest.Digest {
	r.pinsMu.Lock()
	defer r.pinsMu.Unlock()
	return slices.Collect(maps.Keys(r.pins))
}

// Holders returns the IDs of the servers that hold an image completely, this one included. A
// server that does not answer soon is not among them.
func (r *Registry) Holders(ctx context.Context, repo, dgst string) []string {
	return r.withSelf(r.peers.Holders(ctx, peerWhole(repo, dgst)), repo, dgst)
}

// Spread makes every server hold an image and returns the IDs of those that do in the end, this
// one included. It waits for all, but not for long once most do, and not after ctx has ended: a
// server that is slow goes on in its Follow.
func (r *Registry) Spread(ctx context.Context, repo, dgst string) []string {
	if err := r.Replicate(ctx, repo, dgst); err != nil {
		r.config.Logger.Warn("image not replicated", "repository", repo, "digest", dgst, "err", err)
	}
	return r.withSelf(r.peers.Spread(ctx, peerWhole(repo, dgst)), repo, dgst)
}

func (r *Registry) withSelf(holders []string, repo, dgst string) []string {
	if r.Holds(repo, dgst) {
		holders = append(holders, r.config.ID)
	}
	slices.Sort(holders)
	return holders
}

// hasBlob reports whether a blob of a repository is on this server.
func (r *Registry) hasBlob(repo, hex string) bool {
	return r.isThere(layerLink(repo, hex)) && r.hasData(hex)
}

// hasManifest reports whether a manifest is on this server by digest or tag.
func (r *Registry) hasManifest(repo, ref string) bool {
	hex, ok := strings.CutPrefix(ref, "sha256:")
	if !ok {
		return r.isThere(tagLink(repo, ref))
	}
	return r.isThere(manifestLink(repo, hex)) && r.hasData(hex)
}

func (r *Registry) hasData(hex string) bool { return len(hex) == 64 && r.isThere(blobData(hex)) }

func (r *Registry) isThere(path string) bool {
	_, err := os.Stat(filepath.Join(r.config.Root, path))
	return err == nil
}

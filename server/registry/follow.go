package registry

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"
)

// hintsMax bounds the hints. More are dropped: whoever asks for the image again gives another.
const hintsMax = 64

// Image is one image that a server is to hold.
type Image struct {
	Repository string
	Digest     string // "sha256:…"
	// Created orders images: newer ones come first. Zero means last.
	Created time.Time
}

func (i Image) key() Image { return Image{Repository: i.Repository, Digest: i.Digest} }

// Missing returns the wanted images that are not held, each once, the newest first.
func Missing(wanted []Image, held func(repo, digest string) bool) []Image {
	var out []Image
	seen := map[Image]bool{}
	newest := slices.Clone(wanted)
	slices.SortStableFunc(newest, func(a, b Image) int {
		return cmp.Or(b.Created.Compare(a.Created), cmp.Compare(a.Repository, b.Repository), cmp.Compare(a.Digest, b.Digest))
	})
	for _, i := range newest {
		if !seen[i.key()] && !held(i.Repository, i.Digest) {
			out = append(out, i)
		}
		seen[i.key()] = true
	}
	return out
}

// Follow makes this server hold every image that wanted names, until ctx ends, and returns nil
// then. It looks again when changed delivers; a lost or repeated change does no harm. Images that
// clients asked for through this server come first, and the images and tags of shared
// repositories come as well. left is told how many images are missing; nil tells nobody. Only one
// Follow runs at a time.
func (r *Registry) Follow(ctx context.Context, wanted func() []Image, changed <-chan struct{}, left func(int)) error {
	known, knownAt := map[Image]bool{}, int64(0) // what was held when it was looked at last
	held := func(repo, dgst string) bool {
		if n := r.removals.Load(); n != knownAt {
			clear(known)
			knownAt = n
		}
		i := Image{Repository: repo, Digest: dgst}
		if !known[i] && r.Holds(repo, dgst) {
			known[i] = true
		}
		return known[i]
	}
	var tags sync.WaitGroup
	defer tags.Wait()
	tags.Go(func() { r.followTags(ctx) })
	return Replicator[Image]{
		Missing: func() []Image {
			if !r.peers.any() {
				return nil
			}
			out := r.hints.missing(held)
			for _, i := range Missing(wanted(), held) {
				out = append(out, i.key())
			}
			return out
		},
		Fetch: func(ctx context.Context, i Image) error {
			defer r.hints.drop(i)
			return r.Replicate(ctx, i.Repository, i.Digest)
		},
		Logger: r.config.Logger,
		Left:   left,
		hinted: r.hints.added,
	}.Run(ctx, changed)
}

// hints are images that clients got through this server and that it does not hold yet.
type hints struct {
	added chan struct{} // holds one

	mu sync.Mutex

	images []Image
}

func (h *hints) add(i Image) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.images) >= hintsMax || slices.Contains(h.images, i) {
		return
	}
	h.images = append(h.images, i)
	signal(h.added)
}

func (h *hints) drop(i Image) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.images = slices.DeleteFunc(h.images, func(o Image) bool { return o == i })
}

// missing forgets what is held and returns the others.
func (h *hints) missing(held func(repo, digest string) bool) []Image {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.images = slices.DeleteFunc(h.images, func(i Image) bool { return held(i.Repository, i.Digest) })
	return slices.Clone(h.images)
}

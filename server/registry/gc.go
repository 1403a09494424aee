package registry

import (
	"context"
	"errors"
	"fmt"
	"path"
	"time"

	"github.com/distribution/distribution/v3"
	"github.com/distribution/distribution/v3/registry/storage"
	"github.com/opencontainers/go-digest"

	"slipway/api"
)

// GC removes every manifest that keep does not name, every blob that no manifest left needs,
// and uploads given up long ago. It returns the bytes of the blobs it removed.
//
// keep returns the digests ("sha256:…") to keep of a repository; their platforms and blobs stay
// with them. A nil map keeps the whole repository, an empty one nothing. What was touched
// within Config.Grace stays in any case, and so does what is being replicated.
//
// GC waits for a moment without uploads and holds up new ones until it is done; pulls go on.
// When ctx ends, or the process dies, the next GC finishes the work. A manifest whose content is
// lost, as after a crash of the machine, is removed.
func (r *Registry) GC(ctx context.Context, keep func(repo string) map[string]bool) (api.Bytes, error) {
	reopen, err := r.gate.closeAll(ctx)
	if err != nil {
		return 0, api.Errorf(api.CodeUnavailable, "collect images: uploads are in progress: %w", err)
	}
	defer reopen()
	defer r.removals.Add(1)

	g := &collection{Registry: r, now: time.Now()}
	if err := g.sweepManifests(ctx, keep); err != nil {
		return 0, fmt.Errorf("collect images: %w", err)
	}
	if err := g.sweepContent(ctx); err != nil {
		return g.freed, fmt.Errorf("collect images: %w", err)
	}
	_, errs := storage.PurgeUploads(ctx, r.driver, g.now.Add(-uploadAgeMax), true)
	for i, err := range errs {
		if isNotFound(err) {
			errs[i] = nil
		}
	}
	if err := errors.Join(errs...); err != nil {
		return g.freed, fmt.Errorf("purge uploads: %w", err)
	}
	r.config.Logger.Info("images collected", "manifests", g.dropped, "freed_bytes", int64(g.freed),
		"dur", time.Since(g.now))
	return g.freed, nil
}

// collection is one run of GC.
type collection struct {
	*Registry
	now     time.Time
	marked  map[digest.Digest]bool // over all repositories
	repos   []repoSweep
	dropped int
	freed   api.Bytes
}

// repoSweep is what has to go from one repository.
type repoSweep struct {
	name      string
	tags      []string // all of them
	untag     []string // those that name a manifest that goes
	manifests []digest.Digest
	layers    []digest.Digest
}

// markTries bounds how often marking begins again.
const markTries = 5

// sweepManifests marks, and removes the manifests that are not marked. A push that has been told
// meanwhile that one of them exists makes it begin again.
func (g *collection) sweepManifests(ctx context.Context, keep func(string) map[string]bool) error {
	for range markTries {
		if err := g.markAll(ctx, keep); err != nil {
			return err
		}
		if done, err := g.removeManifests(ctx); done || err != nil {
			return err
		}
	}
	return api.Errorf(api.CodeUnavailable, "images are being pushed again that nothing else refers to")
}

// removeManifests removes names before content, so that a crash leaves content without a name
// and never the other way round.
func (g *collection) removeManifests(ctx context.Context) (done bool, err error) {
	g.names.Lock()
	defer g.names.Unlock()
	for _, sweep := range g.repos {
		for _, d := range sweep.manifests {
			if g.young(ctx, manifestLink(sweep.name, d.Encoded())) {
				return false, nil
			}
		}
	}
	vacuum := storage.NewVacuum(ctx, g.driver)
	for _, sweep := range g.repos {
		if err := g.removeNames(ctx, vacuum, sweep); err != nil {
			return false, fmt.Errorf("repository %s: %w", sweep.name, err)
		}
		g.dropped += len(sweep.manifests)
	}
	return true, nil
}

func (g *collection) markAll(ctx context.Context, keep func(string) map[string]bool) error {
	g.marked, g.repos = map[digest.Digest]bool{}, nil
	repos, ok := g.store.(distribution.RepositoryEnumerator)
	if !ok {
		return errors.New("the store cannot list repositories")
	}
	err := repos.Enumerate(ctx, func(name string) error {
		sweep, err := g.markRepo(ctx, name, keep(name))
		if err != nil {
			return fmt.Errorf("repository %s: %w", name, err)
		}
		g.repos = append(g.repos, sweep)
		return nil
	})
	for _, d := range g.allPinned() {
		g.marked[d] = true // perhaps for a repository that has no manifest yet
	}
	if isNotFound(err) {
		return nil // nothing was ever pushed
	}
	return err
}

func (g *collection) markRepo(ctx context.Context, name string, keep map[string]bool) (repoSweep, error) {
	sweep := repoSweep{name: name}
	repository, err := g.repository(ctx, name)
	if err != nil {
		return sweep, err
	}
	manifests, err := repository.Manifests(ctx)
	if err != nil {
		return sweep, err
	}
	all, err := g.digests(ctx, repoPath(name)+"/_manifests/revisions")
	if err != nil {
		return sweep, fmt.Errorf("list manifests: %w", err)
	}

	here := map[digest.Digest]bool{}
	for _, d := range all {
		if keep == nil || keep[d.String()] || g.pinned(d) || g.young(ctx, manifestLink(name, d.Encoded())) {
			err := mark(ctx, manifests, d, here)
			if isNotFound(err) {
				g.config.Logger.Error("image lost its content", "repository", name, "digest", d.String())
				delete(here, d)
			} else if err != nil {
				return sweep, err
			}
		}
	}
	for _, d := range all {
		if !here[d] {
			sweep.manifests = append(sweep.manifests, d)
		}
	}
	layers, err := g.digests(ctx, repoPath(name)+"/_layers")
	if err != nil {
		return sweep, fmt.Errorf("list layers: %w", err)
	}
	for _, d := range layers {
		switch {
		case here[d]:
		case g.pinned(d) || g.young(ctx, layerLink(name, d.Encoded())):
			here[d] = true
		default:
			sweep.layers = append(sweep.layers, d)
		}
	}
	for d := range here {
		g.marked[d] = true
	}
	return sweep, g.findTags(ctx, repository, here, &sweep)
}

// findTags fills in the tags of a repository. One that a crash has half written or half removed
// names nothing and goes as well.
func (g *collection) findTags(ctx context.Context, repository distribution.Repository, here map[digest.Digest]bool, sweep *repoSweep) error {
	tags, err := repository.Tags(ctx).All(ctx)
	if err != nil && !isNotFound(err) {
		return fmt.Errorf("list tags: %w", err)
	}
	sweep.tags = tags
	for _, tag := range tags {
		desc, err := repository.Tags(ctx).Get(ctx, tag)
		if _, unknown := errors.AsType[distribution.ErrTagUnknown](err); err != nil && !unknown && !isNotFound(err) {
			return fmt.Errorf("read tag %s: %w", tag, err)
		}
		if err != nil || !here[desc.Digest] {
			sweep.untag = append(sweep.untag, tag)
		}
	}
	return nil
}

// mark adds a manifest and everything it refers to.
func mark(ctx context.Context, manifests distribution.ManifestService, d digest.Digest, marked map[digest.Digest]bool) error {
	marked[d] = true
	manifest, err := manifests.Get(ctx, d)
	if err != nil {
		return fmt.Errorf("read manifest %s: %w", d, err)
	}
	for _, ref := range manifest.References() {
		if marked[ref.Digest] {
			continue
		}
		marked[ref.Digest] = true
		if ok, _ := manifests.Exists(ctx, ref.Digest); !ok {
			continue // a layer or a configuration, or a platform that was never pushed
		}
		if err := mark(ctx, manifests, ref.Digest, marked); err != nil {
			return err
		}
	}
	return nil
}

// sweepContent removes layers from their repositories, and blobs that are left in none.
func (g *collection) sweepContent(ctx context.Context) error {
	vacuum := storage.NewVacuum(ctx, g.driver)
	for _, sweep := range g.repos {
		for _, d := range sweep.layers {
			// The vacuum would leave the directory.
			dir := repoPath(sweep.name) + "/_layers/" + d.Algorithm().String() + "/" + d.Encoded()
			if err := g.driver.Delete(ctx, dir); err != nil && !isNotFound(err) {
				return fmt.Errorf("repository %s: remove layer %s: %w", sweep.name, d, err)
			}
		}
	}

	var blobs []digest.Digest
	err := g.store.Blobs().Enumerate(ctx, func(d digest.Digest) error {
		if !g.marked[d] && !g.young(ctx, blobData(d.Encoded())) {
			blobs = append(blobs, d)
		}
		return nil
	})
	if err != nil && !isNotFound(err) {
		return fmt.Errorf("list blobs: %w", err)
	}
	for _, d := range blobs {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		size := int64(0)
		if info, err := g.driver.Stat(ctx, blobData(d.Encoded())); err == nil {
			size = info.Size()
		}
		if err := vacuum.RemoveBlob(d.String()); err != nil && !isNotFound(err) {
			return fmt.Errorf("remove blob %s: %w", d, err)
		}
		g.freed += api.Bytes(size)
	}
	return nil
}

func (g *collection) removeNames(ctx context.Context, vacuum storage.Vacuum, sweep repoSweep) error {
	repository, err := g.repository(ctx, sweep.name)
	if err != nil {
		return err
	}
	for _, tag := range sweep.untag {
		if err := repository.Tags(ctx).Untag(ctx, tag); err != nil && !isNotFound(err) {
			return fmt.Errorf("remove tag %s: %w", tag, err)
		}
	}
	for _, d := range sweep.manifests {
		if err := vacuum.RemoveManifest(sweep.name, d, sweep.tags); err != nil && !isNotFound(err) {
			return fmt.Errorf("remove manifest %s: %w", d, err)
		}
	}
	return nil
}

// young reports whether a file of the store was touched within the grace period.
func (g *collection) young(ctx context.Context, path string) bool {
	if g.config.Grace <= 0 {
		return false
	}
	info, err := g.driver.Stat(ctx, path)
	return err == nil && info.ModTime().After(g.now.Add(-g.config.Grace))
}

// digests lists what a directory of links names, whether its content is there or not.
func (g *collection) digests(ctx context.Context, dir string) (out []digest.Digest, err error) {
	algorithms, err := g.driver.List(ctx, dir)
	if isNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for _, a := range algorithms {
		links, err := g.driver.List(ctx, a)
		if err != nil {
			return nil, err
		}
		for _, l := range links {
			d := digest.NewDigestFromEncoded(digest.Algorithm(path.Base(a)), path.Base(l))
			if d.Validate() == nil {
				out = append(out, d)
			}
		}
	}
	return out, nil
}

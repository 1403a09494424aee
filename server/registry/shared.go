package registry

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/distribution/distribution/v3"
	"github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/opencontainers/go-digest"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"

	"slipway/api"
)

// tagsInterval is the time between two looks at the tags of the peers when none of them tells that
// they have changed.
const tagsInterval = 15 * time.Second

// sharedTag is a tag of a repository that belongs to no app, as servers tell one another.
type sharedTag struct {
	Repository string    `json:"repository"`
	Tag        string    `json:"tag"`
	Digest     string    `json:"digest"`
	Set        time.Time `json:"set"` // by the clock of the server that took it in
}

// newer reports whether a tag takes the place of another of the same name: the later one does.
func (t sharedTag) newer(other sharedTag) bool {
	return cmp.Or(t.Set.Compare(other.Set), cmp.Compare(t.Digest, other.Digest)) > 0
}

// newerTags returns the tags of others that this server has to take over, the newest of each name.
func newerTags(here, others []sharedTag) []sharedTag {
	type name struct{ repository, tag string }
	newest := map[name]sharedTag{}
	for _, t := range here {
		newest[name{t.Repository, t.Tag}] = t
	}
	for _, t := range others {
		if have, ok := newest[name{t.Repository, t.Tag}]; !ok || t.newer(have) {
			newest[name{t.Repository, t.Tag}] = t
		}
	}
	var out []sharedTag
	for _, t := range newest {
		if !slices.Contains(here, t) {
			out = append(out, t)
		}
	}
	slices.SortFunc(out, func(a, b sharedTag) int {
		return cmp.Or(cmp.Compare(a.Repository, b.Repository), cmp.Compare(a.Tag, b.Tag))
	})
	return out
}

// followTags takes over what the peers have in shared repositories, and tells them of what came
// from clients, until ctx ends.
func (r *Registry) followTags(ctx context.Context) {
	tick := time.NewTicker(tagsInterval)
	defer tick.Stop()
	for {
		if err := r.takeOverTags(ctx); err != nil && ctx.Err() == nil {
			r.config.Logger.Warn("shared images not replicated", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-r.nudged:
		case <-r.pushed:
			r.nudge(ctx)
		}
	}
}

// nudge tells the peers that shared tags have changed here. One that does not hear of it looks
// by itself later.
func (r *Registry) nudge(ctx context.Context) {
	up, _ := r.peers.order()
	ctx, cancel := context.WithTimeout(ctx, answerMax)
	defer cancel()
	r.peers.all(up, func(peer Peer) (answer, error) { return r.peers.once(ctx, peer, http.MethodPost, PeerPath) })
}

// takeOverTags looks at the peers once.
func (r *Registry) takeOverTags(ctx context.Context) error {
	if !r.peers.any() {
		return nil
	}
	here, err := r.sharedTags(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, t := range newerTags(here, r.tagsOfPeers(ctx)) {
		if err := r.takeOver(ctx, t); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (r *Registry) tagsOfPeers(ctx context.Context) (out []sharedTag) {
	up, _ := r.peers.order()
	for _, peer := range up {
		asking, cancel := context.WithTimeout(ctx, r.config.PeerIdle)
		doc, err := r.peers.documentOf(asking, peer, PeerPath)
		cancel()
		var tags []sharedTag
		if err == nil {
			err = json.Unmarshal(doc.body, &tags)
		}
		if err != nil {
			r.config.Logger.Debug("tags of server not read", "peer", peer.ID, "err", err)
			continue
		}
		for _, t := range tags {
			if isRepository(t.Repository) && manifestRef.MatchString(t.Tag) && r.config.Shared(t.Repository) {
				t.Set = t.Set.UTC()
				out = append(out, t)
			}
		}
	}
	return out
}

// takeOver replicates what a tag names and sets it, unless a newer one came meanwhile.
func (r *Registry) takeOver(ctx context.Context, t sharedTag) error {
	if err := r.Replicate(ctx, t.Repository, t.Digest); err != nil {
		return err
	}
	r.tags.Lock()
	defer r.tags.Unlock()
	if err := r.gate.enter(ctx); err != nil {
		return err
	}
	defer r.gate.leave()
	repository, err := r.repository(ctx, t.Repository)
	if err != nil {
		return err
	}
	if have, err := r.sharedTag(ctx, repository, t.Tag); err == nil && !t.newer(have) {
		return nil
	}
	if err := repository.Tags(ctx).Tag(ctx, t.Tag, imagespec.Descriptor{Digest: digest.Digest(t.Digest)}); err != nil {
		return fmt.Errorf("tag %s:%s: %w", t.Repository, t.Tag, err)
	}
	return os.Chtimes(filepath.Join(r.config.Root, tagLink(t.Repository, t.Tag)), t.Set, t.Set)
}

// sharedTags lists the tags of the shared repositories of this server.
func (r *Registry) sharedTags(ctx context.Context) (out []sharedTag, err error) {
	repos, ok := r.store.(distribution.RepositoryEnumerator)
	if !ok {
		return nil, errors.New("the store cannot list repositories")
	}
	err = repos.Enumerate(ctx, func(name string) error {
		if !r.config.Shared(name) {
			return nil
		}
		repository, err := r.repository(ctx, name)
		if err != nil {
			return err
		}
		tags, err := repository.Tags(ctx).All(ctx)
		if _, unknown := errors.AsType[distribution.ErrRepositoryUnknown](err); err != nil && !unknown {
			return fmt.Errorf("list tags of %s: %w", name, err)
		}
		for _, tag := range tags {
			if t, err := r.sharedTag(ctx, repository, tag); err == nil { // else it is half written, or just removed
				out = append(out, t)
			}
		}
		return nil
	})
	if isNotFound(err) {
		err = nil
	}
	return out, err
}

func (r *Registry) sharedTag(ctx context.Context, repository distribution.Repository, tag string) (sharedTag, error) {
	name := repository.Named().Name()
	desc, err := repository.Tags(ctx).Get(ctx, tag)
	if err != nil {
		return sharedTag{}, fmt.Errorf("read tag %s:%s: %w", name, tag, err)
	}
	info, err := os.Stat(filepath.Join(r.config.Root, tagLink(name, tag)))
	if err != nil {
		return sharedTag{}, fmt.Errorf("read tag %s:%s: %w", name, tag, err)
	}
	return sharedTag{name, tag, desc.Digest.String(), info.ModTime().UTC()}, nil
}

// serveTags tells a peer the tags of the shared repositories.
func (r *Registry) serveTags(w http.ResponseWriter, req *http.Request) {
	tags, err := r.sharedTags(req.Context())
	if err != nil {
		http.Error(w, err.Error(), api.HTTPStatus(err))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(tags) // the peer may be gone
}

// deleteFromPeers removes a shared manifest or tag from all other servers before it goes from this
// one: any that keeps it would bring it back. It returns false after it has answered that one
// cannot be asked.
func (r *Registry) deleteFromPeers(w http.ResponseWriter, req *http.Request) bool {
	m := manifestPath.FindStringSubmatch(req.URL.Path)
	if m == nil || !manifestRef.MatchString(m[2]) || !r.config.Shared(m[1]) || !r.may(req, m[1], ActionDelete) {
		return true
	}
	for _, peer := range r.peers.list() {
		ctx, cancel := context.WithTimeout(req.Context(), r.config.PeerIdle)
		_, err := r.peers.once(ctx, peer, http.MethodDelete, peerManifest(m[1], m[2]))
		cancel()
		if err != nil && !errors.Is(err, errNotThere) {
			return !r.refuseMissing(w, req, api.Errorf(api.CodeUnavailable,
				"%s of %s is not removed from server %s, which would bring it back; try again when that server answers: %w", m[2], m[1], peer.ID, err))
		}
	}
	return true
}

// serveDelete removes a shared manifest with its tags, or a tag, for a peer.
func (r *Registry) serveDelete(w http.ResponseWriter, req *http.Request, repo, ref string) {
	if !r.config.Shared(repo) {
		http.Error(w, "only shared images are removed by peers", http.StatusForbidden)
		return
	}
	r.tags.Lock()
	defer r.tags.Unlock()
	if err := r.gate.enter(req.Context()); err != nil {
		return // the peer has gone
	}
	defer r.gate.leave()
	defer r.removals.Add(1)
	err := r.deleteShared(req.Context(), repo, ref)
	if isNotFound(err) {
		http.NotFound(w, req)
		return
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (r *Registry) deleteShared(ctx context.Context, repo, ref string) error {
	repository, err := r.repository(ctx, repo)
	if err != nil {
		return err
	}
	tags := repository.Tags(ctx)
	d, err := digest.Parse(ref)
	if err != nil {
		return tags.Untag(ctx, ref)
	}
	named, err := tags.Lookup(ctx, imagespec.Descriptor{Digest: d})
	if err != nil && !isNotFound(err) {
		return fmt.Errorf("tags of %s@%s: %w", repo, ref, err)
	}
	for _, tag := range named {
		if err := tags.Untag(ctx, tag); err != nil {
			return fmt.Errorf("remove tag %s:%s: %w", repo, tag, err)
		}
	}
	manifests, err := repository.Manifests(ctx)
	if err != nil {
		return err
	}
	err = manifests.Delete(ctx, d)
	if errors.Is(err, distribution.ErrBlobUnknown) {
		return driver.PathNotFoundError{Path: ref}
	}
	return err
}

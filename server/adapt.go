package server

import (
	"context"
	"io"
	"maps"
	"slices"

	"slipway/api"
	"slipway/api/pb"
	"slipway/server/auth"
	"slipway/server/control"
	"slipway/server/dispatch"
	"slipway/server/objects"
	"slipway/server/registry"
)

// The subpackages of server do not know one another; these types join them.

// sourceFiles shows the object store to control and dispatch: what another server holds is fetched,
// and what is uploaded is on most of them before anybody is told.
type sourceFiles struct {
	*objects.Store
	server *Server
}

// Open opens a source.
func (s sourceFiles) Open(ctx context.Context, digest string) (io.ReadCloser, error) {
	if !s.Holds(digest) {
		if err := s.Fetch(ctx, digest); err != nil {
			return nil, err
		}
	}
	f, err := s.Store.Open(digest)
	if err != nil {
		return nil, err
	}
	return f, nil
}

// Put stores a source.
func (s sourceFiles) Put(ctx context.Context, r io.Reader, limit api.Bytes) (string, api.Bytes, error) {
	digest, size, err := s.Store.Put(ctx, r, limit)
	if err == nil {
		err = s.server.spreadSource(ctx, digest)
	}
	return digest, size, err
}

// tunnels shows dispatch to control.
type tunnels struct{ dispatch *dispatch.Server }

// OpenStream opens a stream to the agent of a node.
func (t tunnels) OpenStream(ctx context.Context, node api.NodeID, open *pb.Open) (control.Stream, error) {
	s, err := t.dispatch.Open(ctx, node, open)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// images shows the registry to control.
type images struct{ *registry.Registry }

// Load stores the images of an archive.
func (i images) Load(ctx context.Context, repo string, archive io.Reader) (out []control.LoadedImage, err error) {
	all, err := i.Registry.Load(ctx, repo, archive)
	for _, l := range all {
		out = append(out, control.LoadedImage{Tags: l.Tags, Image: api.Image{Repository: repo, Digest: l.Digest, Size: l.Size}})
	}
	return out, err
}

// Save prepares an archive.
func (i images) Save(ctx context.Context, repo string, tags map[string]api.Image) (control.ImageArchive, error) {
	var all []registry.Saved
	for _, tag := range slices.Sorted(maps.Keys(tags)) {
		all = append(all, registry.Saved{Tag: tag, Digest: tags[tag].Digest})
	}
	archive, err := i.Archive(ctx, repo, all)
	if err != nil {
		return nil, err
	}
	return archive, nil
}

// callers shows auth to control.
type callers struct{}

func (callers) Actor(ctx context.Context) string                  { return auth.Actor(ctx) }
func (callers) Visible(ctx context.Context, app api.AppName) bool { return auth.Visible(ctx, app) }
func (callers) Enters(ctx context.Context) bool                   { return auth.Enters(ctx) }
func (callers) Administers(ctx context.Context) bool              { return auth.Administers(ctx) }

// NewToken draws the secret of a token.
func (callers) NewToken() (secret string, hash []byte) {
	secret = auth.NewSecret()
	return secret, auth.Hash(secret)
}

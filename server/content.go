package server

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"slipway/api"
	"slipway/api/machine"
	"slipway/raftstore/state"
	"slipway/server/auth"
	"slipway/server/objects"
	"slipway/server/registry"
)

// spreadMax bounds how long a build, or an upload, waits until most servers hold its content.
const spreadMax = 30 * time.Second

// peers are the other servers that keep images and sources.
func (s *Server) peers() (out []registry.Peer) {
	for one := range s.store.View().Servers() {
		if one.ID != s.identity.Name().ID {
			out = append(out, registry.Peer{ID: one.ID, Addr: one.Registry})
		}
	}
	return out
}

// peerClient reaches them, by certificate.
func (s *Server) peerClient() *http.Client {
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig: s.identity.Client(machine.RoleServer), MaxIdleConnsPerHost: 8, IdleConnTimeout: 30 * time.Second,
	}}
}

// fromServer reports why a request is not from another server of the rack.
func (s *Server) fromServer(r *http.Request) error {
	if r.TLS == nil {
		return api.Errorf(api.CodeDenied, "only servers of the rack may ask for this")
	}
	who, err := s.guard.IdentifyMachine(*r.TLS)
	if err == nil && who.Role != auth.RoleServer {
		err = api.Errorf(api.CodeDenied, "only servers of the rack may ask for this, not %s", who)
	}
	return err
}

// shared reports whether a repository belongs to no app.
func shared(repo string) bool { return api.CheckName("app", repo) != nil }

// keepContent makes this server hold every image and every source that the state needs, whether it
// was there when they came in or not.
func (s *Server) keepContent(ctx context.Context) error {
	images, sources := make(chan struct{}, 1), make(chan struct{}, 1)
	_, updates := s.store.Follow(ctx, func(ch state.Changes) state.Changes {
		return state.Changes{All: ch.All, Apps: ch.Apps, Builds: ch.Builds}
	})
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		for u := range updates {
			if !u.Changes.All && len(u.Changes.Builds)+len(u.Changes.Apps) == 0 {
				continue
			}
			for _, changed := range []chan struct{}{images, sources} {
				select {
				case changed <- struct{}{}:
				default:
				}
			}
		}
		return nil
	})
	group.Go(func() error {
		wanted := func() []registry.Image { return imagesOf(s.store.View()) }
		return s.registry.Follow(ctx, wanted, images, s.metrics.missing("image"))
	})
	group.Go(func() error {
		return registry.Replicator[string]{
			Missing: s.missingSources, Fetch: s.sources.Fetch, Logger: s.cfg.Log, Left: s.metrics.missing("source"),
		}.Run(ctx, sources)
	})
	return group.Wait()
}

// missingSources lists the sources that this server lacks, in a stable order. A server without
// others has nobody to get them from.
func (s *Server) missingSources() []string {
	if len(s.peers()) == 0 {
		return nil
	}
	wanted := sourcesInUse(s.store.View())
	delete(wanted, "") // of builds without one
	return s.sources.Missing(slices.Sorted(maps.Keys(wanted)))
}

// imagesOf lists the images of all builds.
func imagesOf(v *state.View) (out []registry.Image) {
	for a := range v.Apps() {
		for b := range v.Builds(a.Name) {
			for _, image := range b.Images {
				out = append(out, registry.Image{Repository: string(a.Name), Digest: image.Digest, Created: b.Created})
			}
		}
	}
	return out
}

// spreadImage makes the servers hold an image. It returns once a majority does, or after spreadMax
// with what is missing: whoever is not there now fetches it later, from one that has it.
func (s *Server) spreadImage(ctx context.Context, app api.AppName, digest string) error {
	ctx, cancel := context.WithTimeout(ctx, spreadMax)
	defer cancel()
	return s.most(s.registry.Spread(ctx, string(app), digest), "image "+digest)
}

// most reports whether a majority of the servers is among holders.
func (s *Server) most(holders []string, what string) error {
	if n := s.store.Servers(); 2*len(holders) <= n {
		return api.Errorf(api.CodeUnavailable, "%s is on %d of %d servers", what, len(holders), n)
	}
	return nil
}

// spreadSource does the same for an uploaded source.
func (s *Server) spreadSource(ctx context.Context, digest string) error {
	ctx, cancel := context.WithTimeout(ctx, spreadMax)
	defer cancel()
	return s.most(append(s.sources.Spread(ctx, digest), s.identity.Name().ID), "source "+digest)
}

// routePeers serves content to the other servers.
func (s *Server) routePeers(mux *http.ServeMux) {
	mux.Handle(registry.PeerPath, s.registry.PeerHandler(s.fromServer))
	mux.Handle(objects.PeerPath, s.sources.Handler(s.fromServer))
}

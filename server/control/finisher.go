package control

import (
	"context"
	"errors"
	"fmt"

	"slipway/api"
	"slipway/manifest"
	"slipway/raftstore/state"
)

// RunFinisher turns every build whose process ended well, or that was imported, into a release, and
// promotes it if the build was asked for that, until ctx ends. Only the leader runs it. It is level-triggered: what
// a former leader left half done is finished.
func (s *Server) RunFinisher(ctx context.Context) error {
	err := s.follow(ctx, s.cfg.Store.View(), func(v *state.View) (bool, error) {
		for b := range v.BuildsOpen() {
			images := b.Images
			if !b.Imported() {
				p, ok := v.Process(b.Process)
				if !ok || p.Observed.State != api.StateExited || p.Observed.ExitCode != 0 {
					continue
				}
				images = p.Observed.Images
			}
			if err := s.finish(ctx, b, images); err != nil {
				return false, fmt.Errorf("finish build %s: %w", b.ID, err)
			}
		}
		return true, nil
	})
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		return nil
	}
	return err
}

// finish ends one build. Where a release came in between, the next look at the build takes its
// environment.
func (s *Server) finish(ctx context.Context, b *api.Build, images map[api.ServiceName]api.Image) error {
	s.spread(ctx, b, images)
	base := &api.Release{App: b.App}
	if newest, ok := newestRelease(s.cfg.Store.View(), b.App); ok {
		base = newest
	}
	end := state.EndBuild{Build: b.ID, Images: images}
	release, err := s.buildRelease(b, images, base)
	switch api.CodeOf(err) {
	case "":
		end.Release, end.Base, end.Deployment = release, &base.ID, s.buildDeployment(b, release)
	case api.CodeInvalid:
		end.Failure = err.Error()
	default:
		return err
	}
	res, err := s.cfg.Store.Propose(ctx, state.Entry{
		Request: api.RequestID("finish/" + string(b.ID) + "/" + string(base.ID)), At: s.cfg.Now(), Actor: b.Author, Reason: b.Reason, Command: end,
	})
	if err != nil {
		return err
	}
	if res.Err != nil {
		s.cfg.Log.Warn("build not ended", "app", b.App, "build", b.ID, "err", res.Err)
		return nil
	}
	s.cfg.Log.Info("build ended", "app", b.App, "build", b.ID, "failure", end.Failure)
	return nil
}

// spread waits until most servers hold what a build made: the rack must not lose it with one of
// them. A server that is slow now gets it later.
func (s *Server) spread(ctx context.Context, b *api.Build, images map[api.ServiceName]api.Image) {
	if s.cfg.SpreadImage == nil {
		return
	}
	for _, image := range images {
		if image.Digest == "" {
			continue
		}
		if err := s.cfg.SpreadImage(ctx, b.App, image.Digest); err != nil {
			s.cfg.Log.Warn("image not on most servers yet", "app", b.App, "build", b.ID, "err", err)
		}
	}
}

// buildDeployment is the promotion of the release of a build; nil when nobody asked for it.
func (s *Server) buildDeployment(b *api.Build, release *api.Release) *api.Deployment {
	a, ok := s.cfg.Store.View().App(b.App)
	if !b.Options.Promote || !ok || a.Deleting {
		return nil
	}
	return &api.Deployment{
		ID: api.NewIDs(s.cfg.Mint()).Deployment(), App: b.App, Release: release.ID, Author: b.Author,
	}
}

// buildRelease makes the release of a build. Its environment is that of base, the newest release:
// one that was set while the build ran is not lost. Before the first it is that of the build.
func (s *Server) buildRelease(b *api.Build, images map[api.ServiceName]api.Image, base *api.Release) (*api.Release, error) {
	for _, spec := range b.Services {
		if images[spec.Name].Digest == "" {
			return nil, api.Errorf(api.CodeInvalid, "the builder reported no image for service %q", spec.Name)
		}
	}
	secrets, err := s.secrets.Build(b)
	if err != nil {
		return nil, err
	}
	env := secrets.Env
	if base.ID != "" {
		if env, err = s.releaseEnv(base); err != nil {
			return nil, err
		}
	}
	r, err := s.compile(release{
		id: api.NewIDs(s.cfg.Mint()).Release(), app: b.App, build: b.ID, manifest: b.Manifest,
		author: b.Author, description: b.Description, lenient: b.Imported(),
	}, env)
	if _, invalid := errors.AsType[*manifest.Problems](err); invalid {
		return nil, api.Errorf(api.CodeInvalid, "the manifest does not fit the environment: %w", err)
	}
	return r, err
}

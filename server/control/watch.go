package control

import (
	"context"

	"slipway/api"
	"slipway/raftstore/state"
)

// follow calls see with every new view, beginning with v, until see returns false or an error.
// Views that come while see is busy are skipped: it always gets the newest.
func (s *Server) follow(ctx context.Context, v *state.View, see func(*state.View) (bool, error)) error {
	for {
		more, err := see(v)
		if err != nil || !more {
			return err
		}
		if v, err = s.cfg.Store.Next(ctx, v.Index()); err != nil {
			return err
		}
	}
}

// waitBuild waits until a build is as wanted.
func (s *Server) waitBuild(ctx context.Context, id api.BuildID, wanted func(*api.Build) bool) (*api.Build, error) {
	var b *api.Build
	err := s.follow(ctx, s.cfg.Store.View(), func(v *state.View) (bool, error) {
		var ok bool
		if b, ok = v.Build(id); !ok {
			return false, api.NotFound("build", string(id), nil)
		}
		return !wanted(b), nil
	})
	return b, err
}

// waitBuildStarted waits until a build has a process on a node, or has ended without one. It
// tells what the build waits for.
func (s *Server) waitBuildStarted(ctx context.Context, v *state.View, b *api.Build, send sendLines) (*api.Build, error) {
	told := ""
	err := s.follow(ctx, v, func(v *state.View) (bool, error) {
		var ok bool
		if b, ok = v.Build(b.ID); !ok {
			return false, api.Errorf(api.CodeNotFound, "the build was removed")
		}
		p, placed := v.Process(b.Process)
		if placed && p.Waiting != "" && p.Waiting != told {
			told = p.Waiting
			line := api.LogLine{At: s.cfg.Now(), App: b.App, Service: p.Service, Process: p.ID, Stream: "system", Text: "the build waits for a node: " + told}
			if err := send([]api.LogLine{line}); err != nil {
				return false, err
			}
		}
		return !b.Status.Ended() && (!placed || p.Node == ""), nil
	})
	return b, err
}

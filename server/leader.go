package server

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"

	"slipway/api"
	"slipway/raftstore/state"
)

const (
	collectImages = time.Hour
	leadAgain     = 200 * time.Millisecond
)

// lead runs what only the leader does, whenever this server is it.
func (s *Server) lead(ctx context.Context) error {
	changes := s.store.LeaderChanges()
	leads := s.store.IsLeader()
	for {
		if !leads {
			select {
			case <-ctx.Done():
				return nil
			case leads = <-changes:
			}
			continue
		}
		term, lost := context.WithCancel(ctx)
		ended := make(chan error, 1)
		go func() { ended <- s.term(term) }()
		select {
		case <-ctx.Done():
			lost()
			<-ended
			return nil
		case leads = <-changes:
			lost()
			<-ended
		case err := <-ended:
			lost()
			// The loop may have failed before Raft says that leadership is lost.
			s.cfg.Log.Warn("leader loop ended", "err", err)
			leads = s.store.IsLeader()
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(leadAgain):
			}
		}
	}
}

// term is one time as the leader: everything committed before is applied, then the loop starts
// from state alone.
func (s *Server) term(ctx context.Context) error {
	if err := s.store.Barrier(ctx); err != nil {
		return err
	}
	if err := s.found(ctx); err != nil {
		return err
	}
	if err := s.forget(ctx); err != nil {
		return err
	}
	s.cfg.Log.Info("leading")
	defer s.dispatch.Lead()()
	l := &loop{
		store: s.store, heartbeats: s.dispatch.Heartbeats, attached: s.dispatch.Attached, now: time.Now, seed: randomSeed, settle: s.cfg.settle, log: s.cfg.Log,
		proposed: s.metrics.proposed, passed: s.metrics.passed, saw: s.saw,
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return l.run(ctx) })
	group.Go(func() error { return s.control.RunFinisher(ctx) })
	group.Go(func() error { return s.keepMembers(ctx) })
	return group.Wait()
}

// saw notes that the loop has passed over a state.
func (s *Server) saw(index uint64) {
	s.passedAt.Store(time.Now().UnixNano())
	s.passedIndex.Store(int64(index))
}

// collect removes images and sources that no build needs, now and then.
func (s *Server) collect(ctx context.Context) error {
	tick := time.NewTicker(collectImages)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			s.collectOnce(ctx)
		}
	}
}

func (s *Server) collectOnce(ctx context.Context) {
	freed, err := s.sources.Collect(sourcesInUse(s.store.View()), sourceGrace)
	if err != nil {
		s.cfg.Log.Warn("sources not collected", "err", err)
	}
	s.cfg.Log.Info("sources collected", "freed_bytes", int64(freed))
	ctx, cancel := context.WithTimeout(ctx, collectImages) // it waits for uploads
	defer cancel()
	if _, err := s.registry.GC(ctx, func(repo string) map[string]bool { return imagesInUse(s.store.View(), repo) }); err != nil {
		s.cfg.Log.Warn("images not collected", "err", err)
	}
}

// sourceGrace is longer than a client takes from an upload to its build.
const sourceGrace = time.Hour

// sourcesInUse returns the sources that are needed: those of builds that have not ended, and of
// the newest build of each app, which is not sent again while nothing changes.
func sourcesInUse(v *state.View) map[string]bool {
	keep := map[string]bool{}
	for b := range v.BuildsOpen() {
		keep[b.Source] = true
	}
	for a := range v.Apps() {
		for b := range v.Builds(a.Name) {
			keep[b.Source] = true
			break
		}
	}
	return keep
}

// imagesInUse returns the digests that a repository must keep: all for one that belongs to no
// app, those of the builds that still exist for an app's. A release that could be rolled back to
// keeps its build.
func imagesInUse(v *state.View, repo string) map[string]bool {
	if api.CheckName("app", repo) != nil {
		return nil
	}
	keep := map[string]bool{}
	for b := range v.Builds(api.AppName(repo)) {
		for _, image := range b.Images {
			keep[image.Digest] = true
		}
	}
	return keep
}

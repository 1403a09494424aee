package server

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"slipway/api"
	"slipway/raftstore/state"
)

// TestCollectionsKeepWhatIsInUse asks what collections of images and sources must leave alone.
func TestCollectionsKeepWhatIsInUse(t *testing.T) {
	s, index := state.New(), uint64(0)
	apply := func(cmd state.Command) {
		t.Helper()
		index++
		if r := s.Apply(index, state.Entry{At: time.Unix(int64(index), 0), Command: cmd}); r.Err != nil || len(r.Dropped) > 0 {
			t.Fatalf("%s: %v %q", cmd.Type(), r.Err, r.Dropped)
		}
	}
	build := func(app api.AppName, id api.BuildID, digest string) {
		apply(state.CreateBuild{Build: api.Build{ID: id, App: app, Source: "source of " + string(id)}})
		if digest == "" {
			return
		}
		p := api.ProcessID("p" + id)
		apply(state.CreateProcess{Process: api.Process{ID: p, App: app, Service: "build", Kind: api.KindBuild, Build: id}})
		apply(state.StartBuild{Build: id, Process: p})
		apply(state.EndBuild{
			Build: id, Images: map[api.ServiceName]api.Image{"web": {Repository: string(app), Digest: digest}},
			Release: &api.Release{ID: api.ReleaseID("R" + id), App: app, Build: id},
		})
	}
	for _, app := range []api.AppName{"shop", "blog"} {
		apply(state.CreateApp{App: api.App{Name: app}})
	}
	build("shop", "B1", "sha256:one")
	build("shop", "B2", "sha256:two")
	build("blog", "B3", "sha256:three")
	build("shop", "B4", "") // in progress
	build("shop", "B5", "sha256:five")

	v := s.View()
	for repo, want := range map[string]map[string]bool{
		"shop":            {"sha256:one": true, "sha256:two": true, "sha256:five": true},
		"blog":            {"sha256:three": true},
		"gone":            {},
		"library/busybox": nil,
	} {
		if diff := cmp.Diff(want, imagesInUse(v, repo)); diff != "" {
			t.Errorf("images of %s: %s", repo, diff)
		}
	}
	want := map[string]bool{"source of B3": true, "source of B4": true, "source of B5": true}
	if diff := cmp.Diff(want, sourcesInUse(v)); diff != "" {
		t.Errorf("sources: %s", diff)
	}
}

package agent

import (
	"log/slog"
	"slices"
	"testing"
	"time"

	"slipway/api"
	"slipway/runtime"
	"slipway/runtime/fake"
)

// TestImagesGoSomeTimeAfterTheirLastUse: one is assigned, one has a container, one was used an
// hour ago, and one not since the agent began.
func TestImagesGoSomeTimeAfterTheirLastUse(t *testing.T) {
	engine := fake.New()
	defer engine.Close()
	now := time.Unix(1000, 0)
	a, err := New(Config{Dir: t.TempDir(), Node: api.Node{ID: "n1"}, Runtime: engine, Now: func() time.Time { return now }, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer a.store.close()
	image := func(name string) api.Image { return api.Image{Repository: name, Digest: "sha256:" + name} }
	for _, name := range []string{"assigned", "running", "late", "never"} {
		engine.AddImage(image(name).Ref(), fake.Image{Info: runtime.ImageInfo{Entrypoint: []string{"/app"}}})
		if _, err := engine.Pull(t.Context(), image(name).Ref(), nil); err != nil {
			t.Fatal(err)
		}
	}
	assign := func(names ...string) {
		clear(a.assigned)
		for _, n := range names {
			a.assigned[api.ProcessID("p"+n)] = api.Assignment{Process: api.ProcessID("p" + n), Image: image(n)}
		}
	}
	if err := engine.Create(t.Context(), runtime.Spec{ID: "prunning", Image: image("running").Ref()}); err != nil {
		t.Fatal(err)
	}
	have := func(want ...string) {
		t.Helper()
		a.collectImages(t.Context())
		list, err := engine.ListImages(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, i := range list {
			got = append(got, i.Ref)
		}
		var refs []string
		for _, name := range want {
			refs = append(refs, image(name).Ref())
		}
		slices.Sort(refs)
		if !slices.Equal(got, refs) {
			t.Errorf("at %s there are %q, want %q", now, got, refs)
		}
	}
	assign("assigned", "late")
	have("assigned", "running", "late", "never")
	now = now.Add(time.Hour)
	assign("assigned")
	have("assigned", "running", "late", "never")
	now = now.Add(unusedMax - time.Hour)
	have("assigned", "running", "late")
	engine.SetDown(api.Errorf(api.CodeUnavailable, "away"))
	now = now.Add(time.Hour)
	a.collectImages(t.Context())
	engine.SetDown(nil)
	have("assigned", "running")
	if err := engine.Remove(t.Context(), "prunning"); err != nil {
		t.Fatal(err)
	}
	now = now.Add(unusedMax)
	have("assigned", "running") // unused from now on
	now = now.Add(unusedMax)
	have("assigned")
}

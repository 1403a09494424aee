package agent

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"slipway/api"
	"slipway/runtime"
	"slipway/runtime/fake"
)

// TestHalfMadeContainersAreMadeAgain: the agent was killed while it made a container. What the
// engine has of it, whole, in part or not at all, counts for nothing; a process that was noted as
// made, or as started, is taken as it is.
func TestHalfMadeContainersAreMadeAgain(t *testing.T) {
	for name, c := range map[string]struct {
		known     Local
		container func(e *fake.Engine, id api.ProcessID)
		want      Local // Container, Task and whether it has ended
	}{
		"nothing there":           {Local{}, func(*fake.Engine, api.ProcessID) {}, Local{}},
		"made, not noted":         {Local{}, func(e *fake.Engine, id api.ProcessID) { create(e, id) }, Local{}},
		"lost its process":        {Local{}, func(e *fake.Engine, id api.ProcessID) { create(e, id); e.Lose(id) }, Local{}},
		"made and noted":          {Local{Container: true}, func(e *fake.Engine, id api.ProcessID) { create(e, id) }, Local{Container: true}},
		"started":                 {Local{Container: true}, func(e *fake.Engine, id api.ProcessID) { create(e, id); start(e, id) }, Local{Container: true, Task: true}},
		"started and disappeared": {Local{Container: true, Task: true}, func(*fake.Engine, api.ProcessID) {}, Local{Container: true, Task: true, Exit: &Exit{Lost: true}}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				engine := fake.New()
				defer engine.Close()
				engine.AddImage(ref, fake.Image{Info: runtime.ImageInfo{Entrypoint: []string{"/app"}}})
				if _, err := engine.Pull(t.Context(), ref, nil); err != nil {
					t.Fatal(err)
				}
				c.container(engine, "pone")
				list, err := engine.List(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				there := map[api.ProcessID]runtime.Container{}
				for _, c := range list {
					there[c.ID] = c
				}
				got := adopted(record{Assignment: *web(), Local: c.known}, there, time.Now())
				if got.Container != c.want.Container || got.Task != c.want.Task || (got.Exit != nil) != (c.want.Exit != nil) || !got.Bare {
					t.Errorf("known as %+v, want %+v", got, c.want)
				}
			})
		})
	}
}

const ref = "rack.internal/shop@sha256:1"

func create(e *fake.Engine, id api.ProcessID) {
	_ = e.Create(context.Background(), runtime.Spec{ID: id, Image: ref}) // the test finds out
}

func start(e *fake.Engine, id api.ProcessID) {
	_, _ = e.Start(context.Background(), id) // the test finds out
}

package buildtest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"slipway/agent/build"
	"slipway/api"
	"slipway/server/registry"
)

// smallDisk mounts one at a directory until the test ends.
func smallDisk(t *testing.T, dir, size string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root to mount a small disk")
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
}

// TestFullDisk fills the builder's disk in several ways. Each time the error says so, the cache
// of what was built before survives, and the next build works.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	r := newRack(t)
	b := newBuilder(t, r, func(c *build.Config) {
		smallDisk(t, c.Root, "192m")
		c.Memory = 2 * api.GiB // which the disk takes as well
		c.Source.Ratio = 1 << 20
	})
	sound := source{"Dockerfile": "FROM busybox\nRUN head -c 16 /dev/urandom > /random && echo first step ran\nCOPY main /main\nRUN echo the file says $(cat /main)\n", "main": "one"}
	ran := regexp.MustCompile(`(?m)^#\d+ first step ran`)
	build := func(s source) (api.Image, *output, error) {
		j, out := job(s)
		images, err := b.Build(t.Context(), j)
		return images["web"], out, err
	}
	before, out, err := build(sound)
	if err != nil || !ran.MatchString(out.String()) {
		t.Fatalf("%v\n%s", err, out)
	}
	for i, c := range []struct {
		name   string
		source source
	}{
		{"a step", source{"Dockerfile": "FROM busybox\nRUN dd if=/dev/zero of=/big bs=1M count=400\n"}},
		{"a source", source{"Dockerfile": "FROM busybox\n", "big": strings.Repeat("0123456789abcdef", 20<<20)}},
		{"what a step keeps", source{"Dockerfile": "FROM busybox\nRUN --mount=type=cache,target=/c dd if=/dev/zero of=/c/big bs=1M count=400\n"}},
	} {
		_, out, err := build(c.source)
		if api.CodeOf(err) != api.CodeExhausted || !strings.Contains(fmt.Sprint(err), "the disk of the builder is full") {
			t.Errorf("%s: code %q: %.500v\n%s", c.name, api.CodeOf(err), err, out)
		}
		again, out, err := build(sound)
		if err != nil || again != before || ran.MatchString(out.String()) {
			t.Errorf("after %s: %+v, want %+v; %v\n%s", c.name, again, before, err, out)
		}
		edited := source{"Dockerfile": sound["Dockerfile"], "main": fmt.Sprintf("%03d", i)}
		if _, out, err := build(edited); err != nil || !strings.Contains(out.String(), fmt.Sprintf("the file says %03d", i)) {
			t.Errorf("an edit after %s: %v\n%s", c.name, err, out)
		}
	}
}

// TestFullRegistry pushes to one that has no room.
func TestFullRegistry(t *testing.T) {
	t.Parallel()
	r := newRack(t)
	full, err := registry.New(registry.Config{Root: r.root, HTTPSecret: "s", FreeMin: 1 << 60, Authorize: func(_, _, _, _ string) error { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	b := newBuilder(t, r)
	j, out := job(source{"Dockerfile": "FROM busybox\nRUN echo built\n"})
	if _, err := b.Build(t.Context(), j); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	r.switchTo(full)
	for _, service := range []api.ServiceSpec{
		{Name: "web", Build: &api.BuildSpec{Path: "."}}, {Name: "db", Image: "rack.internal/library/busybox"},
	} {
		j, out := job(source{"Dockerfile": "FROM busybox\nRUN echo built again\n"}, service)
		if _, err := b.Build(t.Context(), j); api.CodeOf(err) != api.CodeExhausted || !strings.Contains(err.Error(), "disk of the rack's registry") {
			t.Errorf("%s: code %q: %v\n%s", service.Name, api.CodeOf(err), err, out)
		}
	}
}

// TestCacheIsBounded builds more than the cache may hold.
func TestCacheIsBounded(t *testing.T) {
	t.Parallel()
	const limit = 24 * api.MiB
	var root string
	b := newBuilder(t, newRack(t), func(c *build.Config) {
		root = c.Root
		c.CacheMax = limit
		c.Idle = 10 * time.Millisecond // a new engine looks at its cache at once
	})
	for i := range 6 {
		j, out := job(source{"Dockerfile": fmt.Sprintf("FROM busybox\nRUN head -c 10000000 /dev/urandom > /%d\n", i)})
		if _, err := b.Build(t.Context(), j); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	eventually(t, 10*time.Second, func() error {
		if b.Awake() {
			return errors.New("the engine still runs")
		}
		return nil
	})
	j, _ := job(source{"Dockerfile": "FROM busybox\nRUN sleep 100\n"}) // keeps the engine awake
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = b.Build(t.Context(), j)
	}()
	eventually(t, 30*time.Second, func() error {
		if n := diskUse(t, filepath.Join(root, "engine")); n > limit {
			return fmt.Errorf("the cache takes %s, its limit is %s", n, limit)
		}
		return nil
	})
	select {
	case <-done:
		t.Error("the engine did not live on")
	default:
	}
}

// diskUse is what the files below a directory take.
func diskUse(t *testing.T, dir string) (n api.Bytes) {
	t.Helper()
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil //nolint:nilerr // it goes while we look
		}
		if info, err := d.Info(); err == nil {
			n += api.Bytes(info.Size())
		}
		return nil
	})
	return n
}

package registry

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestSpread is what the end of a build waits for.
func TestSpread(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, nil)
	digest := c.push(t, c.members[1], "hello:v1", randomImage(t, 2))
	if got := fmt.Sprint(c.members[0].Spread(t.Context(), "hello", digest)); got != "[s0 s1 s2]" {
		t.Errorf("spread to %s", got)
	}
	c.members[2].kill()
	next := c.push(t, c.members[1], "hello:v2", randomImage(t, 2))
	if got := fmt.Sprint(c.members[0].Spread(t.Context(), "hello", next)); got != "[s0 s1]" {
		t.Errorf("with one server down, spread to %s", got)
	}
}

// TestSpreadDoesNotWait: one server is there, but does not answer.
func TestSpreadDoesNotWait(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, nil)
	digest := c.push(t, c.members[0], "hello:v1", randomImage(t, 2))
	c.members[2].breakWith(func(_ http.ResponseWriter, req *http.Request) bool { <-req.Context().Done(); return true })
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	for range 20 { // it is waited for once, and then no more
		if got := fmt.Sprint(c.members[0].Spread(ctx, "hello", digest)); got != "[s0 s1]" || ctx.Err() != nil {
			t.Errorf("spread to %s, %v", got, ctx.Err())
		}
	}
}

// TestSpreadGoesOn: whoever asked for the image does not wait any longer; Follow brings it.
func TestSpreadGoesOn(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2, nil)
	a, b := c.members[0], c.members[1]
	img := bigImage(t, bigSize)
	digest := c.push(t, a, "hello:v1", img)
	b.follow(t, func() []Image { return nil }, nil)
	ctx, cancel := context.WithCancel(t.Context())
	release := make(chan struct{})
	a.onBlob(func(http.ResponseWriter, *http.Request, string) bool { cancel(); <-release; return false })
	if got := fmt.Sprint(a.Spread(ctx, "hello", digest)); got != "[s0]" {
		t.Errorf("spread to %s", got)
	}
	close(release)
	await(t, "the image does not come", func() bool { return b.Holds("hello", digest) })
}

// TestSharedImagesComeSoon: a server tells the others that it has taken in a base image.
func TestSharedImagesComeSoon(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, func(config *Config) {
		config.Shared = func(repo string) bool { return strings.HasPrefix(repo, "library/") }
	})
	for _, m := range c.members {
		m.follow(t, func() []Image { return nil }, nil)
	}
	for range 3 {
		began := time.Now()
		digest := c.push(t, c.members[0], "library/x:latest", randomImage(t, 1))
		for _, m := range c.members {
			await(t, "the tag does not come to "+m.id, func() bool {
				got, err := m.ResolveTag(t.Context(), "library/x", "latest")
				return err == nil && got == digest && m.Holds("library/x", digest)
			})
		}
		if took := time.Since(began); took > tagsInterval/2 {
			t.Errorf("it took %s", took)
		}
	}
}

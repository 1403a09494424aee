package rollout

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"slipway/api"
)

func TestBoundsRoundAsKubernetesDoes(t *testing.T) {
	for _, c := range []struct {
		n, minimum, maximum int
		singleton           bool
		surge, missing      int
	}{
		{1, 50, 200, false, 1, 0}, // starts the new one first
		{1, 0, 100, false, 0, 1},  // stops the old one first
		{1, 50, 200, true, 0, 1},  // as a singleton does whatever is written
		{3, 50, 200, false, 3, 1},
		{4, 75, 125, false, 1, 1},
		{10, 100, 110, false, 1, 0},
		{10, 85, 101, false, 1, 1},
		{1, 50, 100, false, 1, 0}, // neither would ever move
		{0, 50, 200, false, 1, 0},
	} {
		b := boundsOf(&api.ServiceSpec{Minimum: c.minimum, Maximum: c.maximum, Singleton: c.singleton}, c.n)
		if b.surge != c.surge || b.missing != c.missing {
			t.Errorf("%+v: surge %d, missing %d", c, b.surge, b.missing)
		}
	}
}

// TestEveryRolloutMovesWithinItsBounds replaces copies in a model where starts, readiness and
// ends come in any order.
func TestEveryRolloutMovesWithinItsBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 12).Draw(t, "n")
		spec := &api.ServiceSpec{
			Minimum: rapid.IntRange(0, 100).Draw(t, "minimum"), Maximum: rapid.IntRange(100, 200).Draw(t, "maximum"),
			Singleton: rapid.IntRange(0, 5).Draw(t, "singleton") == 0,
		}
		b := boundsOf(spec, n)
		old, draining, fresh, ready := rapid.IntRange(0, 12).Draw(t, "old"), 0, 0, 0
		serving := min(n-b.missing, old)
		for step := 0; fresh != n || ready != n || old+draining > 0; step++ {
			if step > 500 {
				t.Fatalf("%+v stands still with %d old, %d draining, %d new, %d ready", b, old, draining, fresh, ready)
			}
			wantNew, wantOld := b.next(fresh, ready, old, draining)
			if wantOld < old {
				old, draining = wantOld, draining+old-wantOld
			}
			if wantNew < fresh {
				t.Fatalf("%+v takes a new copy back: %d of %d", b, wantNew, fresh)
			}
			alive := wantNew + old
			if b.surge == 0 {
				alive += draining
			}
			if wantNew > fresh && alive > n+b.surge {
				t.Fatalf("%+v has %d alive", b, alive)
			}
			fresh = wantNew
			if old+ready < serving {
				t.Fatalf("%+v has %d serving, the least is %d", b, old+ready, serving)
			}
			switch event := rapid.SampledFrom([]string{"ready", "ended"}).Draw(t, fmt.Sprint("event ", step)); {
			case ready < fresh && (event == "ready" || draining == 0):
				ready++
			case draining > 0:
				draining--
			}
		}
	})
}

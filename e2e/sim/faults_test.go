package sim

import (
	"flag"
	"fmt"
	"testing"
)

var (
	seed  = flag.Uint64("seed", 0, "run this one seed instead of the usual ones")
	tries = flag.Uint64("tries", 1, "with -seed: run so many, from that one on, until one breaks something")
	hours = flag.Int("hours", 60, "simulated hours in all")
)

// regressions are seeds that once broke something.
var regressions = []uint64{}

// shapes are the racks that are simulated.
var shapes = []struct{ servers, nodes int }{{1, 4}, {3, 4}, {5, 6}, {3, 12}}

// TestFaults runs many racks through every fault there is. In the calm at the end of each hour
// every rack must converge.
func TestFaults(t *testing.T) {
	if *seed != 0 {
		for s := *seed; s < *seed+*tries && t.Run(fmt.Sprint("seed ", s), func(t *testing.T) { storm(t, s) }); s++ {
		}
		return
	}
	var seeds []uint64
	for s := uint64(1); s <= uint64(max(1, *hours/each)); s++ {
		seeds = append(seeds, s)
	}
	for _, s := range append(seeds, regressions...) {
		t.Run(fmt.Sprint("seed ", s), func(t *testing.T) {
			t.Parallel()
			storm(t, s)
		})
	}
}

// each is how many hours of a seed are simulated.
const each = 3

// storm runs the rack of a seed.
func storm(t *testing.T, seed uint64) {
	shape := shapes[seed%uint64(len(shapes))]
	r := Run(Config{Seed: seed, Servers: shape.servers, Nodes: shape.nodes, Hours: each, Faults: Faults})
	if len(r.Broken) > 0 {
		t.Fatalf("%s\n%s", r.Text(), r.Trace)
	}
}

func TestSameSeedSameHistory(t *testing.T) {
	history := func(seed uint64) string {
		r := Run(Config{Seed: seed, Servers: 3, Nodes: 5, Hours: 1, Faults: Faults, Trace: true})
		return r.Text() + r.Trace
	}
	for seed := uint64(42); seed < 54; seed++ { // what differs by chance does not differ each time
		if a, b := history(seed), history(seed); a != b {
			t.Fatalf("two runs of seed %d differ", seed)
		}
	}
}

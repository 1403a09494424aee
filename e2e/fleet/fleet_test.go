package fleet

import (
	"testing"
	"time"

	"slipway/api"
)

// TestFleet: a rack of a hundred nodes gets its processes, tells every node of an address, and
// replaces what was on nodes that lose their power.
func TestFleet(t *testing.T) {
	r := start(t, 3*time.Minute)
	w := newWitness(nameOf(fan.app(0), "s0"))
	f := r.fleet(Config{Nodes: 40, Capacity: roomy, Addresses: true, Assigned: w.assigned, Names: w.names})
	r.grow(f, 100)
	r.deploy(f, Load{Name: "app", Apps: 3, Services: 4, Copies: 25, CPU: 50, Memory: 64 * api.MiB, Port: true})
	if n := len(r.fanOut(f, w, 100, 2)); n != 200 {
		t.Errorf("%d times a node learned of an address, want 200", n)
	}
	took := r.nodeLoss(f, w, 100)
	if len(took) < lost {
		t.Errorf("%d nodes were lost and %d processes", lost, len(took))
	}
}

package scheduler

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"slipway/api"
)

// TestPreemptionIsLeastCostly: a service that finds no node takes the room of the copies that
// cost least, found here by trying every set of copies on every node.
func TestPreemptionIsLeastCostly(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := newRack()
		for i := range rapid.IntRange(1, 3).Draw(t, "nodes") {
			r.node(fmt.Sprintf("n%d", i), api.Amount{CPU: 1000, Memory: 1000 * api.MiB})
		}
		for i := range rapid.IntRange(1, 5).Draw(t, "services") {
			s := &api.ServiceSpec{Name: api.ServiceName(fmt.Sprintf("s%d", i)), Priority: rapid.SampledFrom([]int{1, 20, 45}).Draw(t, "priority")}
			s.Scale.Ask = api.Amount{CPU: api.MilliCPU(100 * rapid.IntRange(1, 6).Draw(t, "cpu")), Memory: 100 * api.MiB * api.Bytes(rapid.IntRange(1, 6).Draw(t, "mem"))}
			s.Singleton = rapid.IntRange(0, 5).Draw(t, "singleton") == 0
			r.spec("R1", s)
			r.want(string(s.Name), api.Want{Release: "R1", Count: rapid.IntRange(1, 3).Draw(t, "count")})
		}
		for plan, _ := r.schedule(); !plan.Empty(); plan, _ = r.schedule() {
			r.apply(plan)
			for _, s := range plan.Stop {
				r.byID(s.Process).Observed.State = api.StateExited
			}
		}
		web := &api.ServiceSpec{Name: "web", Priority: 50}
		web.Scale.Ask = api.Amount{CPU: api.MilliCPU(100 * rapid.IntRange(1, 10).Draw(t, "web cpu")), Memory: 100 * api.MiB * api.Bytes(rapid.IntRange(1, 10).Draw(t, "web mem"))}
		r.spec("R1", web)
		r.want("web", api.Want{Release: "R1", Count: 1})
		plan, _ := r.schedule()
		var victims []*api.Process
		var paid cost
		for _, s := range plan.Stop {
			p := r.byID(s.Process)
			if !strings.HasPrefix(s.Reason, "makes room for shop/web") {
				continue // whose copies went may take the room of others in turn
			}
			spec, _ := r.Spec(p.Release, p.Service)
			victims, paid = append(victims, p), paid.plus(p, spec.Priority)
		}
		least, possible := r.cheapest(web)
		placed := len(plan.Place) > 0 && plan.Place[0].Key.Service == "web"
		switch {
		case placed && len(victims) > 0:
			t.Fatalf("web is placed, and yet %d copies make room", len(victims))
		case !placed && possible != (len(victims) > 0):
			t.Fatalf("room can be made: %v, but %d copies go", possible, len(victims))
		case !placed && possible && paid != least:
			t.Fatalf("the copies that go cost %+v, the least is %+v", paid, least)
		}
		r.apply(plan)
		if again, _ := r.schedule(); !again.Empty() {
			t.Fatalf("there is more while room is being made: %+v", again)
		}
		for _, v := range victims {
			v.Observed.State = api.StateExited
		}
		if plan, _ = r.schedule(); len(victims) > 0 && (len(plan.Place) == 0 || plan.Place[0].Key.Service != "web") {
			t.Fatalf("room was made, but web is not placed: %+v", plan)
		}
	})
}

// cheapest tries all sets of copies on each node.
func (r *rack) cheapest(web *api.ServiceSpec) (least cost, possible bool) {
	for _, n := range r.nodes {
		var on []*api.Process
		for p := range r.ProcessesOn(n.ID) {
			if spec, _ := r.Spec(p.Release, p.Service); !spec.Singleton && spec.Priority <= web.Priority-10 {
				on = append(on, p)
			}
		}
		for bits := range 1 << len(on) {
			free, sum := n.Available().Sub(r.Used(n.ID).Amount), cost{}
			for k, p := range on {
				if bits&(1<<k) != 0 {
					spec, _ := r.Spec(p.Release, p.Service)
					free, sum = free.Add(p.Ask), sum.plus(p, spec.Priority)
				}
			}
			if web.Scale.Ask.Fits(free) && (!possible || sum.compare(least) < 0) {
				least, possible = sum, true
			}
		}
	}
	return least, possible
}

package scheduler

import (
	"fmt"
	"testing"

	"slipway/api"
)

// BenchmarkSchedule measures one plan. The metric placements/s is what the bars of Nomad's
// scheduler are written in.
func BenchmarkSchedule(b *testing.B) {
	shapes := map[string]func(*api.ServiceSpec){
		"plain":  func(*api.ServiceSpec) {},
		"spread": func(s *api.ServiceSpec) { s.Spreads = []api.Spread{{Attribute: "node.label.rack", Weight: 100}} },
		"affinity": func(s *api.ServiceSpec) {
			s.Affinities = []api.Affinity{{Attribute: "node.label.rack", Operator: "=", Value: "r7", Weight: 50}}
		},
		"regexp": func(s *api.ServiceSpec) {
			s.Constraints = []api.Constraint{{Attribute: "node.label.rack", Operator: "regexp", Value: "^r[0-9]+$"}}
		},
	}
	for _, nodes := range []int{1000, 10_000} {
		for _, count := range []int{1, 100, 1000} {
			for _, shape := range []string{"plain", "spread", "affinity", "regexp"} {
				b.Run(fmt.Sprintf("nodes=%d/count=%d/%s", nodes, count, shape), func(b *testing.B) {
					r := newRack()
					for i := range nodes {
						r.nodes = append(r.nodes, &api.Node{
							ID: api.NodeID(fmt.Sprintf("n%05d", i)), Status: api.NodeReady, Pool: api.DefaultPool,
							Capacity: api.Amount{CPU: 14_000, Memory: 32 * api.GiB},
							Labels:   map[string]string{"rack": fmt.Sprintf("r%d", i%50)},
						})
					}
					spec := &api.ServiceSpec{Name: "web"}
					spec.Scale.Ask = api.Amount{CPU: 100, Memory: 128 * api.MiB}
					shapes[shape](spec)
					r.spec("R1", spec)
					r.want("web", api.Want{Release: "R1", Count: count})
					b.ReportAllocs()
					for b.Loop() {
						if plan, _ := r.schedule(); plan.Placed() != count {
							b.Fatalf("%d of %d are placed", plan.Placed(), count)
						}
					}
					b.ReportMetric(float64(count)*float64(b.N)/b.Elapsed().Seconds(), "placements/s")
				})
			}
		}
	}
}

package scheduler

import (
	"fmt"
	"iter"
	"math"
	"runtime"
	"slices"
	"testing"
	"time"

	"slipway/api"
	"slipway/e2e/bench"
)

// benchNodes are nodes as those of the benchmark of Nomad's scheduler: 14 GHz and 32 GiB, here
// in 25 racks.
func benchNodes(r *rack, nodes int) {
	for i := range nodes {
		r.nodes = append(r.nodes, &api.Node{
			ID: api.NodeID(fmt.Sprintf("n%06d", i)), Status: api.NodeReady, Pool: api.DefaultPool,
			Capacity: api.Amount{CPU: 14_000, Memory: 32 * api.GiB},
			Labels:   map[string]string{"rack": fmt.Sprintf("r%d", i%25)},
		})
	}
}

// benchSpec asks for 100 MHz and 128 MiB in half of the racks.
func benchSpec(name string, spread bool) *api.ServiceSpec {
	s := &api.ServiceSpec{Name: api.ServiceName(name)}
	s.Scale.Ask = api.Amount{CPU: 100, Memory: 128 * api.MiB}
	half := "r0"
	for i := 1; i < 13; i++ {
		half += fmt.Sprintf(",r%d", i)
	}
	s.Constraints = []api.Constraint{{Attribute: "node.label.rack", Operator: "contains_any", Value: half}}
	if spread {
		s.Spreads = []api.Spread{{Attribute: "node.label.rack", Weight: 100}}
	}
	return s
}

// BenchmarkSchedule measures one plan for a new service on a kept cluster.
func BenchmarkSchedule(b *testing.B) {
	for _, nodes := range []int{1000, 5000, 10_000} {
		for _, count := range []int{1, 300, 1000, 1200} {
			for _, spread := range []bool{false, true} {
				b.Run(fmt.Sprintf("nodes=%d/count=%d/spread=%v", nodes, count, spread), func(b *testing.B) {
					r := newRack()
					benchNodes(r, nodes)
					r.spec("R1", benchSpec("web", spread))
					r.want("web", api.Want{Release: "R1", Count: count})
					b.ReportAllocs()
					c := NewCluster(r)
					for b.Loop() {
						b.StopTimer()
						clear(c.shapes)
						c.reread(r)
						b.StartTimer()
						if plan, _ := c.Schedule(r, r.keys(), nil, Input{Now: r.now, IDs: api.NewIDs(1)}); plan.Placed() != count {
							b.Fatalf("%d of %d are placed", plan.Placed(), count)
						}
					}
					b.ReportMetric(float64(count)*float64(b.N)/b.Elapsed().Seconds(), "placements/s")
				})
			}
		}
	}
}

// TestBench writes the rows of the scheduler to the file in SLIPWAY_BENCH_SCHEDULER.
func TestBench(t *testing.T) {
	rows := bench.To(t, "SLIPWAY_BENCH_SCHEDULER")
	runtime.GOMAXPROCS(1)
	for _, shape := range []struct {
		nodes, count int
		spread       bool
		name         string
		nomad        float64 // placements/s of its own benchmark on such a machine
	}{
		{1000, 300, false, "1k", 5785}, {5000, 300, false, "5k", 3519}, {10_000, 300, false, "10k", 5168},
		{1000, 300, true, "1k_spread", 175}, {5000, 300, true, "5k_spread", 146}, {10_000, 300, true, "10k_spread", 134},
		{1000, 1000, false, "1k_1000", 6603}, {5000, 1000, false, "5k_1000", 4481}, {10_000, 1000, false, "10k_1000", 3690},
		{1000, 1000, true, "1k_spread_1000", 42}, {5000, 1000, true, "5k_spread_1000", 40}, {10_000, 1000, true, "10k_spread_1000", 34},
		{1000, 1200, false, "1k_1200", 6603}, {5000, 1200, false, "5k_1200", 4481}, {10_000, 1200, false, "10k_1200", 3690},
		{1000, 1200, true, "1k_spread_1200", 42}, {5000, 1200, true, "5k_spread_1200", 40}, {10_000, 1200, true, "10k_spread_1200", 34},
	} {
		kept, fresh := rate(t, shape.nodes, shape.count, shape.spread)
		peer := "Nomad, 300 copies, measured elsewhere"
		if shape.count > 300 {
			peer = "Nomad, 1,000 copies, 50 racks, elsewhere"
		}
		rows.Add("placements_per_s_"+shape.name, kept, "1/s", peer, shape.nomad,
			fmt.Sprintf("cluster kept, the service and its ask new to it; %.0f/s with every node read anew; median of 9", fresh))
	}
	exponent, costs := growth(t)
	rows.Add("placement_cost_exponent", exponent, "", "limit", 0.2, costs)
	rows.Add("one_change_in_1m_us", oneChange(t), "us", "limit", 100, "kept cluster of 5,000 nodes, 10,000 services x 100 copies, one copy of a random service ended: to the plan with its replacement")
}

// rate returns placements per second, with the nodes known to the cluster and without.
func rate(t *testing.T, nodes, count int, spread bool) (kept, fresh float64) {
	r := newRack()
	benchNodes(r, nodes)
	r.spec("R1", benchSpec("web", spread))
	r.want("web", api.Want{Release: "R1", Count: count})
	measure := func(c *Cluster) float64 {
		var times []time.Duration
		for i := range 9 {
			in := Input{Now: r.now, IDs: api.NewIDs(uint64(i))}
			if c != nil {
				c.reread(r)
				clear(c.shapes) // an ask that was never seen before
			}
			runtime.GC()
			began := time.Now()
			plan := api.Plan{}
			if c != nil {
				plan, _ = c.Schedule(r, r.keys(), nil, in)
			} else {
				plan, _ = Schedule(r, r.keys(), nil, in)
			}
			times = append(times, time.Since(began))
			if plan.Placed() != count {
				t.Fatalf("%d of %d are placed", plan.Placed(), count)
			}
		}
		return float64(count) / bench.Median(times).Seconds()
	}
	return measure(NewCluster(r)), measure(nil)
}

// growth fits the exponent of the cost of a placement in the number of nodes: 1,000 copies each
// of a service whose ask is known, on a kept cluster.
func growth(t *testing.T) (exponent float64, note string) {
	var xs, ys []float64
	for _, nodes := range []int{100, 1000, 10_000, 100_000} {
		r := newRack()
		benchNodes(r, nodes)
		spec := benchSpec("web", true)
		spec.Scale.Ask = api.Amount{CPU: 10, Memory: 10 * api.MiB}
		r.spec("R1", spec)
		r.want("web", api.Want{Release: "R1", Count: 1000})
		c := NewCluster(r)
		var times []time.Duration
		for i := range 15 {
			if c.reread(r); i > 0 {
				for _, sh := range c.shapes {
					sh.catchUp(c)
				}
			}
			runtime.GC()
			began := time.Now()
			plan, _ := c.Schedule(r, r.keys(), nil, Input{Now: r.now, IDs: api.NewIDs(uint64(i))})
			if times = append(times, time.Since(began)); plan.Placed() != 1000 {
				t.Fatalf("%d of 1000 are placed", plan.Placed())
			}
		}
		times = times[1:] // the first builds the heaps
		ns := float64(bench.Median(times).Nanoseconds()) / 1000
		xs, ys = append(xs, math.Log(float64(nodes))), append(ys, math.Log(ns))
		note += fmt.Sprintf("%d nodes %.0f ns; ", nodes, ns)
	}
	return slope(xs, ys), note + "1,000 copies with a spread, kept cluster, median of 14"
}

// slope is that of the least-squares line.
func slope(xs, ys []float64) float64 {
	var sx, sy, sxx, sxy float64
	n := float64(len(xs))
	for i := range xs {
		sx, sy, sxx, sxy = sx+xs[i], sy+ys[i], sxx+xs[i]*xs[i], sxy+xs[i]*ys[i]
	}
	return (n*sxy - sx*sy) / (n*sxx - sx*sx)
}

// oneChange measures the plan after one copy among a million has ended, in microseconds.
func oneChange(t *testing.T) float64 {
	const services, copies = 10_000, 100
	r := newCrowd(5000, services, copies)
	c := NewCluster(r)
	var times []time.Duration
	random := api.NewIDs(1)
	for i := range 300 {
		k := key(fmt.Sprintf("s%d", random.Uint64()%services))
		all := r.of[k]
		victim := all[random.Uint64()%copies]
		victim.Observed.State, victim.Observed.Finished = api.StateExited, r.now
		r.hold(victim, -1)
		in := Input{Now: r.now, IDs: api.NewIDs(uint64(i))}
		began := time.Now()
		c.Update(r, []api.NodeID{victim.Node})
		plan, _ := c.Schedule(r, []api.ServiceKey{k}, nil, in)
		times = append(times, time.Since(began))
		if plan.Placed() != 1 {
			t.Fatalf("%d placed: %v", plan.Placed(), plan.Waiting)
		}
		victim.Observed.State = api.StateRunning // as it was
		r.hold(victim, 1)
		c.Update(r, []api.NodeID{victim.Node})
	}
	slices.Sort(times)
	return float64(times[len(times)/2].Nanoseconds()) / 1000
}

// crowd is a rack of many processes with the indexes that a state has.
type crowd struct {
	*rack
	of   map[api.ServiceKey][]*api.Process
	used map[api.NodeID]*api.Usage
	byID map[api.NodeID]*api.Node
}

func newCrowd(nodes, services, copies int) *crowd {
	r := &crowd{rack: newRack(), of: map[api.ServiceKey][]*api.Process{}, used: map[api.NodeID]*api.Usage{}, byID: map[api.NodeID]*api.Node{}}
	benchNodes(r.rack, nodes)
	for _, n := range r.nodes {
		r.used[n.ID], r.byID[n.ID] = &api.Usage{}, n
	}
	random, n := api.NewIDs(2), 0
	for i := range services {
		spec := &api.ServiceSpec{Name: api.ServiceName(fmt.Sprintf("s%d", i)), Spreads: []api.Spread{{Attribute: "node.label.rack", Weight: 100}}}
		spec.Scale.Ask = api.Amount{CPU: 50, Memory: 100 * api.MiB}
		r.spec("R1", spec)
		r.want(string(spec.Name), api.Want{Release: "R1", Count: copies})
		k := key(string(spec.Name))
		for slot := range copies {
			p := &api.Process{
				ID: random.Process(), App: k.App, Service: k.Service, Kind: api.KindService, Release: "R1", Slot: slot + 1,
				Node: r.nodes[n%nodes].ID, Ask: spec.Scale.Ask, Observed: api.ProcessStatus{State: api.StateRunning, Started: r.now},
			}
			n += 7 // 7 and the number of nodes have no common factor
			r.of[k] = append(r.of[k], p)
			r.hold(p, 1)
		}
	}
	return r
}

// hold books what a process holds of its node, or gives it back.
func (r *crowd) hold(p *api.Process, sign int) {
	u := r.used[p.Node]
	if u.Amount = u.Amount.Add(p.Ask); sign < 0 {
		u.Amount = u.Amount.Sub(p.Ask).Sub(p.Ask)
	}
}

// Used implements State.
func (r *crowd) Used(node api.NodeID) api.Usage { return *r.used[node] }

// Node implements State.
func (r *crowd) Node(id api.NodeID) (*api.Node, bool) {
	n, ok := r.byID[id]
	return n, ok
}

// ProcessesOf implements State.
func (r *crowd) ProcessesOf(k api.ServiceKey) iter.Seq[*api.Process] { return slices.Values(r.of[k]) }

package scheduler

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"testing"

	"pgregory.net/rapid"

	"slipway/api"
)

// TestBestIsBest compares every choice with that of a scorer that looks at all nodes for each
// copy, written from the documentation and without heaps, classes or caches.
func TestBestIsBest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := drawRack(t)
		for range rapid.IntRange(1, 4).Draw(t, "steps") {
			r.checkChoices(t)
			plan, _ := r.schedule()
			r.apply(plan)
			r.live(t)
		}
	})
}

// checkChoices asks for each service alone and follows the plan copy by copy.
func (r *rack) checkChoices(t *rapid.T) {
	for _, k := range r.keys() {
		plan, _ := Schedule(r, []api.ServiceKey{k}, nil, Input{Now: r.now, IDs: api.NewIDs(1)})
		world := r.clone()
		for _, g := range plan.Place {
			spec, _ := r.Spec(g.Release, k.Service)
			if spec.Agent || keepsData(spec) {
				continue
			}
			for _, c := range g.Copies {
				best := world.exhaustive(spec, g)
				if best == nil || best.ID != c.Node {
					t.Fatalf("%s slot %d of %s goes to %s, the best node is %+v\n%+v", k, c.Slot, g.Release, c.Node, best, spec)
				}
				world.apply(api.Plan{Place: []api.Group{{Key: k, Release: g.Release, Ask: g.Ask, Copies: []api.Copy{c}}}})
			}
		}
		if plan.Waiting[k] == "" {
			continue
		}
		for _, w := range r.services[k].Want {
			// Whoever waits for a node waits because there is none.
			spec, _ := r.Spec(w.Release, k.Service)
			if best := world.exhaustive(spec, api.Group{Key: k, Release: w.Release, Ask: spec.Scale.Ask}); best != nil && !world.excused(k, w, spec) {
				t.Fatalf("%s waits (%s) although %s has room for %s", k, plan.Waiting[k], best.ID, w.Release)
			}
		}
	}
}

// excused reports whether copies of a release may wait for other reasons than nodes.
func (r *rack) excused(k api.ServiceKey, w api.Want, spec *api.ServiceSpec) bool {
	for _, w := range r.services[k].Want {
		if s, _ := r.Spec(w.Release, k.Service); s.Singleton {
			return true
		}
	}
	if spec.Agent || keepsData(spec) {
		return true
	}
	running := 0
	for _, p := range r.processes {
		if p.Key() == k && p.Release == w.Release && p.Live() && p.Desired == api.DesiredRun {
			running++
		}
		if p.Key() == k && !p.Live() {
			return true // a slot may be held back
		}
	}
	return running >= w.Count
}

func (r *rack) clone() *rack {
	c := *r
	c.processes = nil
	for _, p := range r.processes {
		q := *p
		c.processes = append(c.processes, &q)
	}
	return &c
}

// exhaustive returns the best node for one more copy; nil if none takes it.
func (r *rack) exhaustive(spec *api.ServiceSpec, g api.Group) *api.Node {
	var best *api.Node
	var bestLevel, bestScore int64
	for _, n := range r.nodes {
		if !n.Eligible() || !spec.Suits(n) || !g.Ask.Fits(n.Available().Sub(r.Used(n.ID).Amount)) || !r.distinct(spec, g, n) || r.collides(spec, n) {
			continue
		}
		level, score := r.naiveLevel(spec, g, n), r.naiveScore(spec, g, n)
		first := best == nil || level < bestLevel || level == bestLevel && score > bestScore
		if !first && level == bestLevel && score == bestScore {
			a, b := tieOf(n.ID), tieOf(best.ID)
			first = a > b || a == b && n.ID < best.ID
		}
		if first {
			best, bestLevel, bestScore = n, level, score
		}
	}
	return best
}

// distinct checks distinct_hosts and distinct_property.
func (r *rack) distinct(spec *api.ServiceSpec, g api.Group, n *api.Node) bool {
	for _, c := range spec.Constraints {
		most := 1
		if v, err := strconv.Atoi(c.Value); err == nil && v > 0 {
			most = v
		}
		value, _ := n.Attribute(c.Attribute)
		copies := r.count(g, func(o *api.Node) bool {
			other, ok := o.Attribute(c.Attribute)
			return c.Operator == api.DistinctHosts && o.ID == n.ID || c.Operator == api.DistinctProperty && ok && other == value
		})
		if c.Operator == api.DistinctHosts && copies > 0 || c.Operator == api.DistinctProperty && copies >= most {
			return false
		}
	}
	return true
}

// collides reports whether a fixed host port is taken.
func (r *rack) collides(spec *api.ServiceSpec, n *api.Node) bool {
	return slices.ContainsFunc(spec.HostPorts, func(p api.HostPort) bool {
		return p.Host != 0 && r.Used(n.ID).HoldsPort(p.Host, p.Protocol)
	})
}

// count counts the copies of a release that are meant to stay on nodes of a kind.
func (r *rack) count(g api.Group, on func(*api.Node) bool) int {
	copies := 0
	for _, p := range r.processes {
		n, ok := r.Node(p.Node)
		if ok && p.Key() == g.Key && p.Kind == api.KindService && p.Release == g.Release && p.Live() && p.Desired == api.DesiredRun && on(n) {
			copies++
		}
	}
	return copies
}

func (r *rack) naiveLevel(spec *api.ServiceSpec, g api.Group, n *api.Node) int64 {
	sum := int64(0)
	for _, s := range spec.Spreads {
		value, _ := n.Attribute(s.Attribute)
		copies := r.count(g, func(o *api.Node) bool {
			other, _ := o.Attribute(s.Attribute)
			return other == value
		})
		sum += int64(max(1, s.Weight)) * (int64(copies) * 10_000 / share(s, value))
	}
	return sum
}

func (r *rack) naiveScore(spec *api.ServiceSpec, g api.Group, n *api.Node) int64 {
	strategy := api.BinPack
	if p, ok := r.pools[n.Pool]; ok {
		strategy = p.Strategy
	}
	score := affinity(spec, n)*pointsAffinity/100 + fit(n.Available(), n.Available().Sub(r.Used(n.ID).Amount), g.Ask, strategy)
	failed := int64(0)
	for _, p := range r.processes {
		switch {
		case p.Key() != g.Key || p.Kind != api.KindService || p.Node != n.ID:
		case p.Live() && p.Release == g.Release && p.Desired == api.DesiredRun:
			score -= pointsOwn
		case p.Live():
			score -= pointsOther
		case p.Desired == api.DesiredRun && p.Observed.State != api.StateLost:
			failed++
		}
	}
	return score - pointsFailed*min(failuresMost, failed)
}

// TestKeptIsFresh: a cluster that is told what changed answers as one that is made anew.
func TestKeptIsFresh(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := drawRack(t)
		kept := NewCluster(r)
		kept.many = 2 // keeps buckets in a heap, which the fresh ones do not
		for step := range rapid.IntRange(1, 8).Draw(t, "steps") {
			changed := r.disturb(t, step)
			kept.Update(r, changed)
			in := func() Input { return Input{Now: r.now, IDs: api.NewIDs(uint64(step))} }
			want, wantWake := Schedule(r, r.keys(), r.waitingForNode(), in())
			got, gotWake := kept.Schedule(r, r.keys(), r.waitingForNode(), in())
			if !reflect.DeepEqual(got, want) || !gotWake.Equal(wantWake) {
				t.Fatalf("kept:  %+v\nfresh: %+v", got, want)
			}
			if rapid.IntRange(0, 3).Draw(t, "applied") > 0 {
				before := len(r.processes)
				r.apply(got)
				for _, p := range r.processes[before:] {
					changed = append(changed, p.Node)
				}
				kept.Update(r, changed)
			}
		}
	})
}

// disturb changes nodes and processes and returns the nodes concerned.
func (r *rack) disturb(t *rapid.T, step int) []api.NodeID {
	var changed []api.NodeID
	for _, n := range slices.Clone(r.nodes) {
		next := *n
		switch rapid.IntRange(0, 9).Draw(t, "node's fate") {
		case 0:
			next.Cordoned = !next.Cordoned
		case 1:
			next.Labels = map[string]string{"zone": rapid.SampledFrom(zones).Draw(t, "zone")}
		case 2:
			next.Capacity.CPU = api.MilliCPU(rapid.IntRange(0, 4000).Draw(t, "cpu"))
		case 3:
			r.nodes = slices.DeleteFunc(r.nodes, func(o *api.Node) bool { return o.ID == n.ID })
			changed = append(changed, n.ID)
			continue
		default:
			continue
		}
		changed = append(changed, n.ID)
		r.nodes[slices.Index(r.nodes, n)] = &next
	}
	if rapid.Bool().Draw(t, "joins") {
		n := r.node(fmt.Sprintf("m%d", step), api.Amount{CPU: 2000, Memory: 2 * api.GiB, Disk: 10 * api.GiB})
		n.Labels["zone"] = "a"
		changed = append(changed, n.ID)
	}
	for _, p := range r.processes {
		changed = append(changed, p.Node)
	}
	r.live(t)
	return changed
}

package scheduler

import (
	"container/heap"

	"slipway/api"
)

// The parts of a score, in points. Copies of a release keep apart first; then a slot avoids
// the node where it failed last, then what the manifest prefers counts, then how full the node
// is: of equal nodes the fuller one is taken, so that room stays in one piece. Spreads come
// before all of that, see search.next.
const (
	pointsOwn      = 10_000 // less for each copy of the same release on the node
	pointsFailed   = 5_000  // less where the slot failed last
	pointsAffinity = 4_000  // more or less, when all affinities agree
	pointsFit      = 1_000  // more for a full node
	pointsOther    = 100    // less for each copy of another release
)

// candidate is a node that can take the copy.
type candidate struct {
	*machine
	score int64
	tie   uint64
}

// better orders candidates. Ties are broken by a hash of service and node: the same question
// has the same answer, and different services do not crowd on the same node.
func (a *candidate) better(b *candidate) bool {
	return a.score > b.score || a.score == b.score && a.tie > b.tie
}

// bucket holds the candidates that are alike to all spreads, as a heap, best first.
type bucket struct {
	values []string // of the spreads' attributes
	heap   []*candidate
}

func (b *bucket) Len() int           { return len(b.heap) }
func (b *bucket) Less(i, j int) bool { return b.heap[i].better(b.heap[j]) }
func (b *bucket) Swap(i, j int)      { b.heap[i], b.heap[j] = b.heap[j], b.heap[i] }

// Push implements heap.Interface.
func (b *bucket) Push(x any) { b.heap = append(b.heap, x.(*candidate)) }

// Pop implements heap.Interface.
func (b *bucket) Pop() any {
	last := b.heap[len(b.heap)-1]
	b.heap = b.heap[:len(b.heap)-1]
	return last
}

// search finds nodes for copies of one kind, one after the other. Building it looks at each
// node once; each copy then costs the number of spread values and the logarithm of the nodes.
type search struct {
	q       *request
	buckets []*bucket
	// spread counts, for each spread, the copies of the release per value.
	spread []map[string]int64
	why    *reasons
}

func newSearch(c *cluster, q *request) *search {
	s := &search{q: q, why: newReasons(q.ask)}
	for range q.spec.Spreads {
		s.spread = append(s.spread, map[string]int64{})
	}
	classes, byValues := newClasses(q.spec), map[string]*bucket{}
	found := false
	for _, m := range c.machines {
		class := classes.of(m.Node)
		for i, value := range class.spread {
			s.spread[i][value] += int64(q.own[m.ID])
		}
		if q.home != "" && q.home != m.ID {
			continue
		}
		found = true
		if r := refuses(m, class, q); r != (refusal{}) {
			s.why.refuse(r, m)
			continue
		}
		b := byValues[class.spreadKey]
		if b == nil {
			b = &bucket{values: class.spread}
			byValues[class.spreadKey] = b
			s.buckets = append(s.buckets, b)
		}
		b.heap = append(b.heap, &candidate{machine: m, score: score(m, class, q), tie: tieOf(q.key, m.ID)})
	}
	for _, b := range s.buckets {
		heap.Init(b)
	}
	s.why.home(q.home, found)
	return s
}

// next takes the best node for one more copy and reserves its room; nil if no node has any.
// Spreads come first: of the buckets with room, those with the fewest copies are looked at.
func (s *search) next(avoid api.NodeID) *machine {
	var from *bucket
	var best *candidate
	var least int64
	for _, b := range s.buckets {
		top := b.top(avoid)
		if top == nil {
			continue
		}
		crowd := s.crowding(b)
		if best == nil || crowd < least || crowd == least && top.better(best) {
			from, best, least = b, top, crowd
		}
	}
	if best == nil {
		return nil
	}
	s.take(from, best)
	return best.machine
}

// top returns the best candidate, or the second best where the first is to be avoided and is
// not better by more than that.
func (b *bucket) top(avoid api.NodeID) *candidate {
	if len(b.heap) == 0 {
		return nil
	}
	first := b.heap[0]
	if first.ID != avoid || avoid == "" {
		return first
	}
	var second *candidate
	for _, c := range b.heap[1:min(3, len(b.heap))] { // the children of the root
		if second == nil || c.better(second) {
			second = c
		}
	}
	if second != nil && second.score > first.score-pointsFailed {
		return second
	}
	return first
}

// crowding says how many copies the spread values of a bucket have, in relation to what they
// should have, weighted.
func (s *search) crowding(b *bucket) int64 {
	sum := int64(0)
	for i, spread := range s.q.spec.Spreads {
		n := s.spread[i][b.values[i]] * 10_000
		sum += int64(max(1, spread.Weight)) * (n / share(spread, b.values[i]))
	}
	return sum
}

// share is the percentage of copies that a value should have. Values without a target divide
// what the targets leave; without targets all are equal.
func share(s api.Spread, value string) int64 {
	if len(s.Targets) == 0 {
		return 100
	}
	if t, ok := s.Targets[value]; ok {
		return int64(max(1, t))
	}
	rest := 100
	for _, t := range s.Targets {
		rest -= t
	}
	return int64(max(1, rest))
}

// take reserves room for one copy on a candidate.
func (s *search) take(b *bucket, c *candidate) {
	c.free = c.free.Sub(s.q.ask)
	for i, value := range b.values {
		s.spread[i][value]++
	}
	s.q.own[c.ID]++
	at := 0
	for b.heap[at] != c {
		at++ // the root or one of its children
	}
	if r := short(c.free, s.q.ask); r != (refusal{}) {
		s.why.refuse(r, c.machine)
		heap.Remove(b, at)
		return
	}
	c.score -= pointsOwn
	c.score += fit(c.machine, s.q.ask) - fit(&machine{c.Node, c.free.Add(s.q.ask)}, s.q.ask)
	heap.Fix(b, at)
}

// score rates a feasible node; higher is better.
func score(m *machine, c *class, q *request) int64 {
	return c.affinity*pointsAffinity/100 + fit(m, q.ask) -
		pointsOwn*int64(q.own[m.ID]) - pointsOther*int64(q.others[m.ID])
}

// fit is how full the node would be with the copy, processors and memory alike.
func fit(m *machine, ask api.Amount) int64 {
	all, left := m.Available(), m.free.Sub(ask)
	return pointsFit - (portion(int64(left.CPU), int64(all.CPU))+portion(int64(left.Memory), int64(all.Memory)))/2
}

// portion is part/whole in points of pointsFit.
func portion(part, whole int64) int64 {
	if whole <= 0 {
		return 0
	}
	return part * pointsFit / whole
}

// affinity sums the weights of the affinities that a node satisfies, from -100 to 100.
func affinity(spec *api.ServiceSpec, n *api.Node) int64 {
	sum, all := 0, 0
	for _, a := range spec.Affinities {
		all += max(a.Weight, -a.Weight)
		c := api.Constraint{Attribute: a.Attribute, Operator: a.Operator, Value: a.Value}
		if value, ok := n.Attribute(a.Attribute); c.Holds(value, ok) {
			sum += a.Weight
		}
	}
	return int64(100 * sum / max(1, all))
}

// tieOf is FNV-1a over service and node.
func tieOf(k api.ServiceKey, node api.NodeID) uint64 {
	h := uint64(14695981039346656037)
	for _, part := range [...]string{string(k.App), string(k.Service), string(node)} {
		for i := range len(part) {
			h = (h ^ uint64(part[i])) * 1099511628211
		}
		h *= 1099511628211
	}
	return h
}

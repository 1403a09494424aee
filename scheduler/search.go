package scheduler

import (
	"strconv"

	"slipway/api"
)

// request is one kind of copy in search of nodes.
type request struct {
	key      api.ServiceKey
	spec     *api.ServiceSpec
	ask      api.Amount
	priority int
	// own lists the node of each copy of the same release, others of those of other releases,
	// failed of each failure.
	own, others, failed []api.NodeID
	// home is the only node that the copy may run on, because its data is there; "" for any.
	home api.NodeID
	// barred says why a node is not for this copy although its shape fits; nil for never.
	barred func(api.NodeID) string
}

// search finds nodes for copies of one kind, one after the other. Most of the order is the
// shape's and shared. Only nodes where the service has something stand apart from it: they are
// special, and each bucket has a second heap for them.
type search struct {
	c        *Cluster
	sh       *shape
	q        *request
	specials []int32
	stirred  []int32    // nodes that left the shared heap or got a copy
	ranked   [][]ranked // by bucket: special candidates, best first
	hosts    bool       // distinct_hosts
	limits   []int64    // of distinct_property, by keyed attribute; 0 for none
	ids      [][]int32  // by bucket: the value of each keyed attribute
	crowd    [][]int64  // by keyed attribute and value: copies of the release
	level    []int64    // by bucket: crowding
	queue    []int32    // buckets in order, when there are many
}

// ranked is a special candidate with its whole score.
type ranked struct {
	score int64
	entry
}

// manyBuckets is from where on buckets are kept in a heap instead of being looked at in turn.
const manyBuckets = 48

func newSearch(c *Cluster, sh *shape, q *request) *search {
	s := &search{c: c, sh: sh, q: q, ranked: c.lend(len(sh.buckets)), specials: c.specials[:0], stirred: c.stirred[:0]}
	s.limits = make([]int64, len(sh.keyed))
	j := len(q.spec.Spreads)
	for _, con := range q.spec.Constraints {
		switch con.Operator {
		case api.DistinctHosts:
			s.hosts = true
		case api.DistinctProperty:
			n, err := strconv.ParseInt(con.Value, 10, 64)
			if err != nil || n < 1 {
				n = 1
			}
			s.limits[j], j = n, j+1
		}
	}
	s.countValues()
	s.note(q.own, func(m *mark) { m.own++ })
	s.note(q.others, func(m *mark) { m.others++ })
	s.note(q.failed, func(m *mark) { m.failed++ })
	for _, i := range s.specials {
		s.crowding(i, int64(c.marks[i].own))
		s.rank(i)
	}
	s.levels()
	return s
}

// note makes nodes special and counts what the service has there.
func (s *search) note(nodes []api.NodeID, count func(*mark)) {
	for _, id := range nodes {
		if i, ok := s.c.index[id]; ok {
			count(&s.c.marks[i])
			s.mark(i)
		}
	}
}

// countValues numbers the values of the keyed attributes.
func (s *search) countValues() {
	if len(s.sh.keyed) == 0 {
		return
	}
	s.level = make([]int64, len(s.sh.buckets))
	s.crowd = make([][]int64, len(s.sh.keyed))
	flat := make([]int32, len(s.sh.buckets)*len(s.sh.keyed))
	s.ids = make([][]int32, len(s.sh.buckets))
	for b := range s.sh.buckets {
		s.ids[b] = flat[b*len(s.sh.keyed) : (b+1)*len(s.sh.keyed)]
	}
	for j := range s.sh.keyed {
		known := map[string]int32{}
		for b, bucket := range s.sh.buckets {
			id, ok := known[bucket.values[j]]
			if !ok {
				id = int32(len(known))
				known[bucket.values[j]] = id
			}
			s.ids[b][j] = id
		}
		s.crowd[j] = make([]int64, len(known))
	}
}

// mark makes a node special.
func (s *search) mark(i int32) {
	if !s.c.marks[i].special {
		s.c.marks[i].special = true
		s.specials = append(s.specials, i)
	}
}

// crowding adds copies to the values of a node.
func (s *search) crowding(i int32, copies int64) {
	if s.c.nodes[i] == nil {
		return
	}
	for j := range s.crowd {
		s.crowd[j][s.ids[s.sh.spots[i].in][j]] += copies
	}
}

// rank enters a special node with its whole score, if it may have a copy.
func (s *search) rank(i int32) {
	if s.sh.spots[i].why != candidate || s.hosts && s.c.marks[i].own > 0 || s.isBarred(i) {
		return
	}
	b := s.sh.spots[i].in
	key := s.sh.key(s.c, i, s.sh.kindOf(s.c, i))
	s.ranked[b] = push(s.ranked[b], ranked{shared(key) - s.c.penalty(i), entry{key, i}}, s.better)
}

// isBarred asks whether a node is not for this copy.
func (s *search) isBarred(i int32) bool {
	return s.q.barred != nil && s.q.barred(s.c.ids[i]) != ""
}

// better orders candidates: score, then tie, then name.
func (s *search) better(a, b ranked) bool {
	if a.score != b.score {
		return a.score > b.score
	}
	if x, y := uint32(a.key), uint32(b.key); x != y {
		return x > y
	}
	return s.c.ids[a.node] < s.c.ids[b.node]
}

// top returns the best candidate of a bucket. A special node on top of the shared heap leaves it
// until the search ends; one further down is worse than the top in any case, for what a service
// has on a node only takes from its score.
func (s *search) top(b int32) (ranked, bool) {
	bucket := s.sh.buckets[b]
	for len(bucket.heap) > 0 {
		i := bucket.heap[0].node
		if !s.c.marks[i].special && s.isBarred(i) {
			s.mark(i)
		}
		if !s.c.marks[i].special {
			break
		}
		s.sh.leave(s.c, i)
		s.stirred = append(s.stirred, i)
	}
	special := s.ranked[b]
	if len(bucket.heap) == 0 {
		if len(special) == 0 {
			return ranked{}, false
		}
		return special[0], true
	}
	first := ranked{shared(bucket.heap[0].key), bucket.heap[0]}
	if len(special) > 0 && s.better(special[0], first) {
		return special[0], true
	}
	return first, true
}

// levels computes how crowded each bucket is, and puts many of them in order.
func (s *search) levels() {
	for b := range s.level {
		s.level[b] = s.levelOf(b)
	}
	if len(s.level) < s.c.many || len(s.q.spec.Spreads) > 1 || len(s.crowd) > 1 {
		return
	}
	s.queue = make([]int32, len(s.level))
	for b := range s.queue {
		s.queue[b] = int32(b)
	}
	for at := len(s.queue)/2 - 1; at >= 0; at-- {
		sink(s.queue, at, s.sooner)
	}
}

// levelOf says how many copies the spread values of a bucket have, in relation to what they
// should have, weighted.
func (s *search) levelOf(b int) int64 {
	sum := int64(0)
	for j, spread := range s.q.spec.Spreads {
		n := s.crowd[j][s.ids[b][j]] * 10_000
		sum += int64(max(1, spread.Weight)) * (n / share(spread, s.sh.buckets[b].values[j]))
	}
	return sum
}

// closed reports whether a value of the bucket has all the copies it may have.
func (s *search) closed(b int32) bool {
	for j, most := range s.limits {
		if most > 0 && s.crowd[j][s.ids[b][j]] >= most {
			return true
		}
	}
	return false
}

// choose returns the bucket of the best candidate: of those with room, the least crowded, and of
// equally crowded ones that with the best candidate.
func (s *search) choose() (int32, ranked, bool) {
	if s.queue != nil {
		return s.first()
	}
	var best ranked
	from, found := int32(0), false
	for b := range s.sh.buckets {
		b := int32(b)
		if found && s.level != nil && s.level[b] > s.level[from] || s.closed(b) {
			continue
		}
		t, ok := s.top(b)
		if ok && (!found || s.level != nil && s.level[b] < s.level[from] || s.better(t, best)) {
			from, best, found = b, t, true
		}
	}
	return from, best, found
}

// first does the same when buckets are in a heap.
func (s *search) first() (int32, ranked, bool) {
	for len(s.queue) > 0 {
		b := s.queue[0]
		if t, ok := s.top(b); ok && !s.closed(b) {
			return b, t, true
		}
		// It has no room, and gets none during this search.
		s.queue = pop(s.queue, s.sooner)
	}
	return 0, ranked{}, false
}

// sooner orders buckets in the queue.
func (s *search) sooner(a, b int32) bool {
	if s.level[a] != s.level[b] {
		return s.level[a] < s.level[b]
	}
	x, okX := s.top(a)
	y, okY := s.top(b)
	if okX != okY {
		return okX
	}
	return okX && s.better(x, y)
}

// next takes the best node for one more copy and reserves its room; false if no node has any.
func (s *search) next(salt int) (int32, *api.Grant, bool) {
	if s.q.home != "" {
		return s.atHome(salt)
	}
	b, best, ok := s.choose()
	if !ok {
		return 0, nil, false
	}
	i := best.node
	if s.c.marks[i].special {
		s.ranked[b] = pop(s.ranked[b], s.better)
	} else {
		s.mark(i)
		s.sh.leave(s.c, i)
	}
	g := s.settle(i, salt)
	s.rank(i)
	switch {
	case s.queue != nil:
		s.level[b] = s.levelOf(int(b))
		sink(s.queue, 0, s.sooner)
	case len(s.crowd) > 1:
		for b := range s.level {
			s.level[b] = s.levelOf(b)
		}
	case s.level != nil:
		s.level[b] = s.levelOf(int(b))
	}
	return i, g, true
}

// settle puts one copy on a node.
func (s *search) settle(i int32, salt int) *api.Grant {
	g, _ := grant(s.sh.spec, s.c.nodes[i], api.Usage{Grant: s.c.held[i]}, salt)
	s.c.take(i, s.sh.ask, g)
	s.c.marks[i].own++
	s.stirred = append(s.stirred, i)
	s.crowding(i, 1)
	s.reconsider(i)
	return g
}

// reconsider finds out whether a special node can take another copy. It stays out of the shared
// heap.
func (s *search) reconsider(i int32) {
	s.sh.spots[i].why = s.sh.answer(s.c, i, s.sh.kindOf(s.c, i))
	s.sh.reasons = nil
}

// atHome takes the one node where the data is.
func (s *search) atHome(salt int) (int32, *api.Grant, bool) {
	i, ok := s.c.index[s.q.home]
	if !ok || s.sh.spots[i].why != candidate || s.hosts && s.c.marks[i].own > 0 || s.isBarred(i) {
		return 0, nil, false
	}
	s.mark(i)
	s.sh.leave(s.c, i)
	return i, s.settle(i, salt), true
}

// done gives the special nodes back to the shared order.
func (s *search) done() {
	for _, i := range s.specials {
		s.c.marks[i] = mark{}
	}
	for _, i := range s.stirred {
		s.sh.refresh(s.c, i)
	}
	s.sh.seen = s.c.cut + len(s.c.log)
	s.c.specials, s.c.stirred = s.specials, s.stirred
}

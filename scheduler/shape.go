package scheduler

import (
	"encoding/binary"
	"slices"
	"strings"

	"slipway/api"
)

// shape is everything about a copy that a search depends on, but for the service that it
// belongs to: services with equal shapes share the structure. It sorts the nodes into those
// that refuse, each for a cause, and candidates, in buckets of equal spread values, each a heap
// with the best node on top.
type shape struct {
	spec     *api.ServiceSpec // of the first that asked; only the parts that are in the key count
	ask      api.Amount
	pool     api.PoolName
	strategy api.Strategy
	keyed    []string // attributes whose values make the buckets: of spreads, then of distinct_property
	named    bool     // asks for names or IDs, in which nodes of one class differ

	kinds    []kind // by class
	causes   []refusal
	causeOf  map[refusal]int32
	spots    []spot // by node
	buckets  []*bucket
	byValues map[string]int32

	seen    int // how much of the cluster's log it has taken in
	used    int // when it was used last
	reasons *reasons
}

// spot is where a node stands.
type spot struct {
	why int32 // the cause of a refusal, candidate or absent
	pos int32 // the place in the heap of its bucket, -1 for none
	in  int32 // the bucket
}

// What why says about nodes without a cause.
const (
	candidate int32 = -1
	absent    int32 = -2
)

// kind is what the nodes of a class answer to a shape.
type kind struct {
	known    bool
	why      int32 // a cause, or candidate
	affinity int32 // in points
	bucket   int32
}

// bucket holds the candidates whose keyed attributes have the same values.
type bucket struct {
	values []string
	heap   []entry
}

// entry is a node in a heap. The key is its score, which no service has a part in, and then a
// hash of its name.
type entry struct {
	key  uint64
	node int32
}

// shapeOf returns the shape of a request, up to date.
func (c *Cluster) shapeOf(s State, spec *api.ServiceSpec, ask api.Amount) *shape {
	strategy := api.BinPack
	if p, ok := s.Pool(spec.PoolName()); ok {
		strategy = p.Strategy
	}
	var room [256]byte
	key := shapeKey(room[:0], spec, ask, strategy)
	sh := c.shapes[string(key)]
	if sh == nil {
		if len(c.shapes) >= shapesMax {
			c.forget()
		}
		sh = newShape(spec, ask, strategy)
		c.shapes[string(key)] = sh
		sh.build(c)
	}
	c.uses++
	sh.used = c.uses
	sh.catchUp(c)
	return sh
}

// forget drops the shape that was not used for longest.
func (c *Cluster) forget() {
	oldest, at := "", 0
	for key, sh := range c.shapes {
		if oldest == "" || sh.used < at {
			oldest, at = key, sh.used
		}
	}
	delete(c.shapes, oldest)
}

// shapeKey appends what tells shapes apart.
func shapeKey(b []byte, spec *api.ServiceSpec, ask api.Amount, strategy api.Strategy) []byte {
	text := func(parts ...string) {
		for _, p := range parts {
			b = binary.AppendUvarint(b, uint64(len(p)))
			b = append(b, p...)
		}
	}
	number := func(ns ...int) {
		for _, n := range ns {
			b = binary.AppendVarint(b, int64(n))
		}
	}
	constraints := func(cs []api.Constraint) {
		number(len(cs))
		for _, c := range cs {
			text(c.Attribute, c.Operator, c.Value)
		}
	}
	number(int(ask.CPU), int(ask.Memory), int(ask.Disk))
	text(string(spec.PoolName()), string(strategy))
	constraints(spec.Constraints)
	number(len(spec.Affinities))
	for _, a := range spec.Affinities {
		text(a.Attribute, a.Operator, a.Value)
		number(a.Weight)
	}
	number(len(spec.Spreads))
	for _, s := range spec.Spreads {
		text(s.Attribute)
	}
	number(len(spec.Devices))
	for i := range spec.Devices {
		d := &spec.Devices[i]
		text(d.Kind, d.Vendor, d.Model)
		number(d.Count)
		constraints(d.Constraints)
	}
	number(len(spec.HostPorts))
	for _, p := range spec.HostPorts {
		text(string(p.Protocol))
		number(p.Host, p.Port)
	}
	return b
}

func newShape(spec *api.ServiceSpec, ask api.Amount, strategy api.Strategy) *shape {
	sh := &shape{spec: spec, ask: ask, pool: spec.PoolName(), strategy: strategy, causeOf: map[refusal]int32{}}
	for _, s := range spec.Spreads {
		sh.keyed = append(sh.keyed, s.Attribute)
	}
	for _, c := range spec.Constraints {
		if c.Operator == api.DistinctProperty {
			sh.keyed = append(sh.keyed, c.Attribute)
		}
		sh.named = sh.named || isName(c.Attribute)
	}
	for _, a := range spec.Affinities {
		sh.named = sh.named || isName(a.Attribute)
	}
	sh.named = sh.named || slices.ContainsFunc(sh.keyed, isName)
	return sh
}

// isName reports whether an attribute is one in which all nodes differ.
func isName(attribute string) bool {
	switch strings.TrimPrefix(attribute, "node.") {
	case "name", "id":
		return true
	}
	return false
}

// build looks at all nodes.
func (sh *shape) build(c *Cluster) {
	old := sh.buckets
	sh.kinds, sh.buckets, sh.byValues = sh.kinds[:0], nil, map[string]int32{}
	if len(sh.spots) != len(c.nodes) {
		sh.spots = make([]spot, len(c.nodes))
	}
	for i := range c.nodes {
		n := int32(i)
		k := sh.kindOf(c, n)
		sh.spots[i].pos, sh.spots[i].in, sh.spots[i].why = -1, k.bucket, sh.answer(c, n, k)
		if sh.spots[i].why == candidate {
			b := sh.buckets[k.bucket]
			if b.heap == nil && int(k.bucket) < len(old) {
				b.heap = old[k.bucket].heap[:0]
			}
			b.heap = append(b.heap, entry{sh.key(c, n, k), n})
		}
	}
	for _, b := range sh.buckets {
		for at := len(b.heap)/2 - 1; at >= 0; at-- {
			sh.down(c, b, at)
		}
		for at := range b.heap {
			sh.spots[b.heap[at].node].pos = int32(at)
		}
	}
	sh.seen, sh.reasons = c.cut+len(c.log), nil
}

// catchUp looks at the nodes that changed since the last time.
func (sh *shape) catchUp(c *Cluster) {
	end := c.cut + len(c.log)
	if sh.seen == end {
		return
	}
	if sh.seen < c.cut || end-sh.seen > len(c.nodes)/4+64 {
		sh.build(c)
		return
	}
	for _, i := range c.log[sh.seen-c.cut:] {
		sh.refresh(c, i)
	}
	sh.seen = end
}

// refresh looks at one node again.
func (sh *shape) refresh(c *Cluster, i int32) {
	for int(i) >= len(sh.spots) {
		sh.spots = append(sh.spots, spot{why: absent, pos: -1})
	}
	sh.reasons = nil
	k := sh.kindOf(c, i)
	why := sh.answer(c, i, k)
	sh.spots[i].why = why
	if why != candidate || k.bucket != sh.spots[i].in {
		sh.leave(c, i)
	}
	sh.spots[i].in = k.bucket
	if why != candidate {
		return
	}
	e := entry{sh.key(c, i, k), i}
	b := sh.buckets[k.bucket]
	at := int(sh.spots[i].pos)
	if at < 0 {
		at = len(b.heap)
		b.heap = append(b.heap, e)
	}
	b.heap[at] = e
	sh.spots[i].pos = int32(at)
	sh.fix(c, b, at)
}

// leave takes a node out of the heap of its bucket.
func (sh *shape) leave(c *Cluster, i int32) {
	at := sh.spots[i].pos
	if at < 0 {
		return
	}
	b := sh.buckets[sh.spots[i].in]
	last := len(b.heap) - 1
	moved := b.heap[last]
	b.heap = b.heap[:last]
	sh.spots[i].pos = -1
	if int(at) < last {
		b.heap[at] = moved
		sh.spots[moved.node].pos = at
		sh.fix(c, b, int(at))
	}
}

// fix brings the entry at a place of a heap to where it belongs.
func (sh *shape) fix(c *Cluster, b *bucket, at int) {
	h, e := b.heap, b.heap[at]
	for at > 0 {
		parent := (at - 1) / 2
		if !c.before(e, h[parent]) {
			break
		}
		h[at] = h[parent]
		sh.spots[h[at].node].pos = int32(at)
		at = parent
	}
	h[at] = e
	sh.spots[e.node].pos = int32(at)
	sh.down(c, b, at)
}

// down moves the entry at a place of a heap towards the leaves.
func (sh *shape) down(c *Cluster, b *bucket, at int) {
	h, e := b.heap, b.heap[at]
	for {
		child := 2*at + 1
		if child >= len(h) {
			break
		}
		if child+1 < len(h) && c.before(h[child+1], h[child]) {
			child++
		}
		if !c.before(h[child], e) {
			break
		}
		h[at] = h[child]
		sh.spots[h[at].node].pos = int32(at)
		at = child
	}
	h[at] = e
	sh.spots[e.node].pos = int32(at)
}

// before orders entries, the better one first.
func (c *Cluster) before(a, b entry) bool {
	return a.key > b.key || a.key == b.key && c.ids[a.node] < c.ids[b.node]
}

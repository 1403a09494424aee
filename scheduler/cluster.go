package scheduler

import (
	"cmp"
	"slices"
	"strings"

	"slipway/api"
)

// Cluster is the picture of the nodes that searches work on: a table of nodes and the search
// structures of the shapes that were asked for. It is a cache of a State and nothing else; kept
// between calls, it makes a plan cost what has changed and not what the rack has. A Cluster that
// was kept up to date gives the same plans as a new one. It is not safe for concurrent use.
type Cluster struct {
	index map[api.NodeID]int32
	nodes []*api.Node // nil for one that is gone
	ids   []api.NodeID
	held  []api.Grant
	table []machine
	marks []mark

	classes map[string]int32 // by everything that nodes of one class agree in
	samples []*api.Node      // a node of each class
	byID    []int32          // nodes in ID order; nil when it has to be made again

	// log names the nodes that changed, oldest first; shapes catch up with it when they are used.
	log     []int32
	cut     int     // entries that were cut off its front
	touched []int32 // by the last plan, which may not have been applied as it was
	shapes  map[string]*shape
	uses    int // counts the uses of shapes, to tell which is the oldest
	many    int // manyBuckets

	// What a search writes to and does not keep, for the next one to fill.
	ranked            [][]ranked
	specials, stirred []int32
}

// machine is what a search reads of a node, in one line of a processor's cache.
type machine struct {
	avail, free api.Amount // free is below zero on a node that shrank
	class       int32
	tie         uint32
	status      status
}

// status is whether a node takes processes.
type status int32

// The statuses, in the order in which a node is refused for them.
const (
	ready status = iota
	gone
	down
	draining
	cordoned
)

func statusOf(n *api.Node) status {
	switch {
	case n.Status != api.NodeReady:
		return down
	case n.Draining:
		return draining
	case n.Cordoned:
		return cordoned
	}
	return ready
}

// mark is what one search knows about a node, zero outside of searches.
type mark struct {
	special             bool
	own, others, failed int32
}

// shapesMax bounds the shapes that are kept. One of them takes some twenty bytes for each node.
const shapesMax = 256

// NewCluster reads all nodes of a state.
func NewCluster(s State) *Cluster {
	c := &Cluster{index: map[api.NodeID]int32{}, classes: map[string]int32{}, shapes: map[string]*shape{}, many: manyBuckets}
	for n := range s.Nodes() {
		c.load(s, n)
	}
	return c
}

// Update reads nodes again: those that changed, came, went, or hold more or less than before.
func (c *Cluster) Update(s State, nodes []api.NodeID) {
	for _, id := range nodes {
		if n, ok := s.Node(id); ok {
			c.load(s, n)
		} else if i, known := c.index[id]; known && c.nodes[i] != nil {
			c.nodes[i], c.byID, c.table[i].status = nil, nil, gone
			c.changed(i)
		}
	}
}

// load enters a node into the table.
func (c *Cluster) load(s State, n *api.Node) {
	i, known := c.index[n.ID]
	if !known {
		i = int32(len(c.nodes))
		c.index[n.ID] = i
		c.nodes, c.ids, c.held = append(c.nodes, nil), append(c.ids, n.ID), append(c.held, api.Grant{})
		c.table, c.marks = append(c.table, machine{tie: tieOf(n.ID)}), append(c.marks, mark{})
	}
	if c.nodes[i] == nil {
		c.byID = nil
	}
	if c.nodes[i] != n {
		m := &c.table[i]
		c.nodes[i], m.class, m.avail, m.status = n, c.classOf(n), n.Available(), statusOf(n)
	}
	used := s.Used(n.ID)
	c.table[i].free, c.held[i] = c.table[i].avail.Sub(used.Amount), used.Grant
	c.changed(i)
}

// lend returns an empty heap of special candidates for each bucket, to the one search that is on.
func (c *Cluster) lend(buckets int) [][]ranked {
	if len(c.ranked) < buckets {
		c.ranked = append(c.ranked, make([][]ranked, buckets-len(c.ranked))...)
	}
	lent := c.ranked[:buckets]
	for b := range lent {
		lent[b] = lent[b][:0]
	}
	return lent
}

// changed notes that a node is not as it was. The log forgets its first half when it is much
// longer than the table: a shape that is so far behind is built anew.
func (c *Cluster) changed(i int32) {
	if most := 4*len(c.nodes) + 1024; len(c.log) >= most {
		c.log, c.cut = slices.Clone(c.log[most/2:]), c.cut+most/2
	}
	c.log = append(c.log, i)
}

// classOf returns the class of a node: nodes of one class agree in everything but their names,
// so that a constraint is evaluated once for all of them.
func (c *Cluster) classOf(n *api.Node) int32 {
	var b strings.Builder
	b.WriteString(string(n.Pool))
	write := func(m map[string]string) {
		b.WriteByte(0)
		keys := make([]string, 0, len(m))
		for k := range m {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		for _, k := range keys {
			b.WriteString(k)
			b.WriteByte(1)
			b.WriteString(m[k])
			b.WriteByte(2)
		}
	}
	write(n.Labels)
	write(n.Attributes)
	id, ok := c.classes[b.String()]
	if !ok {
		id = int32(len(c.samples))
		c.classes[b.String()] = id
		c.samples = append(c.samples, n)
	}
	return id
}

// inOrder returns the nodes that exist in ID order.
func (c *Cluster) inOrder() []int32 {
	if c.byID == nil {
		c.byID = make([]int32, 0, len(c.nodes))
		for i, n := range c.nodes {
			if n != nil {
				c.byID = append(c.byID, int32(i))
			}
		}
		slices.SortFunc(c.byID, func(a, b int32) int { return cmp.Compare(c.ids[a], c.ids[b]) })
	}
	return c.byID
}

// take reserves room on a node for the rest of the plan.
func (c *Cluster) take(i int32, ask api.Amount, g *api.Grant) {
	c.table[i].free = c.table[i].free.Sub(ask)
	if g != nil {
		u := api.Usage{Grant: c.held[i]}
		c.held[i] = u.Add(api.Amount{}, g).Grant
	}
	c.touched = append(c.touched, i)
	c.changed(i)
}

// reread forgets what the last plan reserved: it counts only once it is applied.
func (c *Cluster) reread(s State) {
	touched := c.touched
	c.touched = nil
	slices.Sort(touched)
	for _, i := range slices.Compact(touched) {
		if c.nodes[i] != nil {
			c.Update(s, []api.NodeID{c.ids[i]})
		}
	}
}

// tieOf is FNV-1a over the node's ID: of equal nodes none comes first because of its name.
func tieOf(node api.NodeID) uint32 {
	h := uint32(2166136261)
	for i := range len(node) {
		h = (h ^ uint32(node[i])) * 16777619
	}
	return h
}

package scheduler

import (
	"cmp"
	"slices"
	"strings"

	"slipway/api"
)

// Cluster is the picture of the nodes that searches work on: a table of nodes, struct of
// arrays, and the search structures of the shapes that were asked for. It is a cache of a State
// and nothing else; kept between calls, it makes a plan cost what has changed and not what the
// rack has. A Cluster that was kept up to date gives the same plans as a new one. It is not safe
// for concurrent use.
type Cluster struct {
	index map[api.NodeID]int32
	nodes []*api.Node // nil for one that is gone
	avail []api.Amount
	free  []api.Amount // below zero on a node that shrank
	held  []api.Grant
	tie   []uint32
	class []int32

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

	marks
}

// marks are what one search knows about nodes, zero outside of searches.
type marks struct {
	special             []bool
	own, others, failed []int32
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
			c.nodes[i], c.byID = nil, nil
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
		c.nodes, c.class, c.tie = append(c.nodes, nil), append(c.class, 0), append(c.tie, tieOf(n.ID))
		c.avail, c.free, c.held = append(c.avail, api.Amount{}), append(c.free, api.Amount{}), append(c.held, api.Grant{})
		c.special, c.own = append(c.special, false), append(c.own, 0)
		c.others, c.failed = append(c.others, 0), append(c.failed, 0)
	}
	if c.nodes[i] == nil {
		c.byID = nil
	}
	if c.nodes[i] != n {
		c.nodes[i], c.class[i], c.avail[i] = n, c.classOf(n), n.Available()
	}
	used := s.Used(n.ID)
	c.free[i], c.held[i] = c.avail[i].Sub(used.Amount), used.Grant
	c.changed(i)
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
		slices.SortFunc(c.byID, func(a, b int32) int { return cmp.Compare(c.nodes[a].ID, c.nodes[b].ID) })
	}
	return c.byID
}

// take reserves room on a node for the rest of the plan.
func (c *Cluster) take(i int32, ask api.Amount, g *api.Grant) {
	c.free[i] = c.free[i].Sub(ask)
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
			c.Update(s, []api.NodeID{c.nodes[i].ID})
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

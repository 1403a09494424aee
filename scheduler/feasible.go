package scheduler

import (
	"strings"

	"slipway/api"
)

// request is one kind of copy in search of nodes.
type request struct {
	key  api.ServiceKey
	spec *api.ServiceSpec
	ask  api.Amount
	// own counts the copies of the same release per node, others those of other releases.
	own, others map[api.NodeID]int
	// home is the only node that the copy may run on, because its data is there; "" for any.
	home api.NodeID
}

// machine is a node while a plan is made: what is free shrinks with each placement.
type machine struct {
	*api.Node
	free api.Amount
}

// cluster is the picture of the nodes while a plan is made, in ID order.
type cluster struct{ machines []*machine }

func newCluster(s State) *cluster {
	c := &cluster{}
	for n := range s.Nodes() {
		c.machines = append(c.machines, &machine{Node: n, free: n.Available().Sub(s.Used(n.ID).Amount)})
	}
	return c
}

// class is what nodes have in common that answer alike to everything a service asks about:
// constraints are evaluated once per class and not once per node.
type class struct {
	refusal  refusal
	affinity int64
	spread   []string // the value of each spread's attribute
	// spreadKey is the same as one string.
	spreadKey string
}

// classes sorts nodes into classes.
type classes struct {
	spec  *api.ServiceSpec
	names []string // of the attributes that the service asks about
	known map[string]*class
}

func newClasses(spec *api.ServiceSpec) *classes {
	cs := &classes{spec: spec, known: map[string]*class{}}
	for _, c := range spec.Constraints {
		cs.names = append(cs.names, c.Attribute)
	}
	for _, a := range spec.Affinities {
		cs.names = append(cs.names, a.Attribute)
	}
	for _, s := range spec.Spreads {
		cs.names = append(cs.names, s.Attribute)
	}
	return cs
}

// of returns the class of a node.
func (cs *classes) of(n *api.Node) *class {
	key := string(n.Pool)
	if len(cs.names) > 0 {
		var b strings.Builder
		b.WriteString(key)
		for _, name := range cs.names {
			value, ok := n.Attribute(name)
			b.WriteByte(0)
			if ok {
				b.WriteByte(1)
				b.WriteString(value)
			}
		}
		key = b.String()
	}
	c, ok := cs.known[key]
	if !ok {
		c = cs.evaluate(n)
		cs.known[key] = c
	}
	return c
}

func (cs *classes) evaluate(n *api.Node) *class {
	c := &class{affinity: affinity(cs.spec, n)}
	for _, s := range cs.spec.Spreads {
		value, _ := n.Attribute(s.Attribute)
		c.spread = append(c.spread, value)
	}
	c.spreadKey = strings.Join(c.spread, "\x00")
	if pool := cs.spec.PoolName(); n.Pool != pool {
		c.refusal = refusal{isNot, "in pool " + string(pool)}
		return c
	}
	for _, con := range cs.spec.Constraints {
		if value, ok := n.Attribute(con.Attribute); !con.Holds(value, ok) {
			c.refusal = refusal{doesNotHold, con.String()}
			return c
		}
	}
	return c
}

// refuses returns why a machine cannot take the copy now; the zero refusal if it can.
func refuses(m *machine, c *class, q *request) refusal {
	switch {
	case c.refusal != (refusal{}):
		return c.refusal
	case m.Status != api.NodeReady:
		return refusal{is, "down"}
	case m.Draining:
		return refusal{is, "draining"}
	case m.Cordoned:
		return refusal{is, "cordoned"}
	}
	return short(m.free, q.ask)
}

// short returns which resource is too small; the zero refusal if none is.
func short(free, ask api.Amount) refusal {
	switch {
	case ask.Memory > free.Memory:
		return refusal{notEnough, "memory"}
	case ask.CPU > free.CPU:
		return refusal{notEnough, "cpu"}
	case ask.Disk > free.Disk:
		return refusal{notEnough, "disk"}
	}
	return refusal{}
}

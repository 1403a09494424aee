package scheduler

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"slipway/api"
)

// request is one copy in search of a node.
type request struct {
	key    api.ServiceKey
	spec   *api.ServiceSpec
	ask    api.Amount
	slot   int
	copies map[api.NodeID]int // live copies of the service per node
	avoid  api.NodeID         // failed there last
	pinned api.NodeID         // must go there; "" for anywhere
}

// cluster is the picture of the nodes while a plan is made.
type cluster struct {
	nodes []*api.Node
	free  map[api.NodeID]api.Amount
}

func newCluster(s State) *cluster {
	c := &cluster{free: map[api.NodeID]api.Amount{}}
	for n := range s.Nodes() {
		c.nodes = append(c.nodes, n)
		c.free[n.ID] = n.Available().Sub(s.Used(n.ID))
	}
	return c
}

// take reserves an amount for a placement of the plan.
func (c *cluster) take(node api.NodeID, ask api.Amount) { c.free[node] = c.free[node].Sub(ask) }

// refuses returns why a node cannot take the copy, "" if it can.
func (c *cluster) refuses(n *api.Node, q request) string {
	pool := q.spec.Pool
	if pool == "" {
		pool = "default"
	}
	switch {
	case n.Status != api.NodeReady:
		return "the node is down"
	case n.Draining:
		return "the node is draining"
	case n.Cordoned:
		return "the node is cordoned"
	case n.Pool != pool:
		return fmt.Sprintf("the node is not in pool %q", pool)
	case q.pinned != "" && q.pinned != n.ID:
		return "its volume lies on another node"
	}
	for _, con := range q.spec.Constraints {
		if !holds(con, n) {
			return strings.TrimRight(fmt.Sprintf("%s %s %s does not hold", con.Attribute, con.Operator, con.Value), " ")
		}
	}
	return c.short(n, q.ask)
}

// short returns which resource of the node is too small, "" if none.
func (c *cluster) short(n *api.Node, ask api.Amount) string {
	free := c.free[n.ID]
	switch {
	case ask.Memory > free.Memory:
		return "not enough memory"
	case ask.CPU > free.CPU:
		return "not enough cpu"
	case ask.Disk > free.Disk:
		return "not enough disk"
	case ask.GPU > free.GPU:
		return "not enough gpus"
	}
	return ""
}

// attribute returns what a node says about a name: "node.label.zone", "node.pool", "node.name"
// or any fingerprint.
func attribute(n *api.Node, name string) (string, bool) {
	name = strings.TrimPrefix(name, "node.")
	switch name {
	case "name":
		return n.Name, true
	case "id":
		return string(n.ID), true
	case "pool":
		return string(n.Pool), true
	}
	if label, ok := strings.CutPrefix(name, "label."); ok {
		v, ok := n.Labels[label]
		return v, ok
	}
	v, ok := n.Attributes[name]
	return v, ok
}

// holds evaluates a constraint. An attribute that a node does not have fails every operator
// but "!=".
func holds(c api.Constraint, n *api.Node) bool {
	v, ok := attribute(n, c.Attribute)
	switch c.Operator {
	case "is_set":
		return ok
	case "!=":
		return !ok || v != c.Value
	}
	if !ok {
		return false
	}
	switch c.Operator {
	case "=", "==":
		return v == c.Value
	case "<", "<=", ">", ">=":
		return ordered(c.Operator, compareNumbers(v, c.Value))
	case "version":
		op, version := splitVersion(c.Value)
		return ordered(op, compareVersions(v, version))
	case "contains":
		parts := strings.Split(v, ",")
		return !slices.ContainsFunc(strings.Split(c.Value, ","), func(p string) bool {
			return !slices.Contains(parts, strings.TrimSpace(p))
		})
	case "regexp":
		re, err := regexp.Compile(c.Value)
		return err == nil && re.MatchString(v)
	}
	return false
}

func ordered(op string, cmp int) bool {
	switch op {
	case "<":
		return cmp < 0
	case "<=":
		return cmp <= 0
	case ">":
		return cmp > 0
	case ">=":
		return cmp >= 0
	}
	return cmp == 0
}

// compareNumbers compares as numbers if both are, as text otherwise.
func compareNumbers(a, b string) int {
	x, errX := strconv.ParseFloat(a, 64)
	y, errY := strconv.ParseFloat(b, 64)
	switch {
	case errX != nil || errY != nil:
		return strings.Compare(a, b)
	case x < y:
		return -1
	case x > y:
		return 1
	}
	return 0
}

// splitVersion takes ">= 1.2" apart; no operator means equality.
func splitVersion(s string) (op, version string) {
	s = strings.TrimSpace(s)
	for _, op := range []string{">=", "<=", ">", "<", "="} {
		if rest, ok := strings.CutPrefix(s, op); ok {
			return op, strings.TrimSpace(rest)
		}
	}
	return "=", s
}

// compareVersions compares dotted numbers part by part; a missing part is zero.
func compareVersions(a, b string) int {
	as, bs := strings.Split(strings.TrimPrefix(a, "v"), "."), strings.Split(strings.TrimPrefix(b, "v"), ".")
	for i := range max(len(as), len(bs)) {
		x, y := "0", "0"
		if i < len(as) {
			x = as[i]
		}
		if i < len(bs) {
			y = bs[i]
		}
		if c := compareNumbers(x, y); c != 0 {
			return c
		}
	}
	return 0
}

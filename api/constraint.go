package api

import (
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Attribute returns what the node says about a name: "node.label.zone", "node.pool",
// "node.name", "node.id" or any of its Attributes. The prefix "node." may be left out.
func (n *Node) Attribute(name string) (value string, ok bool) {
	name = strings.TrimPrefix(name, "node.")
	switch name {
	case "name":
		return n.Name, true
	case "id":
		return string(n.ID), true
	case "pool":
		return string(n.Pool), true
	}
	if label, isLabel := strings.CutPrefix(name, "label."); isLabel {
		value, ok = n.Labels[label]
		return value, ok
	}
	value, ok = n.Attributes[name]
	return value, ok
}

// The operators of constraints that are about the copies of a service and not about a node.
const (
	DistinctHosts    = "distinct_hosts"
	DistinctProperty = "distinct_property"
)

// Operators are all operators of constraints. Affinities have the same but for those about
// copies.
var Operators = []string{
	"=", "!=", "<", "<=", ">", ">=", "regexp", "version", "contains", "contains_any", "is_set", "is_not_set",
	DistinctHosts, DistinctProperty,
}

// PatternMax is the longest regular expression in bytes.
const PatternMax = 1000

// Holds evaluates the constraint for an attribute with the given value; ok is false where the
// node does not have it. A missing attribute fails every operator but "!=" and "is_not_set", and so does an
// operator that is not known. Those about copies hold on every node that has the attribute.
func (c Constraint) Holds(value string, ok bool) bool {
	switch c.Operator {
	case "is_set", DistinctProperty:
		return ok
	case "is_not_set":
		return !ok
	case DistinctHosts:
		return true
	case "!=":
		return !ok || value != c.Value
	}
	if !ok {
		return false
	}
	switch c.Operator {
	case "=", "==":
		return value == c.Value
	case "<", "<=", ">", ">=":
		return ordered(c.Operator, compareNumbers(value, c.Value))
	case "version":
		op, version := splitVersion(c.Value)
		return ordered(op, compareVersions(value, version))
	case "contains":
		have := set(value)
		return !slices.ContainsFunc(set(c.Value), func(want string) bool { return !slices.Contains(have, want) })
	case "contains_any":
		have := set(value)
		return slices.ContainsFunc(set(c.Value), func(want string) bool { return slices.Contains(have, want) })
	case "regexp":
		if len(c.Value) > PatternMax {
			return false
		}
		re, err := regexp.Compile(c.Value)
		return err == nil && re.MatchString(value)
	}
	return false
}

// String returns the constraint as a user would write it.
func (c Constraint) String() string {
	return strings.TrimRight(c.Attribute+" "+c.Operator+" "+c.Value, " ")
}

// Suits reports whether the node's pool and attributes satisfy the service; it says nothing
// about room or about whether the node takes processes now.
func (s *ServiceSpec) Suits(n *Node) bool {
	if n.Pool != s.PoolName() {
		return false
	}
	for _, c := range s.Constraints {
		if value, ok := n.Attribute(c.Attribute); !c.Holds(value, ok) {
			return false
		}
	}
	return true
}

// DefaultPool is the pool of nodes and services that name none.
const DefaultPool PoolName = "default"

// PoolName returns the pool that the service runs in.
func (s *ServiceSpec) PoolName() PoolName {
	if s.Pool == "" {
		return DefaultPool
	}
	return s.Pool
}

// set splits a list of values at its commas.
func set(list string) []string {
	all := strings.Split(list, ",")
	for i := range all {
		all[i] = strings.TrimSpace(all[i])
	}
	return all
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
	case errX != nil || errY != nil || math.IsNaN(x) || math.IsNaN(y):
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

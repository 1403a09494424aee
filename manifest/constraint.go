package manifest

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"slipway/api"
)

// about is what a predicate can be about.
type about int

const (
	onNodes   about = iota // attributes of nodes
	onCopies               // those, and how copies stand to each other
	onDevices              // attributes of devices
)

// operators are those that a predicate can have.
func (a about) operators() []string {
	if a == onCopies {
		return api.Operators
	}
	return slices.DeleteFunc(slices.Clone(api.Operators), func(op string) bool {
		return op == api.DistinctHosts || op == api.DistinctProperty
	})
}

// example is an attribute for messages.
func (a about) example() string {
	if a == onDevices {
		return "memory"
	}
	return "node.label.zone"
}

// stated is a constraint with the place in the text that states it.
type stated struct {
	api.Constraint
	at *node
}

// String returns the constraint as it was written, so that it shows no value of the environment.
func (s stated) String() string {
	if !s.at.is(table) {
		return s.at.source
	}
	op := source(s.at.get("operator"))
	if op == "" {
		op = "="
	}
	return strings.Join(strings.Fields(source(s.at.get("attribute"))+" "+op+" "+source(s.at.get("value"))), " ")
}

// constraints reads what must hold where a copy runs. Two of them that can never hold at once are
// refused: no node would ever do, in any rack.
func (l *loader) constraints(spec *api.ServiceSpec, n *node) {
	var all []stated
	for _, item := range n.get("constraints").elements() {
		if c, ok := l.predicate(item, spec.Name, onCopies); ok {
			all = append(all, stated{c, item})
		}
	}
	for _, f := range n.get("nodeSelectorLabels").entries() {
		at := *f.value
		at.source = "nodeSelectorLabels." + f.name + ": " + f.value.source
		all = append(all, stated{api.Constraint{Attribute: "node.label." + f.name, Operator: "=", Value: f.value.string("")}, &at})
	}
	l.contradictions(spec, all)
	for _, c := range all {
		spec.Constraints = append(spec.Constraints, c.Constraint)
		if attribute(c.Attribute) == "pool" && c.Operator == "=" && c.Value != string(spec.PoolName()) {
			l.problem(c.at, "service %s: %s can never hold, the service runs in pool %s", spec.Name, quote(c.String()), spec.PoolName()).
				hint("write pool: with that name instead")
		}
	}
}

// predicate reads a map, or a text such as "node.label.zone = a" or "distinct_hosts".
func (l *loader) predicate(n *node, service api.ServiceName, a about) (c api.Constraint, ok bool) {
	if n.is(scalar) {
		words := append(strings.Fields(n.text), "", "", "")
		c = api.Constraint{Attribute: words[0], Operator: words[1], Value: strings.TrimSpace(strings.Join(words[2:], " "))}
		if words[0] == api.DistinctHosts {
			c = api.Constraint{Operator: words[0], Value: strings.TrimSpace(strings.Join(words[1:], " "))}
		}
	} else {
		c = api.Constraint{Attribute: n.get("attribute").string(""), Operator: n.get("operator").string("="), Value: n.get("value").string("")}
	}
	why, hint := a.refuse(c, n.vars)
	if why != "" {
		l.problem(n, "service %s: %s %s", service, n.path, why).hint(hint)
	}
	return c, why == ""
}

// refuse says what is wrong with a predicate, and what to do. A text with values of the
// environment is not repeated.
func (a about) refuse(c api.Constraint, secret bool) (why, hint string) {
	operators := strings.Join(a.operators(), " ")
	switch {
	case c.Operator == "":
		return "has no operator", "write it as " + a.example() + " = value, with one of " + operators
	case !slices.Contains(a.operators(), c.Operator):
		if near := api.Nearest(c.Operator, a.operators()); near != "" && !secret {
			return "has the unknown operator " + quote(c.Operator), fmt.Sprintf("did you mean %q? There are %s", near, operators)
		}
		if secret {
			return "has an unknown operator", "use one of " + operators
		}
		return "has the unknown operator " + quote(c.Operator), "use one of " + operators
	case c.Operator == api.DistinctHosts:
		if c.Attribute != "" || c.Value != "" {
			return "has distinct_hosts with an attribute or a value", "write distinct_hosts alone; for a label use distinct_property"
		}
		return "", ""
	case c.Attribute == "":
		return "has no attribute", "name one such as " + a.example()
	}
	return refuseValue(c)
}

// refuseValue says what is wrong with the value of a predicate.
func refuseValue(c api.Constraint) (why, hint string) {
	none := c.Value == ""
	switch c.Operator {
	case "is_set", "is_not_set":
		if !none {
			return "has a value, and " + c.Operator + " compares with none", "remove the value"
		}
		return "", ""
	case api.DistinctProperty:
		if n, err := strconv.Atoi(c.Value); !none && (err != nil || n < 1 || n > countMax) {
			return "must bound the copies for each value of the attribute", fmt.Sprintf("write a whole number from 1 to %d, or none for 1", countMax)
		}
		return "", ""
	}
	if none {
		return "has no value to compare with", "write one behind the operator " + c.Operator
	}
	switch c.Operator {
	case "<", "<=", ">", ">=":
		if _, ok := finite(c.Value); !ok {
			return "must compare with a number, " + c.Operator + " knows no other order", "write a number; versions are compared by the operator version"
		}
	case "version":
		if !versionRule.MatchString(c.Value) {
			return "must compare with a version", "write it as version >= 1.2.3"
		}
	case "regexp":
		if len(c.Value) > api.PatternMax {
			return fmt.Sprintf("has a regular expression of %d bytes, the limit is %d", len(c.Value), api.PatternMax), "shorten it, or use contains_any"
		}
		if _, err := regexp.Compile(c.Value); err != nil {
			return "has a regular expression that cannot be read", "write it in the syntax of RE2, see https://github.com/google/re2/wiki/Syntax"
		}
	}
	return "", ""
}

var versionRule = regexp.MustCompile(`^(>=|<=|>|<|=)?\s*v?[0-9]{1,9}(\.[0-9]{1,9}){0,5}$`)

// finite reads a number that is one: not NaN, and not infinite.
func finite(s string) (float64, bool) {
	v, err := strconv.ParseFloat(s, 64)
	return v, err == nil && !math.IsNaN(v) && !math.IsInf(v, 0)
}

// attribute is the name without the prefix that may be left out.
func attribute(name string) string { return strings.TrimPrefix(name, "node.") }

// contradictions reports the first pair of constraints that no node can satisfy.
func (l *loader) contradictions(spec *api.ServiceSpec, all []stated) {
	for i, b := range all {
		for _, a := range all[:i] {
			if attribute(a.Attribute) == attribute(b.Attribute) && a.Attribute != "" && contradict(a.Constraint, b.Constraint) {
				l.problem(b.at, "service %s: %s and %s contradict each other, no node can satisfy both", spec.Name, quote(a.String()), quote(b.String())).
					hint("remove one of them")
				return
			}
		}
	}
}

// contradict reports whether two constraints on one attribute can never hold at once. It finds
// an equality that breaks the other, a missing attribute that the other needs, and two orders
// without a number between them; it is silent where it does not know.
func contradict(a, b api.Constraint) bool {
	for _, pair := range [][2]api.Constraint{{a, b}, {b, a}} {
		x, y := pair[0], pair[1]
		switch {
		case x.Operator == "=" && y.Operator != api.DistinctProperty && !y.Holds(x.Value, true):
			return true
		case x.Operator == "is_not_set" && !y.Holds("", false):
			return true
		case strings.HasPrefix(x.Operator, ">") && strings.HasPrefix(y.Operator, "<"):
			low, _ := finite(x.Value)
			high, _ := finite(y.Value)
			if low > high || low == high && (x.Operator == ">" || y.Operator == "<") {
				return true
			}
		}
	}
	return false
}

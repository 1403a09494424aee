package manifest

import (
	"slices"
	"strings"

	"slipway/api"
)

// operators of constraints and affinities, as the scheduler knows them.
var operators = []string{"=", "!=", "<", "<=", ">", ">=", "regexp", "version", "contains", "is_set"}

// placement reads where copies may, should and should not run. The node labels of Convox v3
// become constraints and affinities on "node.label.…".
func (l *loader) placement(spec *api.ServiceSpec, n *node) {
	for _, item := range n.get("constraints").elements() {
		attribute, operator, value := predicate(item)
		if l.checkPredicate(spec, item, attribute, operator, value) {
			spec.Constraints = append(spec.Constraints, api.Constraint{Attribute: attribute, Operator: operator, Value: value})
		}
	}
	for _, f := range n.get("nodeSelectorLabels").entries() {
		spec.Constraints = append(spec.Constraints, api.Constraint{Attribute: "node.label." + f.name, Operator: "=", Value: f.value.string("")})
	}
	for _, item := range n.get("affinities").elements() {
		attribute, operator, value := predicate(item)
		if l.checkPredicate(spec, item, attribute, operator, value) {
			spec.Affinities = append(spec.Affinities, api.Affinity{
				Attribute: attribute, Operator: operator, Value: value, Weight: item.get("weight").number(50),
			})
		}
	}
	for _, item := range n.get("nodeAffinityLabels").elements() {
		spec.Affinities = append(spec.Affinities, api.Affinity{
			Attribute: "node.label." + item.get("label").string(""), Operator: "=",
			Value: item.get("value").string(""), Weight: item.get("weight").number(1),
		})
	}
	for _, item := range n.get("spread").elements() {
		l.spread(spec, item)
	}
}

// predicate reads a map, or a text such as "node.label.zone = a".
func predicate(n *node) (attribute, operator, value string) {
	if n.is(scalar) {
		words := strings.Fields(n.text)
		words = append(words, "", "", "")
		return words[0], words[1], strings.TrimSpace(strings.Join(words[2:], " "))
	}
	return n.get("attribute").string(""), n.get("operator").string("="), n.get("value").string("")
}

func (l *loader) checkPredicate(spec *api.ServiceSpec, n *node, attribute, operator, value string) bool {
	switch {
	case attribute == "":
		l.problem(n, "service %s: %s has no attribute such as node.label.zone", spec.Name, n.path)
	case !slices.Contains(operators, operator):
		l.problem(n, "service %s: %s has the unknown operator %s, use one of %s", spec.Name, n.path, quote(operator), strings.Join(operators, " "))
	case value == "" && operator != "is_set":
		l.problem(n, "service %s: %s has no value to compare with", spec.Name, n.path)
	default:
		return true
	}
	return false
}

func (l *loader) spread(spec *api.ServiceSpec, n *node) {
	spread := api.Spread{Attribute: n.get("attribute").string(n.string("")), Weight: n.get("weight").number(50)}
	sum := 0
	for _, f := range n.get("targets").entries() {
		if spread.Targets == nil {
			spread.Targets = map[string]int{}
		}
		spread.Targets[f.name] = f.value.number(0)
		sum += spread.Targets[f.name]
	}
	switch {
	case spread.Attribute == "":
		l.problem(n, "service %s: %s has no attribute such as node.label.zone", spec.Name, n.path)
	case sum > 100:
		l.problem(n, "service %s: the targets of %s add up to %d percent", spec.Name, n.path, sum)
	default:
		spec.Spreads = append(spec.Spreads, spread)
	}
}

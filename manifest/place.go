package manifest

import "slipway/api"

// placement reads where copies may, should and should not run. The node labels of Convox v3
// become constraints and affinities on "node.label.…".
func (l *loader) placement(spec *api.ServiceSpec, n *node) {
	l.constraints(spec, n)
	for _, item := range n.get("affinities").elements() {
		if !item.is(table) {
			continue // the grammar has refused it
		}
		if c, ok := l.predicate(item, spec.Name, onNodes); ok {
			spec.Affinities = append(spec.Affinities, api.Affinity{
				Attribute: c.Attribute, Operator: c.Operator, Value: c.Value, Weight: item.get("weight").number(50),
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

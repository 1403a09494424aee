package api

import (
	"strings"
	"testing"
)

func TestConstraintHolds(t *testing.T) {
	n := &Node{
		ID: "n1", Name: "alpha", Pool: "default", Labels: map[string]string{"zone": "a", "rank": "9"},
		Attributes: map[string]string{"arch": "amd64", "kernel": "6.1.20", "features": "kvm, avx2", "cores": "16"},
	}
	for _, c := range []struct {
		attribute, operator, value string
		want                       bool
	}{
		{"node.label.zone", "=", "a", true},
		{"node.label.zone", "==", "b", false},
		{"label.zone", "!=", "b", true},
		{"node.label.rack", "!=", "b", true},
		{"node.label.rack", "=", "", false},
		{"node.label.rack", "is_set", "", false},
		{"node.label.zone", "is_set", "", true},
		{"node.label.rank", "<", "10", true}, // as numbers, not as text
		{"node.cores", ">=", "16", true},
		{"node.cores", ">", "16", false},
		{"node.kernel", "version", ">= 5.15", true},
		{"node.kernel", "version", "< 6.1.3", false},
		{"node.kernel", "version", "6.1.20", true},
		{"node.kernel", "version", "= v6.1.20.0", true},
		{"node.features", "contains", "avx2", true},
		{"node.features", "contains", "avx2,kvm", true},
		{"node.features", "contains", "avx512", false},
		{"node.features", "contains_any", "avx512, avx2", true},
		{"node.features", "contains_any", "avx512", false},
		{"node.label.rack", "is_not_set", "", true},
		{"node.label.zone", "is_not_set", "", false},
		{"node.label.zone", "distinct_property", "2", true},
		{"node.label.rack", "distinct_property", "2", false},
		{"", "distinct_hosts", "", true},
		{"node.cores", "<", "NaN", true}, // as text, for it is no number
		{"node.cores", "<", "1e999", true},
		{"node.name", "regexp", strings.Repeat("(a|b)", 300), false}, // too long
		{"node.name", "regexp", "^al", true},
		{"node.name", "regexp", "(", false}, // does not compile
		{"node.id", "=", "n1", true},
		{"node.pool", "=", "default", true},
		{"node.arch", "resembles", "amd64", false},
	} {
		con := Constraint{Attribute: c.attribute, Operator: c.operator, Value: c.value}
		value, ok := n.Attribute(c.attribute)
		if got := con.Holds(value, ok); got != c.want {
			t.Errorf("%s: %v, want %v", con, got, c.want)
		}
	}
}

func TestSuits(t *testing.T) {
	n := &Node{Pool: DefaultPool, Labels: map[string]string{"disk": "ssd"}}
	ssd := []Constraint{{Attribute: "node.label.disk", Operator: "=", Value: "ssd"}}
	hdd := []Constraint{{Attribute: "node.label.disk", Operator: "=", Value: "hdd"}}
	for _, c := range []struct {
		spec ServiceSpec
		want bool
	}{
		{ServiceSpec{}, true}, {ServiceSpec{Pool: "gpu"}, false},
		{ServiceSpec{Constraints: ssd}, true}, {ServiceSpec{Constraints: hdd}, false},
	} {
		if got := c.spec.Suits(n); got != c.want {
			t.Errorf("%+v: %v, want %v", c.spec.Constraints, got, c.want)
		}
	}
}

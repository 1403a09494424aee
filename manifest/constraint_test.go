package manifest

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"slipway/api"
)

// A pair that is refused as a contradiction holds for no value at all, a missing one included.
// The other way round, two orders and two equalities are always found.
func TestContradictions(t *testing.T) {
	t.Parallel()
	values := []string{"", "0", "1", "1.5", "2", "2.5", "3", "10", "a", "b", "a,b", "v1.2"}
	rapid.Check(t, func(t *rapid.T) {
		draw := func(name string) api.Constraint {
			c := api.Constraint{Attribute: "x", Operator: rapid.SampledFrom(onNodes.operators()).Draw(t, name+" operator")}
			if !strings.HasPrefix(c.Operator, "is_") {
				c.Value = rapid.SampledFrom(values[1:]).Draw(t, name+" value")
			}
			if why, _ := refuseValue(c); why != "" {
				t.Skip()
			}
			return c
		}
		a, b := draw("a"), draw("b")
		found := contradict(a, b)
		if found != contradict(b, a) {
			t.Fatalf("%s and %s: the order decides", a, b)
		}
		both := !a.Holds("", false) || !b.Holds("", false)
		none := both // no value that was tried satisfies the two
		for _, v := range values {
			none = none && (!a.Holds(v, true) || !b.Holds(v, true))
		}
		if found && !none {
			t.Fatalf("%s and %s can hold together", a, b)
		}
		orders := strings.ContainsAny(a.Operator[:1], "<>=") && strings.ContainsAny(b.Operator[:1], "<>=")
		if x, ok := finite(a.Value); orders && none && !found && ok {
			y, ok := finite(b.Value)
			if mid := fmt.Sprint((x + y) / 2); ok && !(a.Holds(mid, true) && b.Holds(mid, true)) {
				t.Fatalf("%s and %s can never hold, and nobody is told", a, b)
			}
		}
	})
}

// The length of a regular expression is bounded, and what a bounded one costs is linear: RE2
// has none that explodes.
func TestPatterns(t *testing.T) {
	t.Parallel()
	load := func(pattern string) error {
		text := "services: {web: {constraints: [{attribute: node.os, operator: regexp, value: '" + pattern + "'}]}}"
		_, err := Load(text, Options{})
		return err
	}
	for pattern, want := range map[string]string{
		strings.Repeat("a", api.PatternMax):    "",
		strings.Repeat("a", api.PatternMax+1):  "has a regular expression of 1001 bytes, the limit is 1000",
		"(a+)+$":                               "",
		"a{1000}{1000}":                        "has a regular expression that cannot be read",
		strings.Repeat("(", 500):               "has a regular expression that cannot be read",
		"(?=a)":                                "has a regular expression that cannot be read",
		strings.Repeat("(a{0,100}){0,10}", 20): "",
	} {
		err := load(pattern)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%.40s: %v, want %q", pattern, err, want)
		}
	}
}

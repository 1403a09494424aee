package manifest

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"slipway/api"
)

// rule says what one attribute may hold. An attribute may have several forms: a scalar, a
// list, a table of known keys or a table of names that the user chooses. Rules are built with
// the functions below and read like the manifest they describe.
type rule struct {
	what string // what it must be, for messages: "a whole number from 1 to 65535"
	// scalar checks a scalar and returns what is wrong with it, or "". Nil: no scalar.
	scalar func(n *node) string
	items  *rule // of a list; nil: no list
	keys   keys  // of a table; nil: none with known keys
	named  *rule // of a table with names of the user's; nil: none

	in       Dialect // the only dialect that knows it; "" for both
	inactive bool    // it has no effect yet
	text     bool    // a scalar is text, so that YAML 1.1 may read it differently
	secret   bool    // it is stored encrypted
	free     bool    // anything goes below it
	mask     bool    // it is a secret in the text itself, and never shown
	// legacy names the attribute in "unknown type for %s: %s", the message of Convox. Such
	// an attribute tells text from numbers and booleans.
	legacy string
}

// keys are the known keys of a table.
type keys map[string]rule

func text() rule {
	return rule{what: "text", text: true, scalar: func(*node) string { return "" }}
}

// matching is text that is as check wants it.
func matching(what string, check func(s string) bool) rule {
	return rule{what: what, text: true, scalar: func(n *node) string {
		if check(n.text) {
			return ""
		}
		return "must be " + what + got(n)
	}}
}

// reasoned is text with which check finds nothing wrong; check never repeats the text, which
// may be a value of the environment.
func reasoned(what string, check func(s string) (why string, ok bool)) rule {
	return rule{what: what, text: true, scalar: func(n *node) string {
		why, ok := check(n.text)
		switch {
		case ok:
			return ""
		case why == "":
			return "must be " + what + got(n)
		}
		return "must be " + what + got(n) + ": " + why
	}}
}

// got ends a message with what was written instead.
func got(n *node) string {
	switch {
	case n.unset != "":
		return ", got " + quote(n.source) + " where " + quote(n.unset) + " has no value"
	case n.vars:
		return ", got " + quote(n.source) + " with the values of the environment"
	}
	return ", got " + quote(n.source)
}

func flag() rule {
	const what = "true or false"
	return rule{what: what, scalar: func(n *node) string {
		if _, ok := parseFlag(n.text); !ok {
			return "must be " + what + got(n)
		}
		return ""
	}}
}

func whole(low, high int) rule { return amount("", low, high) }

// seconds and the like say what is counted.
func seconds(low, high int) rule { return amount(" of seconds", low, high) }

func amount(unit string, low, high int) rule {
	what := fmt.Sprintf("a whole number%s from %d to %d", unit, low, high)
	return rule{what: what, scalar: func(n *node) string {
		v, err := strconv.Atoi(n.text)
		switch {
		case err != nil || v < low || v > high:
			return "must be " + what + got(n)
		case len(n.text) > 1 && n.text[0] == '0':
			return "must be " + what + " without a leading zero: YAML 1.1 reads " + quote(n.source) + " as octal"
		}
		return ""
	}}
}

func oneOf(words ...string) rule {
	what := strings.Replace("one of "+strings.Join(words, ", "), " ,", ` "",`, 1)
	return rule{what: what, text: true, scalar: func(n *node) string {
		if slices.Contains(words, n.text) {
			return ""
		}
		return "must be " + what + got(n)
	}}
}

func listOf(items rule) rule   { return rule{what: "a list", items: &items} }
func tableOf(known keys) rule  { return rule{what: "a map", keys: known} }
func namesOf(value rule) rule  { return rule{what: "a map of names", named: &value} }
func anything() rule           { return rule{what: "a value", free: true} }
func (r rule) v2() rule        { r.in = V2; return r }
func (r rule) v3() rule        { r.in = V3; return r }
func (r rule) ours() rule      { r.in = Slipway; return r }
func (r rule) idle() rule      { r.inactive = true; return r }
func (r rule) masked() rule    { r.mask = true; return r }
func (r rule) encrypted() rule { r.secret = true; return r }

// called sets the name for Convox's message about a wrong type.
func (r rule) called(name string) rule { r.legacy = name; return r }

// or adds the forms of another rule.
func (r rule) or(o rule) rule {
	r.what += " or " + o.what
	if o.scalar != nil {
		r.scalar, r.text = o.scalar, o.text
	}
	if o.items != nil {
		r.items = o.items
	}
	if o.keys != nil {
		r.keys = o.keys
	}
	if o.named != nil {
		r.named = o.named
	}
	return r
}

// check walks the tree along the rule: it reports what has the wrong form, warns about unknown
// keys and collects which dialects are used and what does not act yet.
func (l *loader) check(n *node, r rule) {
	if n.kind == nothing {
		return
	}
	l.note(n, r)
	n.hidden = n.hidden || r.mask
	if n.vars && !r.secret && n.kind == scalar {
		l.warn(n, "%s: holds a value of the environment and is stored unencrypted; only environment and command are encrypted", n.path)
	}
	switch {
	case r.free:
	case n.kind == scalar && r.scalar != nil:
		l.checkScalar(n, r)
	case n.kind == list && r.items != nil:
		for _, item := range n.items {
			l.check(item, *r.items)
		}
	case n.kind == table && r.keys != nil:
		l.checkKeys(n, r.keys)
	case n.kind == table && r.named != nil:
		for _, f := range n.fields {
			l.check(f.value, *r.named)
		}
	case r.legacy != "":
		l.problem(n, "unknown type for %s: %s", r.legacy, goType(n)).hint("it must be " + r.what)
	case n.kind == scalar:
		l.problem(n, "%s must be %s%s", n.path, r.what, got(n))
	default:
		l.problem(n, "%s must be %s, got %s", n.path, r.what, n.kind)
	}
}

func (l *loader) checkScalar(n *node, r rule) {
	if t := goType(n); r.legacy != "" && r.text && t != "string" {
		l.problem(n, "unknown type for %s: %s", r.legacy, t).hint("write it in quotes")
		return
	}
	if why := r.scalar(n); why != "" {
		l.problem(n, "%s %s", n.path, why)
		return
	}
	if other, differs := yaml11(n); r.text && differs {
		l.warn(n, "%s is read as the text %s; YAML 1.1, and so Convox, reads %s: write it in quotes", n.path, quote(n.text), quote(other))
	}
}

func (l *loader) checkKeys(n *node, known keys) {
	for _, f := range n.fields {
		r, ok := known[f.name]
		if ok {
			l.check(f.value, r)
			continue
		}
		l.unknownKey(n, f, known)
	}
}

// unknownKey warns about a key that nobody reads, with the nearest that somebody would. Keys
// that begin with "x-" are a place to keep anchors.
func (l *loader) unknownKey(n *node, f field, known keys) {
	if strings.HasPrefix(f.name, "x-") || len(l.warnings) >= reportMax {
		return
	}
	near := ""
	if len(f.name) <= api.NameMax {
		near = api.Nearest(f.name, slices.Sorted(maps.Keys(known)))
	}
	where := "unknown key " + quote(f.name)
	if n.path != "" {
		where += " in " + n.path
	}
	var parents []string
	for _, name := range slices.Sorted(maps.Keys(known)) {
		if _, ok := known[name].keys[f.name]; ok {
			parents = append(parents, name)
		}
	}
	switch {
	case len(parents) > 0:
		l.warn(f.value, "%s is ignored; it belongs under %s", where, strings.Join(parents, " or "))
	case near != "":
		l.warn(f.value, "%s is ignored; did you mean %q?", where, near)
	default:
		l.warn(f.value, "%s is ignored", where)
	}
}

// note collects what the presence of an attribute says.
func (l *loader) note(n *node, r rule) {
	switch r.in {
	case V2:
		l.evidence.V2 = appendNew(l.evidence.V2, n.path)
	case V3:
		l.evidence.V3 = appendNew(l.evidence.V3, n.path)
	case Slipway:
		l.evidence.Slipway = appendNew(l.evidence.Slipway, n.path)
	}
	if r.inactive {
		l.notActing(n.path)
	}
}

func appendNew(paths []string, path string) []string {
	if len(paths) >= reportMax || slices.Contains(paths, path) {
		return paths
	}
	return append(paths, path)
}

package manifest

import (
	"strconv"
	"time"

	"slipway/api"
)

// kind is the kind of a node.
type kind int

const (
	nothing kind = iota // null
	scalar
	list
	table
)

// String names the kind as in "got a list".
func (k kind) String() string { return [...]string{"nothing", "a value", "a list", "a map"}[k] }

// node is one value of the manifest: a YAML node with aliases and merges expanded and with the
// values of ${NAME} in place. All methods accept nil, which is a value that is not there.
type node struct {
	kind kind
	line int
	path string // "services.web.port"

	text   string // of a scalar, with values in place
	source string // the same as it was written: safe to show
	plain  bool   // written without quotes
	vars   bool   // holds values of the environment
	unset  string // the first variable in it that has none
	hidden bool   // a secret in the text itself

	items  []*node
	fields []field
}

// field is one entry of a table, in the order of the text.
type field struct {
	name  string
	value *node
}

func (n *node) at() (line int, path string) {
	if n == nil {
		return 0, ""
	}
	return n.line, n.path
}

// get returns the value at a path of names, or nil. A null counts as absent.
func (n *node) get(names ...string) *node {
	for _, name := range names {
		n = n.child(name)
		if n == nil || n.kind == nothing {
			return nil
		}
	}
	return n
}

func (n *node) child(name string) *node {
	for _, f := range n.entries() {
		if f.name == name {
			return f.value
		}
	}
	return nil
}

// entries returns the fields of a table in the order of the text.
func (n *node) entries() []field {
	if n == nil {
		return nil
	}
	return n.fields
}

// elements returns the items of a list; a scalar is a list of one.
func (n *node) elements() []*node {
	switch {
	case n == nil:
		return nil
	case n.kind == scalar:
		return []*node{n}
	}
	return n.items
}

// is reports whether n is of kind k.
func (n *node) is(k kind) bool { return n != nil && n.kind == k }

// string returns the text of a scalar, or def.
func (n *node) string(def string) string {
	if !n.is(scalar) {
		return def
	}
	return n.text
}

// strings returns the texts of the scalars in a list, or the one of a scalar.
func (n *node) strings() []string {
	var out []string
	for _, item := range n.elements() {
		if item.kind == scalar {
			out = append(out, item.text)
		}
	}
	return out
}

// texts returns a table of scalars as a map; nil when there are none.
func (n *node) texts() map[string]string {
	var out map[string]string
	for _, f := range n.entries() {
		if f.value.kind == table || f.value.kind == list {
			continue
		}
		if out == nil {
			out = make(map[string]string, len(n.fields))
		}
		out[f.name] = f.value.text
	}
	return out
}

// number returns the whole number of a scalar, or def.
func (n *node) number(def int) int {
	if v, err := strconv.Atoi(n.string("")); err == nil {
		return v
	}
	return def
}

// seconds returns a count of seconds as a duration, or def seconds.
func (n *node) seconds(def int) time.Duration { return api.Seconds(n.number(def)) }

// flag returns the boolean of a scalar, or def.
func (n *node) flag(def bool) bool {
	if v, ok := parseFlag(n.string("")); ok {
		return v
	}
	return def
}

// raw returns the value as it was written, for printing and for JSON.
func (n *node) raw() any {
	switch {
	case n == nil || n.kind == nothing:
		return nil
	case n.hidden:
		return "hidden"
	case n.kind == scalar:
		return n.source
	case n.kind == list:
		out := make([]any, 0, len(n.items))
		for _, item := range n.items {
			out = append(out, item.raw())
		}
		return out
	}
	out := make(map[string]any, len(n.fields))
	for _, f := range n.fields {
		out[f.name] = f.value.raw()
	}
	return out
}

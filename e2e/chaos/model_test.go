package chaos

import (
	"fmt"
	"slices"
	"strings"

	"github.com/anishathalye/porcupine"

	"slipway/api"
)

// input is one call on one object. The object's kind is what its key begins with.
type input struct{ key, op, arg string }

// reads reports whether a call changes nothing.
func (in input) reads() bool { return in.op == "get" || in.op == "list" }

// output is what a call came to.
type output struct {
	// known is false for a write that nobody knows the end of: it may have happened at any time
	// after it began, or never.
	known bool
	code  api.Code // of a rejection
	value string   // of a read
}

// A spec says what a call does to an object that one client has for itself: it returns the
// object after the call and the one output that is right.
type spec struct {
	init any
	step func(object any, in input) (any, output)
}

// specs has the objects, by the first part of their keys.
func specs() map[string]spec {
	return map[string]spec{
		"label":  {"", label},
		"scale":  {"", scale},
		"app":    {app{}, app{}.step},
		"deploy": {deploy{}, deploy{}.step},
	}
}

func kindOf(key string) string { kind, _, _ := strings.Cut(key, "-"); return kind }

// model makes a spec one of porcupine.
func (s spec) model() porcupine.Model {
	return porcupine.Model{
		Init: func() any { return s.init },
		Step: func(object, in, out any) (bool, any) {
			after, right := s.step(object, in.(input))
			got := out.(output)
			return !got.known || got == right, after
		},
		DescribeOperation: describe,
		DescribeState:     func(object any) string { return fmt.Sprintf("%+v", object) },
	}
}

// describe tells a call and what it came to.
func describe(in, out any) string {
	i, o := in.(input), out.(output)
	if !o.known {
		return fmt.Sprintf("%s(%s) → ?", i.op, i.arg)
	}
	return fmt.Sprintf("%s(%s) → %s", i.op, i.arg, strings.TrimSpace(string(o.code)+" "+o.value))
}

// modelOf returns the model of an object by its key.
func modelOf(key string) porcupine.Model {
	if s, ok := specs()[kindOf(key)]; ok {
		return s.model()
	}
	return apiSpecs()[kindOf(key)].model()
}

func done(value string) output      { return output{known: true, value: value} }
func rejected(code api.Code) output { return output{known: true, code: code} }

// label is the label of a node: a register.
func label(object any, in input) (any, output) {
	if in.op == "set" {
		return in.arg, done("")
	}
	return object, done(object.(string))
}

// scaleInvalid is a count that no service may have.
const scaleInvalid = "-1"

// scale is the override of a service: a register with values that are refused.
func scale(object any, in input) (any, output) {
	switch {
	case in.op == "get":
		return object, done(object.(string))
	case in.arg == scaleInvalid:
		return object, rejected(api.CodeInvalid)
	}
	return in.arg, done("")
}

// app is an app and the list of its releases: creating one is a test-and-set, a release is
// appended.
type app struct {
	exists, locked, deleting bool
	releases                 string
}

func (app) step(object any, in input) (any, output) {
	a := object.(app)
	switch in.op {
	case "get":
		return a, done(a.String())
	case "create":
		if a.exists {
			return a, rejected(api.CodeConflict)
		}
		return app{exists: true}, done("")
	case "reap":
		if a.exists && a.deleting {
			return app{}, done("")
		}
		return a, done("")
	}
	if !a.exists {
		return a, rejected(api.CodeNotFound)
	}
	switch in.op {
	case "lock", "unlock":
		a.locked = in.op == "lock"
	case "delete":
		if a.locked {
			return a, rejected(api.CodeConflict)
		}
		a.deleting = true
	case "release":
		a.releases += " " + in.arg
	default:
		panic(in.op)
	}
	return a, done("")
}

// String is what a read of the app returns.
func (a app) String() string {
	if !a.exists {
		return "absent"
	}
	var b strings.Builder
	if a.locked {
		b.WriteString("locked ")
	}
	if a.deleting {
		b.WriteString("deleting ")
	}
	for i, id := range strings.Fields(a.releases) {
		fmt.Fprintf(&b, "v%d=%s ", i+1, id)
	}
	return b.String()
}

// deploy is the newest deployment of an app, and the release that the last one to succeed made
// the active one.
type deploy struct {
	current, release, active string
	open, cancel             bool
}

func (deploy) step(object any, in input) (any, output) {
	d := object.(deploy)
	switch in.op {
	case "get":
		return d, done(d.String())
	case "promote": // the newest promotion wins
		id, release, _ := strings.Cut(in.arg, " ")
		return deploy{current: id, release: release, active: d.active, open: true}, done("")
	case "cancel":
		if !d.open {
			return d, rejected(api.CodeConflict)
		}
		d.cancel = true
	case "end": // only of deployments whose promotion was acknowledged
		if in.arg != d.current || !d.open {
			return d, rejected(api.CodeConflict)
		}
		d.open, d.active = false, d.release
	default:
		panic(in.op)
	}
	return d, done("")
}

// String is what a read of the deployment returns.
func (d deploy) String() string {
	return fmt.Sprintf("%s of %s open %t cancel %t active %s", d.current, d.release, d.open, d.cancel, d.active)
}

// byKey parts a history into those of single objects: a history is linearizable if each of its
// objects' is (Herlihy and Wing, 1990).
func byKey(history []porcupine.Operation) map[string][]porcupine.Operation {
	out := map[string][]porcupine.Operation{}
	for _, op := range history {
		key := op.Input.(input).key
		out[key] = append(out[key], op)
	}
	for _, ops := range out {
		slices.SortFunc(ops, func(a, b porcupine.Operation) int { return int(a.Call - b.Call) })
	}
	return out
}

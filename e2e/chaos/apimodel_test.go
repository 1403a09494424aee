package chaos

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/anishathalye/porcupine"

	"slipway/api"
)

// An apiSpec says what a call of the API may do to an object: it returns what the object may be
// after the call came to what it came to, nothing where it cannot have. Behind the API, the rack
// does things of its own, so that there can be several answers.
type apiSpec struct {
	init any
	step func(object any, in input, out output) []any
}

// apiSpecs has the objects of real servers, by the first part of their keys.
func apiSpecs() map[string]apiSpec {
	return map[string]apiSpec{
		"fleet":   {fleet{}, fleet{}.step},
		"env":     {"", environment},
		"rollout": {rollout{"?", "?"}, rollout{}.step},
		"size":    {"1", size},
	}
}

func (s apiSpec) model() porcupine.Model {
	m := porcupine.NondeterministicModel{
		Init:              func() []any { return []any{s.init} },
		Step:              func(object, in, out any) []any { return s.step(object, in.(input), out.(output)) },
		DescribeOperation: describe,
		DescribeState:     func(object any) string { return fmt.Sprintf("%+v", object) },
	}
	return m.ToModel()
}

// fleetSize is how many apps are one object.
const fleetSize = 3

// fleet is some apps, each in one of a few states. Lists have to show all as they were at one
// moment.
type fleet [fleetSize]member

// member is one app of a fleet. One that is being deleted goes at some moment.
type member struct{ exists, locked, deleting bool }

func (m member) String() string {
	switch {
	case !m.exists:
		return "absent"
	case m.deleting && m.locked:
		return "deleting,locked"
	case m.deleting:
		return "deleting"
	case m.locked:
		return "locked"
	}
	return "there"
}

func (fleet) step(object any, in input, out output) (after []any) {
	for _, f := range object.(fleet).mayBe() {
		if in.op == "list" {
			if out.known && out.value == f.String() {
				after = append(after, f)
			}
			continue
		}
		i, _ := strconv.Atoi(in.arg) // draw wrote it
		next, code := f[i].call(in.op)
		if in.op == "get" {
			if out.known && out.value == f[i].String() {
				after = append(after, f)
			}
			continue
		}
		if out.known && out.code != code {
			continue
		}
		f[i] = next
		after = append(after, f)
	}
	return after
}

// mayBe lists what a fleet may have become by itself.
func (f fleet) mayBe() []fleet {
	all := []fleet{f}
	for i := range f {
		if !f[i].deleting {
			continue
		}
		for _, g := range slices.Clone(all) {
			g[i] = member{}
			all = append(all, g)
		}
	}
	return all
}

// call is what a write does to an app.
func (m member) call(op string) (member, api.Code) {
	switch {
	case op == "get":
		return m, ""
	case op == "create" && m.exists:
		return m, api.CodeConflict
	case op == "create":
		return member{exists: true}, ""
	case !m.exists:
		return m, api.CodeNotFound
	case op == "delete" && m.locked:
		return m, api.CodeConflict
	case op == "delete":
		m.deleting = true
	default:
		m.locked = op == "lock"
	}
	return m, ""
}

func (f fleet) String() string {
	var out []string
	for _, m := range f {
		out = append(out, m.String())
	}
	return strings.Join(out, " ")
}

// environment is the set of variables of an app. Whoever adds one gets the number of the release
// that it makes, and what others add at the same time stays. "swap" adds one if so many are there,
// and only then; "add" may be refused where others came in between all the time.
func environment(object any, in input, out output) []any {
	names := strings.Fields(object.(string))
	same, code := []any{object}, api.Code("")
	switch in.op {
	case "get":
		if out.value != object.(string) {
			return nil
		}
		return same
	case "swap":
		count, name, _ := strings.Cut(in.arg, " ")
		if count != strconv.Itoa(len(names)) {
			code = api.CodeConflict
		}
		in.arg = name
	case "add":
		if out.known && out.code == api.CodeConflict {
			return same
		}
	}
	switch {
	case out.known && out.code != code:
		return nil
	case code != "":
		return same
	case out.known && out.value != fmt.Sprint("v", len(names)+1):
		return nil
	}
	next := append(names, in.arg)
	slices.Sort(next)
	return []any{strings.Join(next, " ")}
}

// rollout is the newest deployment of an app and its release. "?" is one that nobody was told of.
type rollout struct{ deployment, release string }

func (rollout) step(object any, in input, out output) []any {
	r := object.(rollout)
	if in.op == "promote" {
		if !out.known {
			return []any{rollout{"?", in.arg}}
		}
		deployment, release, _ := strings.Cut(out.value, " ")
		if out.code != "" || release != in.arg {
			return nil
		}
		return []any{rollout{deployment, release}}
	}
	deployment, release, _ := strings.Cut(out.value, " ")
	if (r.deployment == "?" || r.deployment == deployment) && (r.release == "?" || r.release == release) {
		return []any{rollout{deployment, release}}
	}
	return nil
}

// size is the scale of a service: a register with values that are refused.
func size(object any, in input, out output) []any {
	switch {
	case in.op == "get" && out.value == object.(string):
		return []any{object}
	case in.op == "get":
		return nil
	case in.arg == scaleInvalid && (!out.known || out.code == api.CodeInvalid):
		return []any{object}
	case in.arg != scaleInvalid && (!out.known || out.code == ""):
		return []any{in.arg}
	}
	return nil
}

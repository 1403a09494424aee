package manifest

import (
	"encoding/json"
	"errors"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
)

// TestAttributes reads testdata/attributes.txt: one row for each attribute and form that is
// understood. A row is a line of YAML, followed by what it means: indented, everything that it
// changes against a manifest without it. Set UPDATE=1 to write the meanings anew.
func TestAttributes(t *testing.T) {
	t.Parallel()
	const file = "testdata/attributes.txt"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	covered := map[string]bool{}
	got := rewrite(string(text), func(section, row string) string {
		if section == "[service]" {
			row = "{services: {web: {" + row + "}}}"
		}
		return meaning(t, row, covered)
	})
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, have := strings.Split(string(text), "\n"), strings.Split(got, "\n")
	for i := range max(len(want), len(have)) {
		if i >= len(want) || i >= len(have) || want[i] != have[i] {
			t.Errorf("%s:%d\nwant: %s\ngot:  %s", file, i+1, strings.Join(want[min(i, len(want)):min(i+4, len(want))], "\n      "),
				strings.Join(have[min(i, len(have)):min(i+4, len(have))], "\n      "))
			break
		}
	}

	known := map[string]bool{}
	forms("", topLevel(), func(name string, _ rule) { known[name] = true })
	for _, name := range sortedKeys(known) {
		if !covered[name] {
			t.Errorf("%s has no row for %s", file, name)
		}
	}
	if len(known) < 300 {
		t.Errorf("the grammar has %d forms only", len(known))
	}
}

// rewrite replaces the indented lines below each row by what explain makes of it.
func rewrite(text string, explain func(section, row string) string) string {
	var out []string
	section := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case strings.HasPrefix(line, " "):
			continue
		case strings.HasPrefix(line, "["):
			section = line
		case line != "" && !strings.HasPrefix(line, "#"):
			out = append(out, line)
			for part := range strings.Lines(explain(section, line)) {
				out = append(out, "    "+strings.TrimSuffix(part, "\n"))
			}
			continue
		}
		out = append(out, line)
	}
	return strings.Join(out, "\n") + "\n"
}

// forms names every form that the grammar has: "services.*.port scalar".
func forms(path string, r rule, visit func(name string, r rule)) {
	if r.free {
		visit(path+" anything", r)
		return
	}
	if r.scalar != nil {
		visit(path+" scalar", r)
	}
	if r.items != nil {
		visit(path+" list", r)
		forms(path+"[]", *r.items, visit)
	}
	if r.keys != nil {
		visit(path+" map", r)
		for _, name := range slices.Sorted(maps.Keys(r.keys)) {
			forms(join(path, name), r.keys[name], visit)
		}
	}
	if r.named != nil {
		visit(path+" names", r)
		forms(join(path, "*"), *r.named, visit)
	}
}

// cover notes the forms of the grammar that a tree uses.
func cover(n *node, path string, r rule, covered map[string]bool) {
	switch {
	case n.kind == nothing:
	case r.free:
		covered[path+" anything"] = true
	case n.kind == scalar:
		covered[path+" scalar"] = true
	case n.kind == list:
		covered[path+" list"] = true
		for _, item := range n.items {
			cover(item, path+"[]", *r.items, covered)
		}
	case r.keys != nil:
		covered[path+" map"] = true
		for _, f := range n.fields {
			if known, ok := r.keys[f.name]; ok {
				cover(f.value, join(path, f.name), known, covered)
			}
		}
	default:
		covered[path+" names"] = true
		for _, f := range n.fields {
			cover(f.value, join(path, "*"), *r.named, covered)
		}
	}
}

// meaning loads a text and returns what it changes against services without attributes.
func meaning(t *testing.T, text string, covered map[string]bool) string {
	t.Helper()
	env := map[string]string{"A": "1", "SHARED_URL": "redis://u:p@cache.example.org:6380/1"}
	m, err := Load(text, Options{Env: env, AllowPrivileged: true})
	if err != nil {
		problems, ok := errors.AsType[*Problems](err)
		if !ok {
			t.Fatalf("%s: %v", text, err)
		}
		out := ""
		for _, p := range problems.List {
			p.Line = 0
			out += "error: " + p.String() + "\n"
		}
		return out
	}
	l := &loader{}
	cover(l.parse(text), "", topLevel(), covered)

	var names []string
	for _, s := range m.Services {
		names = append(names, string(s.Spec.Name)+": {}")
	}
	base, err := Load("services: {"+strings.Join(names, ", ")+"}", Options{})
	if err != nil {
		t.Fatal(err)
	}
	changes := differences("", document(t, base), document(t, m))
	if m.Dialect == V2 { // its defaults have their own test
		changes = slices.DeleteFunc(changes, func(s string) bool { return s == "sticky=true" || s == "init=null" })
		changes = append(changes, "dialect v2")
	}
	for _, w := range m.Warnings {
		if !strings.HasPrefix(w.Message, "the defaults of Convox v2") {
			changes = append(changes, "warning: "+w.Message)
		}
	}
	for _, path := range m.NotActing {
		changes = append(changes, "not yet: "+path)
	}
	if len(changes) == 0 {
		return "as without it\n"
	}
	return strings.Join(changes, "\n") + "\n"
}

// document is a manifest as a tree of maps, with the parts that are never printed.
func document(t *testing.T, m *Manifest) map[string]any {
	t.Helper()
	out := map[string]any{
		"app.environment": m.Environment, "app.labels": m.Labels, "app.params": m.Params, "app.budget": m.Budget, "app.logs": m.Logs,
		"app.configs": m.Configs,
	}
	for _, r := range m.Resources {
		out["resources."+string(r.Name)] = r
	}
	for _, x := range m.Timers {
		out["timers."+string(x.Name)] = x
		out["timers."+string(x.Name)+" command"] = x.Command
	}
	for _, b := range m.Balancers {
		out["balancers."+b.Name] = b
	}
	for _, s := range m.Services {
		own := map[string]any{
			"spec": s.Spec, "links": s.Links, "extra": s.Extra, "runs": s.Command, "entrypoint": s.Entrypoint, "test": s.Test, "env": s.Env,
		}
		if s.Spec.Name != "web" {
			own = map[string]any{string(s.Spec.Name): own}
		}
		maps.Copy(out, own)
	}
	b, err := json.Marshal(out)
	if err != nil {
		t.Fatal(err)
	}
	tree := map[string]any{}
	if err := json.Unmarshal(b, &tree); err != nil {
		t.Fatal(err)
	}
	return tree
}

// compact writes JSON in one line, and & as it is.
func compact(v any) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return err.Error()
	}
	return strings.TrimSpace(b.String())
}

// differences lists the paths whose values differ, with the new ones.
func differences(path string, before, after any) []string {
	old, wasMap := before.(map[string]any)
	now, isMap := after.(map[string]any)
	if isMap && (wasMap || before == nil) {
		keys := map[string]bool{}
		for _, m := range []map[string]any{old, now} {
			for k := range m {
				keys[k] = true
			}
		}
		var out []string
		for _, k := range sortedKeys(keys) {
			out = append(out, differences(strings.TrimPrefix(join(path, k), "spec."), old[k], now[k])...)
		}
		return out
	}
	a, b := compact(before), compact(after)
	if a == b {
		return nil
	}
	return []string{path + "=" + b}
}

// place writes a manifest with a value at a path of the grammar, in a line of its own, and
// returns that line and the path in the text.
func place(path, value string) (text string, line int, at string) {
	indent := ""
	names := strings.Split(strings.ReplaceAll(path, "[]", ".[]"), ".")
	for i, name := range names {
		last := i == len(names)-1
		switch {
		case name == "[]":
			text += indent + "-\n"
			at += "[0]"
		case name == "*":
			name = map[bool]string{true: "5000", false: "web"}[i == 3 && names[2] == "ports"]
			fallthrough
		default:
			text += indent + name + ":\n"
			at = join(at, name)
		}
		indent += "  "
		if last {
			text += indent + value + "\n"
		}
	}
	return text, len(names), at
}

// A value of a form that an attribute does not have is refused by its path, in its line, with
// the forms that it has.
func TestEveryAttributeRefusesOtherForms(t *testing.T) {
	t.Parallel()
	tried := 0
	forms("", topLevel(), func(name string, r rule) {
		path, _, _ := strings.Cut(name, " ")
		if path == "" || r.free {
			return
		}
		for value, accepted := range map[string]bool{
			"text": r.scalar != nil, "[a]": r.items != nil, "{a: b}": r.keys != nil || r.named != nil,
		} {
			if accepted {
				continue
			}
			tried++
			text, line, at := place(path, value)
			_, err := Load(text, Options{})
			problems, ok := errors.AsType[*Problems](err)
			if !ok || !slices.ContainsFunc(problems.List, func(p Problem) bool {
				says := p.String()
				return p.Path == at && (p.Line == line || p.Line == line+1) && strings.Contains(says, "must be "+r.what)
			}) {
				t.Errorf("%s (line %d) with %s: got %v, want that it must be %s", at, line, value, err, r.what)
			}
		}
	})
	if tried < 300 {
		t.Errorf("only %d forms were tried", tried)
	}
}

// A key with one letter too many is ignored with a warning that names the right one.
func TestEveryKeyIsSuggested(t *testing.T) {
	t.Parallel()
	tried := 0
	forms("", topLevel(), func(name string, r rule) {
		path, form, _ := strings.Cut(name, " ")
		if form != "map" || len(r.keys) == 0 {
			return
		}
		for key := range r.keys {
			tried++
			text, line := key+"q: 1\n", 1
			if path != "" {
				text, line, _ = place(path, key+"q: 1")
				line++
			}
			l := &loader{}
			l.check(l.parse(text), topLevel())
			if !slices.ContainsFunc(l.warnings, func(w Warning) bool {
				return w.Line == line && (strings.Contains(w.Message, "did you mean "+quote(key)) || strings.Contains(w.Message, "it belongs under"))
			}) {
				t.Errorf("%q in %s: warnings %v", key+"q", path, l.warnings)
			}
		}
	})
	if tried < 150 {
		t.Errorf("only %d keys were tried", tried)
	}
}

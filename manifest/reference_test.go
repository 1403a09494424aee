package manifest

import (
	"fmt"
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"slipway/api"
)

// TestReference keeps the tables of docs/manifest.md equal to the grammar: every key, what it
// holds, which dialect knows it and whether it acts. The last column is written by hand; UPDATE=1
// writes the others anew and leaves it.
func TestReference(t *testing.T) {
	t.Parallel()
	const file = "../docs/manifest.md"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	meanings := map[string]string{}
	begin := regexp.MustCompile(`(?s)<!-- (keys|json): ([a-z ]+) -->.*?<!-- end -->`)
	for _, section := range begin.FindAllStringSubmatch(string(text), -1) {
		for row := range strings.Lines(section[0]) {
			if cells := strings.Split(row, "|"); len(cells) >= 7 {
				meanings[section[2]+strings.TrimSpace(cells[1])] = strings.TrimSpace(strings.Join(cells[5:len(cells)-1], "|"))
			}
		}
	}

	groups := map[string]keys{
		"app": topLevel().keys, "service run": runKeys(), "service network": networkKeys(), "service probes": probeKeys(),
		"service life": lifeKeys(), "service place": placeKeys(), "service storage": storageKeys(), "service cluster": clusterKeys(),
	}
	delete(groups["app"], "services")
	for _, name := range []string{"resources", "timers", "balancers", "budget"} {
		groups[name] = keys{name: groups["app"][name]}
		delete(groups["app"], name)
	}
	tables := map[string]string{}
	for name, known := range groups {
		tables[name] = describe(t, name, known, meanings)
	}

	tables["manifest"] = fields(reflect.TypeFor[Manifest]())
	tables["problems"] = fields(reflect.TypeFor[Problems]())

	got := begin.ReplaceAllStringFunc(string(text), func(s string) string {
		section := begin.FindStringSubmatch(s)
		kind, name := section[1], section[2]
		rows, ok := tables[name]
		if !ok {
			t.Errorf("%s has a table %q, which the code has not", file, name)
		}
		delete(tables, name)
		head := map[string]string{"keys": "| key | holds | known to | acts | meaning |\n|---|---|---|---|---|\n", "json": "| field | holds |\n|---|---|\n"}
		return "<!-- " + kind + ": " + name + " -->\n" + head[kind] + rows + "<!-- end -->"
	})
	for name := range tables {
		t.Errorf("%s has no table %q", file, name)
	}
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have := strings.Split(string(text), "\n")
	for i, want := range strings.Split(got, "\n") {
		if i >= len(have) || have[i] != want {
			t.Fatalf("%s:%d is not what the grammar says, UPDATE=1 writes it anew:\n%s", file, i+1, want)
		}
	}
}

// describe writes the rows of some keys.
func describe(t *testing.T, section string, known keys, meanings map[string]string) string {
	t.Helper()
	var out strings.Builder
	for _, name := range slices.Sorted(maps.Keys(known)) {
		rows(name, known[name], "", false, func(path, holds string, in Dialect, idle bool) {
			key, who, acts := "`"+path+"`", "both", "yes"
			if in != "" {
				who = map[Dialect]string{V2: "v2", V3: "v3", Slipway: "Slipway"}[in]
			}
			if idle {
				acts = "not yet"
			}
			meaning := meanings[section+key]
			if meaning == "" {
				t.Errorf("%s has no meaning in docs/manifest.md", key)
			}
			fmt.Fprintf(&out, "| %s | %s | %s | %s | %s |\n", key, holds, who, acts, meaning)
		})
	}
	return out.String()
}

// rows visits a key and those below it.
func rows(path string, r rule, in Dialect, idle bool, visit func(path, holds string, in Dialect, idle bool)) {
	if r.in != "" {
		in = r.in
	}
	idle = idle || r.inactive || r.named != nil && r.named.inactive
	if !strings.HasSuffix(path, "[]") && !strings.HasSuffix(path, ".NAME") {
		visit(path, holds(r), in, idle)
	}
	for _, name := range slices.Sorted(maps.Keys(r.keys)) {
		rows(path+"."+name, r.keys[name], in, idle, visit)
	}
	if r.items != nil {
		rows(path+"[]", *r.items, in, idle, visit)
	}
	if r.named != nil {
		rows(path+".NAME", *r.named, in, idle, visit)
	}
}

// holds says what a rule accepts, with what is in its lists and maps.
func holds(r rule) string {
	what := r.what
	if r.items != nil && !strings.Contains(what, "a list of") {
		items := strings.NewReplacer("a map", "maps", "a value", "values", "a port", "ports", "a list", "lists").Replace(holds(*r.items))
		what = strings.Replace(what, "a list", "a list of "+items, 1)
	}
	if r.named != nil && r.named.what != "text" {
		what = strings.Replace(what, "a map of names", "a map of names to "+strings.Replace(holds(*r.named), "a map", "maps", 1), 1)
	}
	return what
}

// fields writes the rows of a JSON document.
func fields(of reflect.Type) string {
	var out strings.Builder
	var visit func(path string, of reflect.Type)
	visit = func(path string, of reflect.Type) {
		for i := range of.NumField() {
			f := of.Field(i)
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if !f.IsExported() || name == "-" {
				continue
			}
			at, inner := join(path, name), f.Type
			holds := ""
			for inner.Kind() == reflect.Slice || inner.Kind() == reflect.Pointer {
				if inner.Kind() == reflect.Slice {
					at, holds = at+"[]", "a list of "
				}
				inner = inner.Elem()
			}
			fmt.Fprintf(&out, "| `%s` | %s |\n", at, holds+jsonKind(inner, holds != ""))
			if inner.Kind() == reflect.Struct {
				visit(at, inner)
			}
		}
	}
	visit("", of)
	return out.String()
}

// jsonKind says what a type becomes in JSON, with its unit.
func jsonKind(of reflect.Type, many bool) string {
	switch of {
	case reflect.TypeFor[time.Duration]():
		return "nanoseconds"
	case reflect.TypeFor[api.Bytes]():
		return "bytes"
	case reflect.TypeFor[api.MilliCPU]():
		return "thousandths of a core"
	}
	kinds := map[reflect.Kind][2]string{
		reflect.String: {"text", "texts"}, reflect.Bool: {"true or false", ""}, reflect.Struct: {"an object", "objects"},
		reflect.Map: {"an object with names of yours", ""}, reflect.Int: {"a number", "numbers"}, reflect.Int64: {"a number", "numbers"},
		reflect.Float64: {"a number", ""},
	}[of.Kind()]
	if many {
		return kinds[1]
	}
	return kinds[0]
}

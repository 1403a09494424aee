package manifest_test

import (
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"unicode"

	"slipway/api"
	"slipway/manifest"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// fragments are pieces of manifests that random texts are made of.
var fragments = []string{
	"services:\n", "  web:\n", "  a: &a\n", "    <<: *a\n", "    port: ", "    command: ", "    scale: ", "{count: ", "}", "[", "]",
	"1-5", "0", "-1", "true", "~", "\n", "'", "\"", "${A}", "${", "environment: ", "- A=b\n", "resources:\n", "timers:\n", "nlb: ",
	"    health: ", "    volumes: ['/a:/b:", "?", "!!str ", "|\n", "#", "\t", "\x00", "\u2028", "x", "    domain: ", ", ", ": ", "&b ", "*b",
	"balancers: ", "budget: ", "    startupProbe: ", "    build: ", "    agent: ", "    deployment: {minimum: ", "configs: ", "schedule: ",
}

func TestLoadIsTotalAndDeterministic(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(
			rapid.String(),
			rapid.Custom(func(t *rapid.T) string {
				return strings.Join(rapid.SliceOfN(rapid.SampledFrom(fragments), 1, 40).Draw(t, "fragments"), "")
			}),
		).Draw(t, "text")
		checkLoad(t, text, rapid.String().Draw(t, "value"))
	})
}

func outcome(text string, env map[string]string) string {
	m, err := manifest.Load(text, manifest.Options{Env: env})
	if err != nil {
		return err.Error()
	}
	printed, err := json.Marshal(m)
	if err != nil {
		return "json: " + err.Error()
	}
	return string(printed)
}

// Whatever the value, only the places that name the variable change, and nobody is told the
// value.
func TestValuesCannotChangeStructure(t *testing.T) {
	t.Parallel()
	const text = "services:\n  web:\n    test: a ${V}\n    command: [run, '${V}']\n    environment: [ 'X=${V}', Y=1 ]\n    init: false\n  api: {test: \"${V}\"}\n"
	plain := load(t, text, map[string]string{"V": "v"})
	rapid.Check(t, func(t *rapid.T) {
		value := rapid.OneOf(
			rapid.String(),
			rapid.SampledFrom([]string{"x\n    privileged: true", "\", privileged: true, a: \"", "', Z=1, '", "*a", "${V}", "# c", "]", "\U0010FFF00\U0010FFF1"}),
		).Filter(func(s string) bool { return !strings.ContainsRune(s, 0) }).Draw(t, "value")
		m, err := manifest.Load(text, manifest.Options{Env: map[string]string{"V": value}})
		if err != nil {
			t.Fatalf("value %q: %v", value, err)
		}
		if diff := cmp.Diff(plain.Specs(), m.Specs()); diff != "" {
			t.Fatalf("value %q changes the services:\n%s", value, diff)
		}
		web := m.Services[0]
		if web.Test != "a "+value || m.Services[1].Test != value || !cmp.Equal(web.Command, []string{"run", value}) ||
			!cmp.Equal(web.Env, map[string]string{"X": value, "Y": "1"}) {
			t.Fatalf("value %q became %q %q %q", value, web.Test, web.Command, web.Env)
		}
	})
}

// A secret must not come back in what is printed, whichever attribute it is put into.
func TestValuesAreNotPrinted(t *testing.T) {
	t.Parallel()
	const canary = "c4n4ry value/../x:y"
	for _, attribute := range []string{
		"port", "ports", "domain", "health", "scale", "drain", "build", "volumes", "whitelist", "environment", "resources", "links",
		"nlb", "pool", "constraints", "sticky", "singleton", "deployment", "labels", "agent", "timeout", "configMounts", "command", "test",
	} {
		for _, form := range []string{"${SECRET}", "['${SECRET}']", "{port: '${SECRET}', path: '${SECRET}', minimum: '${SECRET}', count: '${SECRET}'}", "[{id: '${SECRET}', port: '${SECRET}', attribute: '${SECRET}'}]"} {
			_, err := manifest.Load("services: {web: {"+attribute+": "+form+"}}", manifest.Options{Env: map[string]string{"SECRET": canary}})
			if err != nil && strings.Contains(err.Error(), "c4n4ry") {
				t.Errorf("%s: %s: the value is in the error: %v", attribute, form, err)
			}
		}
	}
}

// Load changes nothing that it was given, and what it returns is the caller's.
func TestLoadIsPure(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/v3.yml")
	if err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"SECRET_KEY": "s", "HOST": "h", "SHARED_URL": "redis://h"}
	before := maps.Clone(env)
	want := outcome(string(text), env)

	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			m, err := manifest.Load(string(text), manifest.Options{Env: env})
			if err != nil {
				t.Error(err)
				return
			}
			for i := range m.Services {
				s := &m.Services[i]
				clear(s.Env)
				clear(s.Extra)
				clear(s.Spec.Labels)
				clear(s.Declared)
				clear(s.Links)
				clear(s.Spec.Ports)
				clear(s.Command)
			}
			clear(m.Labels)
			clear(m.Environment)
			clear(m.Warnings)
			clear(m.NotActing)
			if got := outcome(string(text), env); got != want {
				t.Errorf("what one caller does to its manifest shows in another:\n%s", cmp.Diff(want, got))
			}
		})
	}
	wg.Wait()
	if diff := cmp.Diff(before, env); diff != "" {
		t.Errorf("the environment was changed:\n%s", diff)
	}
}

// checkLoad checks what holds for any text and value.
func checkLoad(t interface {
	Fatalf(format string, args ...any)
}, text, value string) {
	env := map[string]string{"A": value}
	if a, b := outcome(text, env), outcome(text, env); a != b {
		t.Fatalf("two loads differ:\n%s\n%s", a, b)
	}
	if len(env) != 1 || env["A"] != value {
		t.Fatalf("the environment became %q", env)
	}
	m, err := manifest.Load(text, manifest.Options{Env: env})
	if err != nil {
		checkProblems(t, err, text)
		return
	}
	for _, s := range m.Specs() {
		if err := api.CheckName("service", string(s.Name)); err != nil || s.Scale.Min > s.Scale.Max || s.Minimum < 0 || s.Minimum > 100 {
			t.Fatalf("a manifest that cannot be: %v %+v", err, s)
		}
	}
}

func checkProblems(t interface {
	Fatalf(format string, args ...any)
}, err error, text string) {
	problems, ok := errors.AsType[*manifest.Problems](err)
	if !ok || len(problems.List) == 0 {
		t.Fatalf("an error without problems: %v", err)
	}
	breaks := strings.NewReplacer("\r\n", "\n", "\r", "\n", "\u0085", "\n", "\u2028", "\n", "\u2029", "\n")
	line, lines := 0, strings.Count(breaks.Replace(text), "\n")+1
	for _, p := range problems.List {
		if p.Line < line || p.Line > lines || p.Message == "" || strings.ContainsFunc(p.String(), unicode.IsControl) {
			t.Fatalf("problem %q is out of order, or has control characters, in %d lines", p, lines)
		}
		line = p.Line
	}
}

func FuzzLoad(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.yml")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text), "x")
	}
	rows, err := os.ReadFile("testdata/attributes.txt")
	if err != nil {
		f.Fatal(err)
	}
	for row := range strings.Lines(string(rows)) {
		if !strings.HasPrefix(row, " ") && !strings.HasPrefix(row, "#") {
			f.Add(row, "")
			f.Add("{services: {web: {"+row+"}}}", "${A}")
		}
	}
	f.Add("a: &a [*a]", "")
	f.Add("'\u2028", "") // YAML breaks a line there
	f.Add("a: b\rc: [", "")
	f.Fuzz(func(t *testing.T, text, value string) { checkLoad(t, text, value) })
}

// FuzzInterpolate compares the text that a template becomes with the replacement done by hand,
// on a text that another parser has read.
func FuzzInterpolate(f *testing.F) {
	for _, template := range []string{"${A}", "a ${A} b ${B} ${A}", "$A", "$${A}", "${}", "${A", "${A}}", "${${A}}", "${A\n}", "\\${A}", "\"${A}\"", "${a b}"} {
		f.Add(template, "value")
		f.Add(template, "x\n    privileged: true")
	}
	f.Add("\U0010FFF00\U0010FFF1", "secret")
	variable := regexp.MustCompile(`\$\{([^}\n]*)\}`)
	f.Fuzz(func(t *testing.T, template, value string) {
		quoted, err := json.Marshal(template)
		if err != nil || strings.ContainsRune(value, 0) || strings.ContainsAny(template, "\U0010FFF0\U0010FFF1\u007f\x00") ||
			strings.ContainsFunc(template, unicode.IsControl) || strings.LastIndex(template, "${") > strings.LastIndex(template, "}") {
			return // not closed, it goes on to the } of the map
		}
		m, err := manifest.Load("services: {web: {privileged: no, test: "+string(quoted)+"}, api: {}}", manifest.Options{Env: map[string]string{"A": value}})
		if err != nil {
			if len(value) < 1<<16 && len(template) < 64 {
				t.Fatalf("%q with %q: %v", template, value, err)
			}
			return
		}
		const mark = "\uFFF9mark\uFFFA"
		var parts []string
		marked := variable.ReplaceAllStringFunc(string(quoted), func(s string) string {
			parts = append(parts, map[string]string{"${A}": value}[s])
			return mark
		})
		var want string
		if err := json.Unmarshal([]byte(marked), &want); err != nil {
			t.Fatalf("%q: %v", marked, err)
		}
		for _, part := range parts {
			before, after, _ := strings.Cut(want, mark)
			want = before + part + after
		}
		if got := m.Services[0].Test; got != want || len(m.Services) != 2 || m.Services[0].Spec.Privileged {
			t.Fatalf("%q with %q became %q, want %q", template, value, got, want)
		}
	})
}

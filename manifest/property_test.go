package manifest_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

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
		env := map[string]string{"A": rapid.String().Draw(t, "value")}
		if a, b := outcome(text, env), outcome(text, env); a != b {
			t.Fatalf("two loads differ:\n%s\n%s", a, b)
		}
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

func FuzzLoad(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.yml")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text), "x")
	}
	f.Add("a: &a [*a]", "")
	f.Fuzz(func(t *testing.T, text, value string) {
		env := map[string]string{"A": value}
		if a, b := outcome(text, env), outcome(text, env); a != b {
			t.Fatalf("two loads differ:\n%s\n%s", a, b)
		}
	})
}

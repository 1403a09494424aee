package manifest_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"slipway/api"
	"slipway/manifest"

	"github.com/google/go-cmp/cmp"
)

// load loads a text that must be good.
func load(t *testing.T, text string, env map[string]string) *manifest.Manifest {
	t.Helper()
	m, err := manifest.Load(text, manifest.Options{Env: env})
	if err != nil {
		t.Fatalf("Load: %v\n%s", err, text)
	}
	return m
}

// refuse loads a text that must not be good, and returns the problems.
func refuse(t *testing.T, text string, env map[string]string) *manifest.Problems {
	t.Helper()
	m, err := manifest.Load(text, manifest.Options{Env: env})
	var problems *manifest.Problems
	if !errors.As(err, &problems) {
		t.Fatalf("Load gave %+v, %v; want problems\n%s", m, err, text)
	}
	return problems
}

func TestLoadFillsDefaults(t *testing.T) {
	t.Parallel()
	m := load(t, "services:\n  web:\n    port: 3000\n", nil)
	want := api.ServiceSpec{
		Name:     "web",
		Build:    &api.BuildSpec{Path: ".", Dockerfile: "Dockerfile"},
		Port:     api.Port{Number: 3000, Scheme: api.SchemeHTTP},
		Timeout:  time.Minute,
		Redirect: true,
		Health:   api.Health{Path: "/", Grace: 5 * time.Second, Interval: 5 * time.Second, Timeout: 4 * time.Second},
		Drain:    30 * time.Second,
		Grace:    30 * time.Second,
		Minimum:  50,
		Maximum:  200,
		Scale:    api.Scale{Count: 1, Min: 1, Max: 1, Ask: api.Amount{CPU: 250, Memory: 512 * api.MiB}},
		Init:     true,
		Priority: 50,
	}
	if diff := cmp.Diff([]api.ServiceSpec{want}, m.Specs()); diff != "" {
		t.Fatalf("spec (-want +got):\n%s", diff)
	}
	if m.Dialect != manifest.V3 || len(m.Warnings) != 0 || len(m.NotActing) != 0 {
		t.Fatalf("dialect %s, warnings %v, not acting %v", m.Dialect, m.Warnings, m.NotActing)
	}
}

// TestLoadFiles compares what each file of testdata means with the JSON beside it. Set
// UPDATE=1 to write the JSON anew.
func TestLoadFiles(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.yml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files: %v", err)
	}
	env := map[string]string{"SECRET_KEY": "hunter2", "HOST": "www.example.org", "SHARED_URL": "redis://u:p@cache.example.org:6380/1"}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var got []byte
			m, err := manifest.Load(string(text), manifest.Options{Env: env})
			if err != nil {
				got = []byte(err.Error() + "\n")
			} else if got, err = json.MarshalIndent(m, "", "  "); err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(got), "hunter2") {
				t.Errorf("a secret value is printed:\n%s", got)
			}
			golden := strings.TrimSuffix(file, ".yml") + ".golden"
			if os.Getenv("UPDATE") != "" {
				if err := os.WriteFile(golden, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", golden, diff)
			}
		})
	}
}

func TestLoadEmpty(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "\n# nothing\n", "services:\n", "{}", "---\n"} {
		if m := load(t, text, nil); len(m.Services) != 0 {
			t.Errorf("%q has services %v", text, m.Specs())
		}
	}
}

func TestProblemsAreInvalidAndHaveLines(t *testing.T) {
	t.Parallel()
	problems := refuse(t, "services:\n  web:\n    port: 0\n  Bad:\n    drain: -1\n", nil)
	want := "validation errors:\n" +
		"line 3: invalid port: 0 (must be a number from 1 to 65535, or scheme:number)\n" +
		"line 4: service name Bad invalid, must contain only lowercase alphanumeric and dashes\n" +
		"line 5: services.Bad.drain must be a whole number of seconds from 0 to 86400, got \"-1\""
	if problems.Error() != want {
		t.Errorf("got:\n%s\nwant:\n%s", problems, want)
	}
	if code := api.CodeOf(problems); code != api.CodeInvalid {
		t.Errorf("code %q, want %q", code, api.CodeInvalid)
	}
}

func TestDialects(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, text   string
		want         manifest.Dialect
		sticky, init bool
		cpu          api.MilliCPU
	}{
		{"plain", "services: {web: {scale: {cpu: 512}}}", manifest.V3, false, true, 512},
		{"v2", "services: {web: {links: [web], scale: {cpu: 512}}}", manifest.V2, true, false, 500},
		{"v2 default", "services: {web: {tags: {a: b}}}", manifest.V2, true, false, 250},
		{"v3", "services: {web: {timeout: 5, scale: {cpu: 512}}}", manifest.V3, false, true, 512},
		{"mixed", "services: {web: {timeout: 5, links: [web], scale: {cpu: 512}}}", manifest.V3, false, true, 512},
		{"explicit", "services: {web: {links: [web], sticky: no, init: yes, scale: {cpu: 1024}}}", manifest.V2, false, true, 1000},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := load(t, tt.text, nil)
			spec := m.Specs()[0]
			if m.Dialect != tt.want || spec.Sticky != tt.sticky || spec.Init != tt.init || spec.Scale.Ask.CPU != tt.cpu {
				t.Errorf("dialect %s sticky %t init %t cpu %d, want %+v", m.Dialect, spec.Sticky, spec.Init, spec.Scale.Ask.CPU, tt)
			}
		})
	}
}

// A warning must name the key, its line and the nearest known one.
func TestWarnings(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, text, want string }{
		{"top level", "servicess: {}", `line 1: unknown key "servicess" is ignored; did you mean "services"?`},
		{"service", "services:\n  web:\n    comand: x", `line 3: unknown key "comand" in services.web is ignored; did you mean "command"?`},
		{"deep", "services: {web: {health: {intervall: 3}}}", `line 1: unknown key "intervall" in services.web.health is ignored; did you mean "interval"?`},
		{"far", "nothing-like-it: 1", `line 1: unknown key "nothing-like-it" is ignored`},
		{"bool", "services: {web: {pool: on}}", `line 1: services.web.pool is read as the text "on"; YAML 1.1, and so Convox, reads "true": write it in quotes`},
		{"float", "resources: {db: {type: postgres, options: {version: 9.10}}}", `line 1: resources.db.options.version is read as the text "9.10"; YAML 1.1, and so Convox, reads "9.1": write it in quotes`},
		{"image", "services: {web: {image: y}}", `line 1: services.web.image is read as the text "y"; YAML 1.1, and so Convox, reads "true": write it in quotes`},
		{"missing", "services: {web: {command: run ${NOPE}}}", `line 1: services.web.command: ${NOPE} is empty, the environment has no NOPE`},
		{"operator", "services:\n  web:\n    command: run ${NOPE:-x}", `line 3: services.web.command: "${NOPE:-x}" is empty, only a plain ${NAME} is replaced: there are no defaults or other operators`},
		{"unencrypted", "services:\n  web:\n    domain: ${HOST}", `line 3: services.web.domain: holds a value of the environment and is stored unencrypted; only environment and command are encrypted`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := load(t, tt.text, map[string]string{"HOST": "a.example.org"})
			var got []string
			for _, w := range m.Warnings {
				got = append(got, w.String())
				if w.String() == tt.want {
					return
				}
			}
			t.Errorf("warnings:\n%s\nwant:\n%s", strings.Join(got, "\n"), tt.want)
		})
	}
	if m := load(t, "x-base: &b {port: 80}\nservices: {web: {<<: *b}}", nil); len(m.Warnings) != 0 || m.Specs()[0].Port.Number != 80 {
		t.Errorf("a place for anchors: warnings %v, spec %+v", m.Warnings, m.Specs()[0])
	}
}

// Anchors, aliases and merges stand for what they name; a key of the map itself wins, and then
// the first of several merged ones.
func TestMerges(t *testing.T) {
	t.Parallel()
	const text = `
x-base: &base {port: 80, scale: {count: 2, cpu: 100}, environment: [A=1]}
x-other: &other {port: 81, domain: [a.example.org, b.example.org], drain: 5}
x-name: &name web
services:
  *name :
    <<: [*base, *other]
    drain: 7
  api:
    <<: *other
`
	specs := load(t, text, nil).Specs()
	web, api := specs[0], specs[1]
	if web.Name != "web" || web.Port.Number != 80 || web.Drain != 7*time.Second || len(web.Domains) != 2 || web.Scale.Count != 2 || web.Environment[0] != "A" {
		t.Errorf("web: %+v", web)
	}
	if api.Name != "api" || api.Port.Number != 81 || api.Drain != 5*time.Second || api.Scale.Count != 1 {
		t.Errorf("api: %+v", api)
	}

	// What is wrong below a merge is told where it was written, by the path where it counts.
	problems := refuse(t, "x: &x {drain: -1, ports: [80/sctp]}\nservices:\n  web:\n    <<: *x\n", nil)
	for i, want := range []string{"services.web.drain", "services.web.ports[0]"} {
		if problems.List[i].Path != want || problems.List[i].Line != 1 {
			t.Errorf("problem %d is at %s in line %d", i, problems.List[i].Path, problems.List[i].Line)
		}
	}
}

// However much is wrong, the report has an end.
func TestManyProblems(t *testing.T) {
	t.Parallel()
	text := "services:\n  web:\n    ports:\n" + strings.Repeat("    - 0\n", 150) + "    drain: -1\n"
	problems := refuse(t, text, nil)
	if len(problems.List) != 100 || problems.More != 51 || !strings.HasSuffix(problems.Error(), "\nand 51 more") {
		t.Errorf("%d problems and %d more:\n%s", len(problems.List), problems.More, problems)
	}
	var keys strings.Builder
	for i := range 150 {
		fmt.Fprintf(&keys, "unknown-%d: 1\n", i)
	}
	if m := load(t, keys.String(), nil); len(m.Warnings) != 100 {
		t.Errorf("%d warnings", len(m.Warnings))
	}
}

func TestFileNames(t *testing.T) {
	t.Parallel()
	if diff := cmp.Diff([]string{"slipway.yml", "convox.yml"}, manifest.FileNames()); diff != "" {
		t.Error(diff)
	}
}

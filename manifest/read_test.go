package manifest_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"slipway/api"
	"slipway/manifest"

	"github.com/google/go-cmp/cmp"
)

// one loads a manifest with the service web and returns it.
func one(t *testing.T, attributes string, env map[string]string) manifest.Service {
	t.Helper()
	return load(t, "services:\n  web:\n    "+attributes+"\n", env).Services[0]
}

func TestCommand(t *testing.T) {
	t.Parallel()
	sh := func(s string) []string { return []string{"sh", "-c", s} }
	tests := []struct {
		text string
		want []string
	}{
		{"command: bin/web", []string{"bin/web"}},
		{"command: ''", nil},
		{"command: bundle exec  puma -p 3000", []string{"bundle", "exec", "puma", "-p", "3000"}},
		{`command: run "a b" 'c d' e\ f`, []string{"run", "a b", "c d", "e f"}},
		{`command: run "" '$HOME' "a\"b" "a\nb"`, []string{"run", "", "$HOME", `a"b`, `a\nb`}},
		{"command: run --a=b x@y:z", []string{"run", "--a=b", "x@y:z"}},
		{"command: echo $HOME", sh("echo $HOME")},
		{`command: run "$HOME"`, sh(`run "$HOME"`)},
		{"command: a && b", sh("a && b")},
		{"command: A=1 run", sh("A=1 run")},
		{"command: exec run", sh("exec run")},
		{"command: |\n      a\n      b\n", sh("a\nb\n")},
		{"command: [run, a b, '$X', 5]", []string{"run", "a b", "$X", "5"}},
		{"command: ${CMD}", []string{"bin/web", "a b"}},
		{"command: [run, '${CMD}']", []string{"run", "bin/web 'a b'"}},
	}
	for _, tt := range tests {
		got := one(t, tt.text, map[string]string{"CMD": "bin/web 'a b'"}).Command
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.text, diff)
		}
	}
}

func TestEnvironment(t *testing.T) {
	t.Parallel()
	env := map[string]string{"A": "1", "B": "", "HIDDEN": "x", "LINES": "a\nb: c"}
	tests := []struct {
		name, text string
		want       map[string]string
	}{
		{"declared only", "services: {web: {environment: [A]}}", map[string]string{"A": "1"}},
		{"nothing", "services: {web: {}}", map[string]string{}},
		{"app first", "environment: [A=0, C=2]\nservices: {web: {environment: [C=3]}}", map[string]string{"A": "1", "C": "3"}},
		{"empty is a value", "services: {web: {environment: [B]}}", map[string]string{"B": ""}},
		{"empty default", "services: {web: {environment: [C=]}}", map[string]string{"C": ""}},
		{"equals in default", "services: {web: {environment: [C=a=b]}}", map[string]string{"C": "a=b"}},
		{"all", "services: {web: {environment: ['*', C=1]}}", map[string]string{"A": "1", "B": "", "HIDDEN": "x", "LINES": "a\nb: c", "C": "1"}},
		{"interpolated", "services: {web: {environment: ['C=${A}${LINES}']}}", map[string]string{"C": "1a\nb: c"}},
		{"anchors", "environment: &e [A]\nservices: {web: {environment: [*e, C=1]}}", map[string]string{"A": "1", "C": "1"}},
	}
	for _, tt := range tests {
		m := load(t, tt.text, env)
		if diff := cmp.Diff(tt.want, m.Services[0].Env); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
		secrets := m.Secrets(env)
		if diff := cmp.Diff(tt.want, secrets.Services["web"].Env); diff != "" || secrets.Env["HIDDEN"] != "x" {
			t.Errorf("%s: secrets (-want +got):\n%s", tt.name, diff)
		}
	}

	m, err := manifest.Load("services: {web: {environment: [Z, A, A=1]}}", manifest.Options{SkipRequired: true})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"A", "Z"}, m.Missing); diff != "" {
		t.Errorf("missing (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"A", "Z"}, m.RequiredEnv()); diff != "" {
		t.Errorf("required (-want +got):\n%s", diff)
	}
}

func TestInterpolation(t *testing.T) {
	t.Parallel()
	env := map[string]string{"N": "3", "A": "${B}", "B": "b", "PORT": "grpc:50051", "RANGE": "2-4"}
	tests := []struct{ text, want string }{
		{"test: x$N", "x$N"},
		{"test: x${N}y${N}", "x3y3"},
		{"test: ${A}", "${B}"},
		{"test: ${GONE}", ""},
		{"test: '${GONE}x'", "x"},
		{`test: "a\t${N}"`, "a\t3"},
		{"test: $${N}", "$3"},
		{"test: ${}", ""},
	}
	for _, tt := range tests {
		if got := one(t, tt.text, env).Test; got != tt.want {
			t.Errorf("%s: %q, want %q", tt.text, got, tt.want)
		}
	}
	spec := one(t, "{port: ${PORT}, scale: ${RANGE}, domain: ${GONE}, drain: ${N}}", env).Spec
	if spec.Port != (api.Port{Number: 50051, Scheme: api.SchemeGRPC}) || spec.Scale.Min != 2 || spec.Scale.Max != 4 ||
		spec.Domains != nil || spec.Drain != 3*time.Second {
		t.Errorf("flow map: %+v", spec)
	}
}

func TestScale(t *testing.T) {
	t.Parallel()
	tests := []struct {
		text      string
		low, high int
		cpu       api.MilliCPU
		memory    api.Bytes
	}{
		{"scale: 3", 3, 3, 250, 512 * api.MiB},
		{"scale: 0", 0, 0, 250, 512 * api.MiB},
		{"scale: 3-10", 3, 10, 250, 512 * api.MiB},
		{`scale: "1-5"`, 1, 5, 250, 512 * api.MiB},
		{"scale: {cpu: 500}", 1, 1, 500, 512 * api.MiB},
		{"scale: {count: 2-3, memory: 64}", 2, 3, 250, 64 * api.MiB},
		{"scale: {count: {min: 2, max: 3}}", 2, 3, 250, 512 * api.MiB},
		{"scale: {count: {min: 2}}", 2, 2, 250, 512 * api.MiB},
		{"scale: {min: 0, max: 3}", 0, 3, 250, 512 * api.MiB},
		{"scale: {min: 2}", 2, 2, 250, 512 * api.MiB},
		{"scale: {count: 2, autoscale: {cpu: 70}}", 2, 10, 250, 512 * api.MiB},
		{"scale: {gpu: 1}", 1, 1, 0, 0},
	}
	for _, tt := range tests {
		s := one(t, tt.text, nil).Spec.Scale
		if s.Count != tt.low || s.Min != tt.low || s.Max != tt.high || s.Ask.CPU != tt.cpu || s.Ask.Memory != tt.memory {
			t.Errorf("%s: %+v", tt.text, s)
		}
	}
}

func TestForms(t *testing.T) {
	t.Parallel()
	tests := []struct {
		text, want string
		get        func(api.ServiceSpec) any
	}{
		{"port: 80", "{80 http}", func(s api.ServiceSpec) any { return s.Port }},
		{"port: '80'", "{80 http}", func(s api.ServiceSpec) any { return s.Port }},
		{"port: https:80", "{80 https}", func(s api.ServiceSpec) any { return s.Port }},
		{"port: {port: 80, scheme: grpc}", "{80 grpc}", func(s api.ServiceSpec) any { return s.Port }},
		{"ports: [80, 81/udp, {port: 82, protocol: UDP}, 80]", "[{80 tcp} {81 udp} {82 udp}]", func(s api.ServiceSpec) any { return s.Ports }},
		{"{port: 80, ports: [80, 81]}", "[{81 tcp}]", func(s api.ServiceSpec) any { return s.Ports }},
		{"agent: {ports: [8125/udp]}", "true [{8125 udp}] 0 100", func(s api.ServiceSpec) any {
			return fmt.Sprint(s.Agent, s.Ports, s.Minimum, s.Maximum)
		}},
		{"agent: {enabled: false}", "false", func(s api.ServiceSpec) any { return s.Agent }},
		{"singleton: true", "0 100", func(s api.ServiceSpec) any { return fmt.Sprint(s.Minimum, s.Maximum) }},
		{"domain: 'a.example.org, , B.example.org'", "[a.example.org b.example.org]", func(s api.ServiceSpec) any { return s.Domains }},
		{"domain: ['*.example.org']", "[*.example.org]", func(s api.ServiceSpec) any { return s.Domains }},
		{"health: /up", "{false false /up 0 5s 5s 4s}", func(s api.ServiceSpec) any { return s.Health }},
		{"health: {interval: 1}", "{false false / 0 1s 1s 1s}", func(s api.ServiceSpec) any { return s.Health }},
		{"health: {tcp: true, port: {port: 9}, grace: 60}", "{false true / 9 1m0s 5s 4s}", func(s api.ServiceSpec) any { return s.Health }},
		{"{port: 80, liveness: {path: /l}}", "{/l false 0 10s 5s 5s 1 3}", func(s api.ServiceSpec) any { return *s.Liveness }},
		{"{port: 80, liveness: {path: /l, grace: 1}, startupProbe: {tcpSocketPort: 5}}", "{ true 5 1s 5s 5s 1 3}", func(s api.ServiceSpec) any { return *s.Startup }},
		{"{startupProbe: {tcpSocketPort: 5}, scale: {gpu: 1}}", "{ true 5 5m0s 10s 5s 1 180}", func(s api.ServiceSpec) any { return *s.Startup }},
		{"build: src", "{src Dockerfile [] }", func(s api.ServiceSpec) any { return *s.Build }},
		{"build: {path: src, manifest: D, target: t}", "{src D [] t}", func(s api.ServiceSpec) any { return *s.Build }},
		{"image: nginx:1.27", "nginx:1.27", func(s api.ServiceSpec) any { return s.Image }},
		{"whitelist: 10.0.0.0/8, 192.168.1.1", "[10.0.0.0/8 192.168.1.1/32]", func(s api.ServiceSpec) any { return s.Whitelist }},
		{"constraints: [node.arch = amd64]", "[node.arch = amd64]", func(s api.ServiceSpec) any { return s.Constraints }},
		{"nodeSelectorLabels: {zone: a}", "[node.label.zone = a]", func(s api.ServiceSpec) any { return s.Constraints }},
		{"spread: node.label.zone", "[{node.label.zone 50 map[]}]", func(s api.ServiceSpec) any { return s.Spreads }},
		{"volumes: [/data, 'x:/y', '/proc/:/host/proc']", "[{data  /data false false 0 B} {x  /y false false 0 B} { /proc /host/proc true false 0 B}]",
			func(s api.ServiceSpec) any { return s.Volumes }},
		{"volumeOptions: [{emptyDir: {id: a, mountPath: /m, medium: Memory, sizeLimit: 8Mi}}]", "[{  /m false true 8 MiB}]",
			func(s api.ServiceSpec) any { return s.Volumes }},
		{"internal: yes", "true", func(s api.ServiceSpec) any { return s.Internal }},
		{"tls: {redirect: off}", "false", func(s api.ServiceSpec) any { return s.Redirect }},
	}
	for _, tt := range tests {
		if got := fmt.Sprint(tt.get(one(t, tt.text, nil).Spec)); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.text, got, tt.want)
		}
	}
}

func TestTimers(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"0 3 * * *": "0 3 * * *", "*/5 1-3 1,15 JAN-mar MON": "*/5 1-3 1,15 JAN-mar MON",
		"0 3 * * ?": "0 3 * * *", "0 3 ? * MON-FRI *": "0 3 * * MON-FRI", "@daily": "@daily",
	} {
		m := load(t, "services: {web: {}}\ntimers: {t: {service: web, command: x, timezone: Europe/Paris, schedule: '"+in+"'}}", nil)
		if got := m.Timers[0]; got.Schedule != want || got.Timezone != "Europe/Paris" || got.Parallel != 1 || got.Concurrency != "allow" {
			t.Errorf("%s: %+v", in, got)
		}
	}
}

func TestLinks(t *testing.T) {
	t.Parallel()
	text := "resources: {my-db: {type: postgres}}\nservices: {web: {resources: [my-db, 'my-db:MAIN_HOST', 'my-db:STORE']}}"
	m := load(t, text, map[string]string{"MY_DB_URL": "postgres://u:p%40@db.example.org:5432/app?x=y"})
	want := map[string]string{
		"MY_DB_URL": "postgres://u:p%40@db.example.org:5432/app?x=y", "MY_DB_USER": "u", "MY_DB_PASS": "p@",
		"MY_DB_HOST": "db.example.org", "MY_DB_PORT": "5432", "MY_DB_NAME": "app",
		"MAIN_HOST": "db.example.org", "STORE": "postgres://u:p%40@db.example.org:5432/app?x=y",
	}
	if diff := cmp.Diff(want, m.Services[0].Env); diff != "" {
		t.Errorf("given (-want +got):\n%s", diff)
	}
	if len(m.NotActing) != 0 {
		t.Errorf("a given resource acts, got %v", m.NotActing)
	}
	m = load(t, text, nil)
	if len(m.Services[0].Env) != 0 || !cmp.Equal(m.NotActing, []string{"resources.my-db"}) {
		t.Errorf("not given: env %v, not acting %v", m.Services[0].Env, m.NotActing)
	}
}

// Text is as written, and told where YAML 1.1 makes another of it; a flag is any of its words.
func TestYAML11(t *testing.T) {
	t.Parallel()
	for text, convox := range map[string]string{
		"y": "true", "No": "false", "OFF": "false", "true": "", "9.10": "9.1", "1.0": "1", "010": "8", "0x1F": "31", "1_000": "1000", "1e3": "1000",
		"+5": "5", ".5": "0.5", "'y'": "", `"9.10"`: "", "!!str 9.10": "", "9.1": "", "10": "", "yEs": "", "x_y": "", "1.2.3": "", "22:22": "", "2026-01-02": "",
		"v1": "", "1-5": "", "e3": "", "_": "",
	} {
		m := load(t, "resources: {db: {type: postgres, options: {version: "+text+"}}}", nil)
		want := strings.Trim(strings.TrimPrefix(text, "!!str "), `'"`)
		if got := m.Resources[0].Options["version"]; got != want {
			t.Errorf("%s is read as %q", text, got)
		}
		var told []string
		for _, w := range m.Warnings {
			told = append(told, w.Message)
		}
		says := fmt.Sprintf("[resources.db.options.version is read as the text %q; YAML 1.1, and so Convox, reads %q: write it in quotes]", want, convox)
		if convox == "" {
			says = "[]"
		}
		if fmt.Sprint(told) != says {
			t.Errorf("%s: told %v, want %s", text, told, says)
		}
	}
	for text, want := range map[string]bool{"y": true, "Yes": true, "ON": true, "TRUE": true, "'true'": true, "n": false, "no": false, "Off": false, "false": false} {
		if got := one(t, "sticky: "+text, nil).Spec.Sticky; got != want {
			t.Errorf("sticky: %s is %t", text, got)
		}
	}
	for _, text := range []string{"yEs", "1", "0", "enabled", "''", "[yes]"} {
		refuse(t, service("sticky: "+text), nil)
	}
	for _, absent := range []string{"~", "null", "", "Null"} {
		if got := one(t, "port: "+absent, nil).Spec.Port.Number; got != 0 {
			t.Errorf("port: %s is %d", absent, got)
		}
	}
}

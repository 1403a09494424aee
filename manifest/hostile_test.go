package manifest_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"slipway/manifest"

	"github.com/google/go-cmp/cmp"
)

func service(attributes string) string { return "services:\n  web:\n    " + attributes }

func timer(schedule string) string {
	return "services: {web: {}}\ntimers: {t: {service: web, command: x, schedule: " + schedule + "}}"
}

// Inputs made to hurt: each is refused at its line, with the cause and the next step.
func TestHostileInputs(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, text, want string }{
		{"alias cycle", "a: &a [*a]", `line 1: anchor "a" contains itself; a list or a map cannot be part of itself`},
		{"alias cycle by merge", "a: &a {<<: *a}", "line 1: anchor \"a\" contains itself; a list or a map cannot be part of itself\nline 1: a: << must name an anchor with a map, such as <<: *base"},
		{"deep", "a: " + strings.Repeat("[", 100) + strings.Repeat("]", 100), `line 1: manifest is nested deeper than 32 levels`},
		{"very deep", strings.Repeat("[", 200_000), `line 1: not valid YAML: exceeded max depth of 10000`},
		{"duplicate service", "services:\n  web: {}\n  web: {}", `line 3: services: duplicate key "web", first at line 2; remove one of them`},
		{"duplicate key", service("port: 1\n    port: 2"), `line 4: services.web: duplicate key "port", first at line 3; remove one of them`},
		{"binary", service("command: !!binary aGk="), `line 3: services.web.command: tag "!!binary" is not supported, write the value without it`},
		{"tag", service("command: !ruby/object:Foo x"), `line 3: services.web.command: tag "!ruby/object:Foo" is not supported, write the value without it`},
		{"tag of a service", "services:\n  web: !!python/object/apply:os.system {}", `line 2: services.web: tag "!!python/object/apply:os.system" is not supported, write the value without it`},

		{"overflow", service("scale: 99999999999999999999"), `line 3: services.web.scale must be a count up to 10000 such as 3, or a range such as 1-5, got "99999999999999999999"`},
		{"nan", service("scale: {cpu: .nan}"), `line 3: services.web.scale.cpu must be a whole number of thousandths of a core from 1 to 1048576, got ".nan"`},
		{"infinite", service("drain: .inf"), `line 3: services.web.drain must be a whole number of seconds from 0 to 86400, got ".inf"`},
		{"negative", service("scale: {count: -3}"), `line 3: services.web.scale.count must be a count up to 10000 such as 3, or a range such as 1-5, got "-3"`},
		{"negative range", service("scale: -1-3"), `line 3: services.web.scale must be a count up to 10000 such as 3, or a range such as 1-5, got "-1-3"`},
		{"octal", service("drain: 010"), `line 3: services.web.drain must be a whole number of seconds from 0 to 86400 without a leading zero: YAML 1.1 reads "010" as octal`},
		{"port 0", service("port: 0"), `line 3: invalid port: 0 (must be a number from 1 to 65535, or scheme:number)`},
		{"port 65536", service("port: 65536"), `line 3: invalid port: 65536 (must be a number from 1 to 65535, or scheme:number)`},
		{"memory of an exabyte", service("scale: {memory: 1099511627776}"), `line 3: services.web.scale.memory must be a whole number of MB from 1 to 16777216, got "1099511627776"`},
		{"memory volume of an exabyte", service("volumeOptions: [{emptyDir: {id: a, mountPath: /m, medium: Memory, sizeLimit: 1048576Ti}}]"), `line 3: services.web.volumeOptions[0].emptyDir.sizeLimit must be a size such as 64Mi, got "1048576Ti"`},

		{"shell name", "services:\n  $(id): {}", `line 2: service name $(id) invalid, must contain only lowercase alphanumeric and dashes`},
		{"two commands in a name", "services:\n  \"a;b\": {}", `line 2: service name a;b invalid, must contain only lowercase alphanumeric and dashes`},
		{"path name", "services:\n  ../x: {}", `line 2: service name ../x invalid, must contain only lowercase alphanumeric and dashes`},
		{"look-alike name", "services:\n  wеb: {}", `line 2: service name "w\u0435b" invalid, must contain only lowercase alphanumeric and dashes`},
		{"name of lines", "services:\n  \"a\\nb\": {}", `line 2: service name "a\nb" invalid, must contain only lowercase alphanumeric and dashes`},
		{"empty name", "services:\n  \"\": {}", `line 2: service name "" invalid, must contain only lowercase alphanumeric and dashes`},
		{"long name", "services:\n  " + strings.Repeat("a", 64) + ": {}", `line 2: service name "aaaaaaaaaaaaaaaa…" is 64 bytes long, the limit is 63`},
		{"dash at the end", "services:\n  web-: {}", `line 2: service name "web-" invalid, must contain only lowercase alphanumeric and dashes, start with a letter and not end with a dash`},
		{"resource name", "resources:\n  $(id): {type: redis}", `line 2: resource name $(id) invalid, must contain only lowercase alphanumeric and dashes`},
		{"timer name", "services: {web: {}}\ntimers:\n  ../t: {service: web, command: x, schedule: '@daily'}", `line 3: timer name ../t invalid, must contain only lowercase alphanumeric and dashes`},

		{"env newline", service(`environment: ["A\nB=c"]`), `line 3: services.web.environment[0] must be KEY, KEY=default or "*", got "A\nB": a name has only letters, digits, _, - and ., and does not start with a digit`},
		{"env nul", service(`environment: ["A=\0"]`), `line 3: services.web.environment[0]: contains a NUL byte`},
		{"env map", service("environment:\n      - A: b"), `line 4: services.web.environment[0] must be KEY, KEY=default or "*", got a map`},
		{"env space", service(`environment: ["A B=c"]`), `line 3: services.web.environment[0] must be KEY, KEY=default or "*", got "A B": a name has only letters, digits, _, - and ., and does not start with a digit`},
		{"env digit", service(`environment: [1A=c]`), `line 3: services.web.environment[0] must be KEY, KEY=default or "*", got "1A": a name has only letters, digits, _, - and ., and does not start with a digit`},
		{"env by a variable", service("environment: ['${A}=x']"), `line 3: services.web.environment[0]: a variable can fill a default, but not the name in "${A}"`},
		{"key variable", service("${A}: b"), `line 3: services.web: key "${A}": a variable can fill a value, but not a key`},
		{"variable adds a key", service("port: ${EVIL}"), `line 3: invalid port: ${EVIL} (must be a number from 1 to 65535, or scheme:number)`},

		{"volume root", service("volumes: ['/:/host']"), `line 3: service web: volume "/:/host" would mount a part of the node; only /proc and /sys/fs/cgroup can be mounted, read-only`},
		{"volume proc rw", service("volumes: ['/proc:/host/proc:rw']"), `line 3: service web: volume "/proc:/host/proc:rw": the node's /proc can only be mounted read-only`},
		{"volume docker", service("volumes: ['/var/run/docker.sock:/var/run/docker.sock']"), `line 3: service web: volume "/var/run/docker.sock:/var/run/docker.sock" would mount a part of the node; only /proc and /sys/fs/cgroup can be mounted, read-only`},
		{"volume containerd", service("volumes: ['/run/containerd/containerd.sock:/c']"), `line 3: service web: volume "/run/containerd/containerd.sock:/c" would mount a part of the node; only /proc and /sys/fs/cgroup can be mounted, read-only`},
		{"volume socket elsewhere", service("volumes: ['/srv/x.sock:/c']"), `line 3: service web: volume "/srv/x.sock:/c" would mount a part of the node; only /proc and /sys/fs/cgroup can be mounted, read-only`},
		{"volume dev", service("volumes: ['/dev/sda:/x']"), `line 3: service web: volume "/dev/sda:/x" would mount a part of the node; only /proc and /sys/fs/cgroup can be mounted, read-only`},
		{"volume dots", service("volumes: ['/proc/../etc:/x']"), `line 3: service web: volume source in "/proc/../etc:/x" must be an absolute path without . or ..`},
		{"volume over proc", service("volumes: ['/proc:/proc']"), `line 3: service web: volume "/proc:/proc" can not be mounted over the process's /proc, /sys or /dev`},
		{"volume target root", service("volumes: [/]"), `line 3: service web: volume "/" must be mounted at an absolute path without . or .., and not at /`},
		{"volume name dots", service("volumes: ['..:/x']"), `line 3: service web: volume "..:/x" must have an absolute path or a name as its source`},

		{"privileged", service("privileged: true"), `line 3: service web is privileged: it controls the node it runs on, which this rack does not allow; remove it`},
		{"capability", service("securityContext: {capabilities: {add: [CAP_SYS_ADMIN]}}"), `line 3: service web adds the capability SYS_ADMIN, with which it can take over its node, which this rack does not allow; remove it`},
		{"every capability", service("securityContext: {capabilities: {add: [ALL]}}"), `line 3: service web adds the capability ALL, with which it can take over its node, which this rack does not allow; remove it`},
		{"lower-case capability", service("securityContext: {capabilities: {add: [sys_admin]}}"), `line 3: services.web.securityContext.capabilities.add[0] must be a capability such as NET_ADMIN, got "sys_admin"`},
		{"seccomp", service("securityContext: {seccompProfile: Unconfined}"), `line 3: service web runs without a seccomp profile, which this rack does not allow; remove it`},

		{"cron command", timer("'* * * * *;cmd'"), `line 2: invalid schedule expression: * * * * *;cmd (the day of the week must be *, or values from 0 to 7 with , - and /)`},
		{"cron lines", timer(`"* * * * *\n* * * * *"`), `line 2: invalid schedule expression: "* * * * *\n* * * * *"; write the five fields of cron, such as 0 3 * * *, or a word such as @daily`},
		{"cron zero step", timer("'*/0 * * * *'"), `line 2: invalid schedule expression: */0 * * * * (the minute must be *, or values from 0 to 59 with , - and /)`},
		{"cron backwards", timer("'5-1 * * * *'"), `line 2: invalid schedule expression: 5-1 * * * * (the minute must be *, or values from 0 to 59 with , - and /)`},
		{"cron huge", timer("'99999999999999999999 * * * *'"), `line 2: invalid schedule expression: 99999999999999999999 * * * * (the minute must be *, or values from 0 to 59 with , - and /)`},
		{"cron empty", timer("''"), `line 2: invalid schedule expression: ""; write the five fields of cron, such as 0 3 * * *, or a word such as @daily`},

		{"a million copies", service("scale: 1000000"), `line 3: services.web.scale must be a count up to 10000 such as 3, or a range such as 1-5, got "1000000"`},
		{"a million copies at most", service("scale: {count: 1-1000000}"), `line 3: services.web.scale.count must be a count up to 10000 such as 3, or a range such as 1-5, got "1-1000000"`},
		{"a million GPUs", service("scale: {gpu: 1000000}"), `line 3: services.web.scale.gpu must be a whole number from 0 to 64, got "1000000"`},

		{"health crlf", service(`health: "/a\r\nHost: x"`), `line 3: services.web.health must be a path such as /health, got "/a\r\nHost: x": it contains a space or a control character`},
		{"health url", service("health: http://169.254.169.254/"), `line 3: services.web.health must be a path such as /health, got "http://169.254.169.254/": it is a full URL, write only its path`},
		{"health host", service("health: //169.254.169.254/"), `line 3: services.web.health must be a path such as /health, got "//169.254.169.254/": it must begin with one /`},
		{"health relative", service("health: up"), `line 3: services.web.health must be a path such as /health, got "up": it must begin with one /`},
		{"liveness crlf", service(`liveness: {path: "/a\r\n", port: 80}`), `line 3: services.web.liveness.path must be a path such as /health, got "/a\r\n": it contains a space or a control character`},
		{"startup url", service("startupProbe: {path: 'file:///etc/passwd', port: 80}"), `line 3: services.web.startupProbe.path must be a path such as /health, got "file:///etc/passwd": it is a full URL, write only its path`},

		{"image", service("image: -v"), `line 3: services.web.image must be an image reference, got "-v"`},
		{"image of the rack", service("image: rack.internal/other@sha256:" + strings.Repeat("0", 64)), `line 3: services.web.image must be an image reference, got "rack.internal/other@sha256:0000000000000000000000000000000000000"…: it is in the rack's own registry, use build or the image's origin`},
		{"build path", service("build: ../x"), `line 3: services.web.build must be a path below the source, got "../x": it leads out with ..`},
		{"build path absolute", service("build: /etc"), `line 3: services.web.build must be a path below the source, got "/etc": it is absolute`},
		{"two documents", "services: {}\n---\nservices: {}", `line 2: not valid YAML: a second document begins, a manifest is one`},
		{"list", "- a", `line 1: manifest must be a map of keys such as services, got a list`},
		{"text", "hello", `line 1: manifest must be a map of keys such as services, got "hello"`},
		{"quote", service(`command: echo "a`), `line 3: services.web.command: a quote or a backslash at its end is not closed`},
		{"nul", service(`command: "a\0b"`), `line 3: services.web.command: contains a NUL byte`},
		{"control character", service("command: a\x1bb"), `line 3: not valid YAML: control characters such as U+001B are not allowed; remove it, or write it in double quotes as an escape such as \x1b`},
		{"utf-8", "a: 1\nb: \xff", `line 2: manifest is not valid UTF-8; save the file as UTF-8`},
		{"reserved character", "a: 1\nb: \U0010FFF0", `line 2: manifest contains the reserved character U+10FFF0 or U+10FFF1; remove it`},
		{"size", strings.Repeat("#", 256<<10+1), `manifest is 262145 bytes long, the limit is 262144`},
	}
	for _, tt := range tests {
		problems := refuse(t, tt.text, map[string]string{"A": "privileged", "EVIL": "80\n    privileged: true"})
		if got := strings.TrimPrefix(problems.Error(), "validation errors:\n"); got != tt.want {
			t.Errorf("%s\ngot:  %s\nwant: %s", tt.name, got, tt.want)
		}
	}
}

// Texts that are small and mean much. Whatever they do, an answer takes little time and memory.
func TestCostIsBounded(t *testing.T) {
	many := func(n int, format string) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, format, i)
		}
		return b.String()
	}
	bomb := "a0: &a0 [x,x,x,x,x,x,x,x,x]\n"
	for i := range 9 {
		n, p := string(rune('1'+i)), string(rune('0'+i))
		bomb += "a" + n + ": &a" + n + " [*a" + p + strings.Repeat(",*a"+p, 8) + "]\n"
	}
	tests := []struct{ name, text, want string }{
		{"alias bomb", bomb, "more than 20000 values"},
		{"merge bomb", "a0: &a0 {" + many(900, "k%d: 1,") + "}\n" + many(900, "b%d: {<<: *a0}\n"), "more than 20000 values"},
		{"text bomb", "x: &x " + strings.Repeat("x", 100_000) + "\n" + many(900, "b%d: *x\n"), "longer than 4194304 bytes"},
		{"variable bomb", service("command: " + strings.Repeat("${BIG}", 20_000)), "more than 131072 bytes"},
		{"key bomb", "? " + strings.Repeat("k", 100_000) + "\n: [" + strings.Repeat("1,", 900) + "]", "longer than 512 bytes"},
		{"long list", "a: [" + strings.Repeat("1,", 100_000) + "]", "a has 100000 entries, the limit is 1000"},
		{"long map", many(20_000, "k%d: 1\n"), "manifest has 20000 entries, the limit is 1000"},
		{"many services", "services: {" + many(251, "s%d: {},") + "}", "manifest has 251 services, the limit is 250"},
		{"variables for all", "environment: [" + many(900, "V%d=1,") + "]\nservices: {" + many(250, "s%d: {},") + "}", ""},
		{"nested variables", "x: &x [" + many(900, "V%d=1,") + "]\nservices: {web: {environment: [*x, *x]}}", "declares 1800 variables, the limit is 1000"},
		{"big variables for all", "environment: ['*']\nservices: {" + many(250, "s%d: {},") + "}", "more than 8 MiB"},
		{"labels for all", "labels: {" + many(900, "l%d: "+strings.Repeat("x", 100)+",") + "}\nservices: {" + many(250, "s%d: {},") + "}", "more than 8 MiB"},
		{"domains", service("domain: \"" + many(15_000, "%x,") + "\""), "more than 100 domains"},
		{"volumes", "services: {web: {volumes: [" + many(1000, "/v%d,") + "]}}", ""},
		{"ports", "services: {web: {ports: [" + many(1000, "1%d,") + "]}}", ""},
		{"comments", strings.Repeat("#\n", 130_000), ""},
		{"comments of items", "a:\n" + strings.Repeat("- 1 #\n", 40_000), "the limit is 1000"},
		{"brackets", strings.Repeat("{a: [", 50_000), "not valid YAML"},
		{"dashes", strings.Repeat("- ", 120_000), "not valid YAML"},
		{"question marks", strings.Repeat("? ", 120_000), "not valid YAML"},
		{"keys in flow", "{" + strings.Repeat("a,", 120_000) + "}", "the limit is 1000"},
		{"documents", strings.Repeat("---\n", 60_000), "second document"},
	}
	env := map[string]string{"BIG": strings.Repeat("x", 100_000)}
	for _, tt := range tests {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		start := time.Now()
		_, err := manifest.Load(tt.text, manifest.Options{Env: env})
		took := time.Since(start)
		runtime.ReadMemStats(&after)

		if err == nil != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.want)
		}
		if allocated := (after.TotalAlloc - before.TotalAlloc) >> 20; allocated > 256 {
			t.Errorf("%s: allocated %d MiB", tt.name, allocated)
		}
		if took > 10*time.Second { // about 0.1 s on an idle machine
			t.Errorf("%s: took %s", tt.name, took)
		}
	}
}

// What other platforms call for power over a node is not known here, and changes nothing.
func TestPowerThatIsNotKnown(t *testing.T) {
	t.Parallel()
	plain := load(t, service("port: 80"), nil).Specs()
	for _, key := range []string{
		"hostNetwork: true", "network_mode: host", "pid: host", "hostPID: true", "ipc: host", "cgroup_parent: /", "cgroupns: host",
		"sysctls: {kernel.panic: 1}", "cap_add: [SYS_ADMIN]", "security_opt: ['seccomp:unconfined']", "userns_mode: host",
		"runtime: runc", "annotations: {cdi.k8s.io/gpu: vendor.com/gpu=all}", "labels: {'containerd.io/restart.loguri': 'binary:///bin/sh'}",
	} {
		m := load(t, service("port: 80\n    "+key), nil)
		specs := m.Specs()
		specs[0].Labels = nil
		if diff := cmp.Diff(plain, specs); diff != "" {
			t.Errorf("%s changes the service:\n%s", key, diff)
		}
		if len(m.Warnings)+len(m.NotActing) == 0 {
			t.Errorf("%s: nobody is told that it does nothing", key)
		}
	}
}

// A value of the environment is text: it is not looked at again, neither for variables nor for
// YAML.
func TestValuesAreNotRead(t *testing.T) {
	t.Parallel()
	for _, value := range []string{"${A}", "${A}${A}", "80\n    privileged: true", "&a [*a]", "!!binary aGk=", "\U0010FFF00\U0010FFF1"} {
		m := load(t, service("test: ${A}"), map[string]string{"A": value})
		if got := m.Services[0].Test; got != value || m.Services[0].Spec.Privileged {
			t.Errorf("%q became %q", value, got)
		}
	}
}

// Names that a linker or a shell would heed are like any other in a container; those of the
// rack can be hidden, and that is told.
func TestVariablesOfThePlatform(t *testing.T) {
	t.Parallel()
	m := load(t, service("environment: [LD_PRELOAD=/x.so, PATH=/bin, RACK=evil, SERVICE]"), map[string]string{"SERVICE": "other"})
	want := map[string]string{"LD_PRELOAD": "/x.so", "PATH": "/bin", "RACK": "evil", "SERVICE": "other"}
	if diff := cmp.Diff(want, m.Services[0].Env); diff != "" {
		t.Errorf("env (-want +got):\n%s", diff)
	}
	const warning = "line 3: services.web.environment[2] hides the variable RACK that the rack sets for every process"
	if len(m.Warnings) != 1 || m.Warnings[0].String() != warning {
		t.Errorf("warnings %v", m.Warnings)
	}
}

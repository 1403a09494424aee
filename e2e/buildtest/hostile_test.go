package buildtest

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"slipway/agent/build"
	"slipway/api"
)

// TestDockerfilesOfAStranger holds what must fail, or at least reach nothing of the machine.
func TestDockerfilesOfAStranger(t *testing.T) {
	t.Parallel()
	b := newBuilder(t, newRack(t))
	outside := t.TempDir()
	secret, marker := filepath.Join(outside, "secret"), filepath.Join(outside, "marker")
	if err := os.WriteFile(secret, []byte("canary"), 0o600); err != nil {
		t.Fatal(err)
	}
	port := serveSecret(t)
	for name, c := range map[string]struct {
		dockerfile string
		ok         bool     // it may succeed, without the secret
		code       api.Code // "" for invalid
	}{
		"bind mount of /":          {"FROM busybox\nRUN --mount=type=bind,source=/,target=/m find /m && cat /m" + secret + "\n", false, ""},
		"bind mount out":           {"FROM busybox\nRUN --mount=type=bind,source=../../../../../../../,target=/m cat /m" + secret + "\n", false, ""},
		"bind mount that is there": {"FROM busybox\nRUN --mount=type=bind,source=/,target=/m ls /m\n", true, ""},
		"bind mount, other app":    {"FROM busybox\nRUN --mount=type=bind,from=rack.internal/other,target=/m ls /m\n", false, api.CodeDenied},
		"cache mount out":          {"FROM busybox\nRUN --mount=type=cache,id=../../../..,target=/m,source=../../.. cat /m" + secret + "\n", false, ""},
		"copy from other app":      {"FROM busybox\nCOPY --from=rack.internal/other /x /x\n", false, api.CodeDenied},
		"copy by digest":           {"FROM rack.internal/other@sha256:" + strings.Repeat("a", 64) + "\n", false, api.CodeDenied},
		"copy out":                 {"FROM busybox\nCOPY ../../../../../../.." + secret + " /x\nRUN cat /x\n", false, ""},
		"copy absolute":            {"FROM busybox\nCOPY " + secret + " /x\nRUN cat /x\n", false, ""},
		"copy of a link":           {"FROM busybox\nCOPY link /x\nRUN cat /x\n", false, ""},
		"copy through a link":      {"FROM busybox\nCOPY dir/secret /x\nRUN cat /x\n", false, ""},
		"insecure step":            {"FROM busybox\nRUN --security=insecure true\n", false, ""},
		"device":                   {"FROM busybox\nRUN --device=vendor.com/class=all true\n", true, ""},
		"metadata":                 {"FROM busybox\nADD http://169.254.169.254/latest/meta-data /x\n", false, ""},
		"metadata in hex":          {"FROM busybox\nADD http://0xa9fea9fe/latest /x\n", false, ""},
		"loopback, other forms":    {"FROM busybox\nADD http://127.1:" + port + "/ http://[::1]:" + port + "/ http://2130706433:" + port + "/ /x/\nRUN cat /x/*\n", false, ""},
		"loopback registry":        {"FROM 127.0.0.1:" + port + "/x\n", false, ""},
		"file URL":                 {"FROM busybox\nADD file://" + secret + " /x\nRUN cat /x\n", false, ""},
		"git, upload-pack":         {"FROM busybox\nADD --upload-pack=touch${IFS}" + marker + " git@x.example:a/b.git /x\n", false, ""},
		"git, ext":                 {"FROM busybox\nADD ext::sh${IFS}-c${IFS}touch${IFS}" + marker + ".git /x\n", false, ""},
		"git, file":                {"FROM busybox\nADD file:///" + outside + "/.git /x\n", false, ""},
		"git, option as ref":       {"FROM busybox\nADD http://127.0.0.1:" + port + "/a.git#--upload-pack=touch${IFS}" + marker + " /x\n", false, ""},
		"git, option as host":      {"FROM busybox\nADD ssh://-oProxyCommand=touch${IFS}" + marker + "/a.git /x\n", false, ""},
		"git, path out":            {"FROM busybox\nADD http://127.0.0.1:" + port + "/a.git#main:../../.. /x\n", false, ""},
		"frontend":                 {"# syntax=127.0.0.1:" + port + "/evil\nARG BUILDKIT_SYNTAX=127.0.0.1:" + port + "/evil\nFROM busybox\nRUN echo plain\n", true, ""},
		"stage in a circle":        {"FROM b AS a\nFROM a AS b\n", false, ""},
		"core pattern":             {"FROM busybox\nRUN echo '|/bin/sh -c touch\\ " + marker + "' > /proc/sys/kernel/core_pattern\n", false, ""},
		"device node":              {"FROM busybox\nRUN mknod /d b 254 0 && dd if=/d of=/dev/null count=1\n", false, ""},
		"mount":                    {"FROM busybox\nRUN mount -t tmpfs x /mnt\n", false, ""},
		"kernel log and memory":    {"FROM busybox\nRUN ! dmesg && test ! -e /dev/mem && test -z \"$(head -c 1 /proc/kcore)\"\n", true, ""},
	} {
		t.Run(name, func(t *testing.T) {
			j, out := job(source{"Dockerfile": c.dockerfile, "link": "->" + secret, "dir": "->" + outside})
			began := time.Now()
			_, err := b.Build(t.Context(), j)
			if took := time.Since(began); took > 30*time.Second {
				t.Errorf("it took %s", took)
			}
			code := c.code
			if code == "" {
				code = api.CodeInvalid
			}
			if err == nil && !c.ok {
				t.Errorf("was built:\n%s", out)
			}
			if err != nil && (c.ok || api.CodeOf(err) != code) {
				t.Errorf("code %q, want %q: %v\n%s", api.CodeOf(err), code, err, out)
			}
			if text := fmt.Sprint(out, err); strings.Contains(text, "canary") || strings.Contains(text, "host-secret") {
				t.Errorf("a secret of the machine is in the log: %v\n%s", err, out)
			}
			if _, err := os.Stat(marker); err == nil {
				t.Fatal("a program of the build ran on the machine")
			}
		})
	}
}

// TestIgnoreFileOfAStranger lets .dockerignore lead out of the source.
func TestIgnoreFileOfAStranger(t *testing.T) {
	t.Parallel()
	b := newBuilder(t, newRack(t))
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("[canary\n"), 0o600); err != nil { // a pattern that cannot be read
		t.Fatal(err)
	}
	j, out := job(source{"Dockerfile": "FROM busybox\nCOPY . /x\nRUN echo built\n", ".dockerignore": "->" + secret})
	if _, err := b.Build(t.Context(), j); err != nil || strings.Contains(out.String(), "canary") {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestBuildsAreBounded holds builds that take all they can get.
func TestBuildsAreBounded(t *testing.T) {
	t.Parallel()
	doubled := "FROM busybox\nENV A0=0123456789abcdef\n"
	for i := range 40 {
		doubled += fmt.Sprintf("ENV A%d=${A%d}${A%d}\n", i+1, i, i)
	}
	for name, c := range map[string]struct {
		dockerfile string
		change     func(*build.Config)
		codes      []api.Code
		want       string
	}{
		"processes": {"FROM busybox\nRUN i=0; while [ $i -lt 200 ]; do sleep 100 & i=$((i+1)); done; echo all\n",
			func(c *build.Config) { c.Tasks = 64 }, []api.Code{api.CodeInvalid}, "can't fork"},
		"variables": {doubled, func(*build.Config) {}, []api.Code{api.CodeInvalid, api.CodeUnavailable}, ""},
		"time": {"FROM busybox\nRUN while true; do true; done\n",
			func(c *build.Config) { c.Time = 20 * time.Second }, []api.Code{api.CodeExhausted}, "takes longer than 20s"}, // the next build has to fit, beside others
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRack(t)
			b := newBuilder(t, r, c.change)
			j, out := job(source{"Dockerfile": c.dockerfile})
			_, err := b.Build(t.Context(), j)
			if !slices.Contains(c.codes, api.CodeOf(err)) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("code %q, want one of %q with %q: %v\n%s", api.CodeOf(err), c.codes, c.want, err, out)
			}
			t.Logf("%.300s", err)
			j, out = job(source{"Dockerfile": "FROM busybox\nRUN echo afterwards\n"})
			if _, err := b.Build(t.Context(), j); err != nil {
				t.Errorf("the next build: %v\n%s", err, out)
			}
		})
	}
}

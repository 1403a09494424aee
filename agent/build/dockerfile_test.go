package build

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/buildkit/frontend/dockerfile/parser"

	"slipway/api"
)

func TestDockerfilesThatAreNone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	large := filepath.Join(dir, "large")
	if err := os.WriteFile(large, bytes.Repeat([]byte("# a comment\n"), dockerfileMax/12+1), 0o600); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{dir: "is not a file", large: "larger than 2 MiB", filepath.Join(dir, "x"): "no such file"} {
		if _, _, err := readDockerfile(file); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", file, err, want)
		}
	}
	for _, path := range []string{"https://example.com/a.git", "git@example.com:a/b.git", "-x", "ext::sh -c x", "a\x00b", strings.Repeat("x/", 3000)} {
		service := &api.ServiceSpec{Name: "web", Build: &api.BuildSpec{Path: path}}
		if _, err := planBuild(dir, service, &Job{}); api.CodeOf(err) != api.CodeInvalid || strings.Contains(err.Error(), dir) {
			t.Errorf("build path %.40q: code %q: %v", path, api.CodeOf(err), err)
		}
	}
}

// FuzzDockerfile reads any Dockerfile: what it declares is found, and only that.
func FuzzDockerfile(f *testing.F) {
	f.Add([]byte("ARG BASE=busybox\nFROM $BASE AS build\narg A B=2 \\\n  C\nfrom build as Development\nRUN <<EOT\nARG D\nEOT\n"))
	f.Add([]byte("# escape=`\nFROM x AS y `\n\nARG a=\"b c\" d='e'\n"))
	f.Add([]byte("\xef\xbb\xbf# syntax=x\nFROM --platform=$BUILDPLATFORM a as b\nCOPY <<A <<\"B\" /\nA\nB\nONBUILD ARG x\n"))
	f.Add([]byte(strings.Repeat("RUN \\\n", 1000) + "ARG"))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		file := filepath.Join(dir, "Dockerfile")
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		args, stages, err := readDockerfile(file)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parser.Parse(bytes.NewReader(data)); err != nil && len(args)+len(stages) > 0 {
			t.Errorf("%d arguments and %d stages of what cannot be parsed", len(args), len(stages))
		}
		env := map[string]string{"SECRET": "canary"}
		for name := range args {
			if strings.ContainsAny(name, "=") {
				t.Errorf("argument %q", name)
			}
			env[name] = "value"
		}
		for name := range chooseArgs(args, []string{"B=manifest", "=", ""}, env, map[string]string{"C": "given"}) {
			if !args[name] {
				t.Errorf("%q is passed, and not declared", name)
			}
		}
	})
}

// FuzzPlan names any path of any source: what is found lies inside.
func FuzzPlan(f *testing.F) {
	parent := f.TempDir()
	source := filepath.Join(parent, "source")
	for name, text := range map[string]string{"Dockerfile": "FROM outside", "source/Dockerfile": "FROM a", "source/app/Dockerfile": "FROM b"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(parent, name)), 0o700); err != nil {
			f.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(parent, name), []byte(text), 0o600); err != nil {
			f.Fatal(err)
		}
	}
	for from, to := range map[string]string{"out": "..", "root": "/", "in": "app", "app/up": "../Dockerfile", "app/out": "../../Dockerfile", "loop": "loop"} {
		if err := os.Symlink(to, filepath.Join(source, from)); err != nil {
			f.Fatal(err)
		}
	}
	for _, path := range []string{".", "app", "in", "out", "root", "loop", "../source", "in/../out", "app/./..//in"} {
		for _, file := range []string{"Dockerfile", "up", "out", "../Dockerfile", "app/Dockerfile", "/etc/passwd"} {
			f.Add(path, file)
		}
	}
	f.Fuzz(func(t *testing.T, path, file string) {
		service := &api.ServiceSpec{Name: "web", Build: &api.BuildSpec{Path: path, Dockerfile: file}}
		p, err := planBuild(source, service, &Job{})
		if err != nil {
			if api.CodeOf(err) != api.CodeInvalid {
				t.Errorf("code %q: %v", api.CodeOf(err), err)
			}
			return
		}
		found, err := filepath.EvalSymlinks(filepath.Join(p.context, p.dockerfile))
		if err != nil || p.context != source && !strings.HasPrefix(p.context, source+"/") || !strings.HasPrefix(found, source+"/") {
			t.Errorf("path %q, Dockerfile %q lead to %s, %s; %v", path, file, p.context, found, err)
		}
	})
}

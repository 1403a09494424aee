package main

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Values of the environment and the words of one-offs are in no file of the store, and nobody is
// shown a value who does not ask for it with the right to.
func TestSecretsStaySecret(t *testing.T) {
	c := newCLI(t)
	canaries := map[string]string{
		"a variable": "c4n4ry-variable", "a variable that a command uses": "c4n4ry-command", "a default": "c4n4ry-changed",
		"a word of a one-off": "c4n4ry-word", "a variable of a failed release": "c4n4ry-port", "a build argument": "c4n4ry-argument",
	}
	dir := c.app("hello", "web")
	c.write("hello/slipway.yml", `
environment:
  - TOKEN
  - USED
  - DEFAULT=x
services:
  web:
    build: .
    port: ${PORT_NUMBER}
    command: serve --token ${USED}
    environment:
      - URL=https://${TOKEN}@example.org
`)
	events := c.start(strings.NewReader(""), nil, "events", "--all", "--json")
	var said strings.Builder
	record := func(want int, args ...string) {
		t.Helper()
		r := c.run(args...)
		said.WriteString(r.out + r.err)
		if r.code != want {
			t.Errorf("slipway %s: exit code %d, want %d\n%s%s", strings.Join(args, " "), r.code, want, r.out, r.err)
		}
	}
	record(0, "apps", "create", "hello")
	record(0, "env", "set", "-a", "hello", "TOKEN="+canaries["a variable"], "USED="+canaries["a variable that a command uses"], "PORT_NUMBER=3000")
	record(0, "deploy", dir, "-a", "hello", "--build-args", "ARG="+canaries["a build argument"])
	record(0, "env", "set", "-a", "hello", "DEFAULT="+canaries["a default"], "--promote")
	record(0, "run", "web", "-a", "hello", "--detach", "--", "migrate", canaries["a word of a one-off"])
	record(1, "env", "set", "-a", "hello", "PORT_NUMBER="+canaries["a variable of a failed release"])
	record(0, "build", dir, "-a", "hello")
	record(2, "env", "set", "-a", "hello", canaries["a variable"])
	record(1, "env", "set", "-a", "hello", "1="+canaries["a variable"])
	if r := c.input(strings.NewReader("A=1\n"+canaries["a variable"]), "env", "set", "-a", "hello"); r.code != 2 || !strings.Contains(r.err, "line 2") {
		t.Errorf("exit code %d: %s", r.code, r.err)
	} else {
		said.WriteString(r.err)
	}
	if ps := c.must("ps", "--all", "-a", "hello"); !strings.Contains(ps, "migrate "+canaries["a word of a one-off"]) {
		t.Errorf("the author of a one-off does not see its words:\n%s", ps)
	}
	if ps := c.must("ps", "--all", "-a", "hello", "-r", "viewer"); !strings.Contains(ps, "migrate ...") {
		t.Errorf("a viewer does not see the program of a one-off:\n%s", ps)
	}
	for _, args := range reads {
		for _, form := range []string{"--json=true", "--json=false"} {
			for _, who := range []string{"admin", "viewer"} {
				if who == "admin" && strings.HasPrefix(args, "ps") {
					continue // see above
				}
				record(0, append(strings.Fields(args), "-a", "hello", "-r", who, form)...)
			}
		}
	}
	record(5, "env", "-a", "hello", "-r", "viewer")
	record(5, "releases", "diff", "v1", "--reveal", "-a", "hello", "-r", "viewer")
	await(t, func() bool { return strings.Contains(events.out.String(), "release.created") }, events.out.String)
	events.cancel()
	events.end(t)
	said.WriteString(events.out.String())
	for what, canary := range canaries {
		if strings.Contains(said.String(), canary) {
			t.Errorf("%s was shown:\n%s", what, around(said.String(), canary))
		}
	}
	if env := c.must("env", "-a", "hello"); !strings.Contains(env, canaries["a variable"]) {
		t.Errorf("the environment is not what was set:\n%s", env)
	}
	atRest(t, c.testRack.dir, canaries)
}

// reads are the verbs that show something of an app.
var reads = []string{
	"rack", "apps", "apps info", "builds", "builds info", "builds logs", "releases", "releases info", "releases info v1",
	"releases manifest", "releases diff", "releases diff v1", "releases diff v1 v2", "services", "ps --all", "why", "why web",
	"why v1", "why v2", "nodes", "logs --no-follow", "version",
}

// atRest looks for words in every file below a directory.
func atRest(t *testing.T, dir string, words map[string]string) {
	t.Helper()
	files := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		files++
		text, err := os.ReadFile(path)
		for what, word := range words {
			if bytes.Contains(text, []byte(word)) {
				t.Errorf("%s is in %s in plain text", what, path)
			}
		}
		return err
	})
	if err != nil || files < 3 {
		t.Errorf("%d files below %s: %v", files, dir, err)
	}
}

// around is the line of a text in which a word stands.
func around(text, word string) string {
	for line := range strings.Lines(text) {
		if strings.Contains(line, word) {
			return line
		}
	}
	return ""
}

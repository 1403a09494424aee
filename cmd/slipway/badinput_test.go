package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"

	"slipway/api"
	"slipway/api/client"
)

// dial connects to the rack as a program would that is not this command.
func (c *cli) dial(who string) *client.Client {
	c.t.Helper()
	rack, err := client.Dial(c.t.Context(), client.Context{Addr: c.addr, CA: string(c.ca.PEM()), Token: c.tokens[who]})
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = rack.Close() })
	return rack
}

// strange are names that mean something to a shell, a path, a log or a terminal.
var strange = []string{
	"$(id)", ";reboot", "`id`", "../../etc/passwd", "a/b", "a b", "a\nb", "a\x00b", "-rf", "--", "%s%n", "a'b\"c", "\x1b[2J", "раypal",
	"HELLO", "hello ", " hello", ".", "..", "a..b", "0", "é", strings.Repeat("a", 64), strings.Repeat("a", 70000), "hello\r\nX: y", "{{.}}", "*",
}

func TestStrangeNames(t *testing.T) {
	c := newCLI(t)
	c.must("deploy", c.app("hello", "web"))
	before := c.must("apps") + c.must("ps", "-a", "hello") + c.must("releases", "-a", "hello", "--json")
	for _, name := range strange {
		for _, args := range [][]string{
			{"apps", "create", "--", name}, {"apps", "info", "--", name}, {"apps", "delete", "--", name}, {"apps", "lock", "--", name}, {"apps", "cancel", "--", name},
			{"ps", "-a", name}, {"deploy", "-a", name, "--", c.dir + "/hello"}, {"logs", "--no-follow", "-s", name, "-a", "hello"}, {"ps", "-s", name, "-a", "hello"},
			{"ps", "info", "-a", "hello", "--", name}, {"ps", "stop", "-a", "hello", "--", name}, {"releases", "info", "-a", "hello", "--", name},
			{"releases", "promote", "-a", "hello", "--", name}, {"releases", "rollback", "-a", "hello", "--", name}, {"releases", "diff", "-a", "hello", "--", name},
			{"builds", "info", "-a", "hello", "--", name}, {"builds", "logs", "-a", "hello", "--", name}, {"scale", "-a", "hello", "--count", "2", "--", name},
			{"restart", "-a", "hello", "--", name}, {"why", "-a", "hello", "--", name}, {"exec", "-a", "hello", "--", name, "id"}, {"run", "-a", "hello", "--", name, "id"},
			{"env", "get", "-a", "hello", "--", name}, {"env", "unset", "-a", "hello", "--", name}, {"run", "-a", "hello", "--release", name, "--", "web", "id"},
			{"nodes", "info", "--", name}, {"nodes", "drain", "--yes", "--", name}, {"nodes", "cordon", "--", name}, {"nodes", "remove", "--", name},
			{"nodes", "pool", "--", "n1", name}, {"tokens", "delete", "--", name},
			{"context", "use", "--", name}, {"ps", "-r", name}, {"login", "--token", "x", "--", name},
		} {
			r := c.run(args...)
			if r.code == 0 || r.code > exitUnavailable {
				t.Errorf("slipway %.60q: exit code %d\n%.200s%.300s", args, r.code, r.out, r.err)
			}
			if strings.ContainsAny(r.err, "\x1b\x00\r") || strings.Contains(r.err, "panic") || len(r.err) > 1000 {
				t.Errorf("slipway %.60q: %.300q", args, r.err)
			}
		}
	}
	if after := c.must("apps") + c.must("ps", "-a", "hello") + c.must("releases", "-a", "hello", "--json"); ages(after) != ages(before) {
		t.Errorf("strange names have changed something:\n%s\nwas\n%s", after, before)
	}
}

func ages(text string) string {
	return agoRule.ReplaceAllString(gapRule.ReplaceAllString(text, " "), "AGO")
}

// What the command line would never send is refused by the rack as well.
func TestHostileRequests(t *testing.T) {
	c := newCLI(t)
	c.must("apps", "create", "hello")
	rack, ctx := c.dial("admin"), t.Context()
	for _, name := range append(strange, "A=B", "A\nB", "1A", "", "A$(id)") {
		if name == "HELLO" || name == "a..b" || len(name) == 64 {
			name += " " // else a good name for a variable
		}
		if _, err := rack.SetEnv(ctx, "hello", client.EnvChange{Set: map[string]string{name: "x"}}); err == nil {
			t.Errorf("environment name %.40q was accepted", name)
		}
		if _, err := rack.CreateApp(ctx, api.AppName(name)); err == nil {
			t.Errorf("app name %.40q was accepted", name)
		}
		if has, err := rack.HasSource(ctx, "hello", name); has || err != nil {
			t.Errorf("source %.40q: %v %v", name, has, err)
		}
		if _, err := rack.CreateBuild(ctx, "hello", client.Build{Source: name, Manifest: "services: {web: {build: .}}"}); err == nil {
			t.Errorf("a build of source %.40q was accepted", name)
		}
	}
	for what, size := range map[string]int{"above the limit of an environment": 128<<10 + 1, "five MiB": 5 << 20, "more than a message": 33 << 20} {
		_, err := rack.SetEnv(ctx, "hello", client.EnvChange{Set: map[string]string{"A": strings.Repeat("x", size)}})
		if api.CodeOf(err) != api.CodeExhausted || strings.Contains(err.Error(), "grpc") || len(err.Error()) > 300 {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := rack.SetEnv(ctx, "hello", client.EnvChange{Set: map[string]string{"A": "x\x00y"}}); err == nil {
		t.Error("a NUL in a value was accepted")
	}
	if _, err := rack.SetEnv(ctx, "hello", client.EnvChange{Set: map[string]string{"A": strings.Repeat("x", 128<<10-1)}}); err != nil {
		t.Errorf("an environment of exactly the limit: %v", err)
	}
	if _, err := rack.Run(ctx, "hello", client.Run{Service: "web", Command: []string{strings.Repeat("x", 1<<20)}}); err == nil {
		t.Error("a command of a MiB was accepted")
	}
	if _, err := rack.CreateBuild(ctx, "hello", client.Build{Manifest: "services: {web: {image: a}}", Description: strings.Repeat("x", 1<<20)}); err == nil {
		t.Error("a description of a MiB was accepted")
	}
	releases, err := rack.Releases(ctx, "hello")
	if err != nil || len(releases) != 1 {
		t.Errorf("%d releases, want the one of the value that fits: %v", len(releases), err)
	}
	apps, err := rack.Apps(ctx)
	if err != nil || len(apps) != 1 {
		t.Errorf("apps %v: %v", apps, err)
	}
}

func TestHugeInput(t *testing.T) {
	c := newCLI(t)
	c.must("apps", "create", "hello")
	for _, size := range []int{200 << 10, 2 << 20, 40 << 20} {
		r := c.input(io.MultiReader(strings.NewReader("A="), io.LimitReader(zeros{}, int64(size))), "env", "set", "-a", "hello")
		if r.code == 0 || !strings.Contains(r.err, "limit is 128 KiB") && !strings.Contains(r.err, "longer than 1 MiB") || len(r.err) > 500 {
			t.Errorf("%d KiB: exit code %d %.300s", size>>10, r.code, r.err)
		}
	}
	if out := c.must("releases", "-a", "hello", "--json"); out != "[]\n" {
		t.Errorf("there are releases: %s", out)
	}
}

// zeros is input without end.
type zeros struct{}

// Read implements io.Reader.
func (zeros) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = '0'
	}
	return len(p), nil
}

// An upload that breaks off leaves nothing behind.
func TestBrokenUpload(t *testing.T) {
	c := newCLI(t)
	c.must("apps", "create", "hello")
	rack := c.dial("admin")
	for what, end := range map[string]func(cancel func()) error{
		"the reader fails": func(func()) error { return errors.New("the disk is gone") },
		"the client dies": func(cancel func()) error {
			cancel()
			return io.ErrUnexpectedEOF
		},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		source := io.MultiReader(io.LimitReader(zeros{}, 3<<20), failing(func() error { return end(cancel) }))
		if digest, err := rack.UploadSource(ctx, "hello", source); err == nil {
			t.Errorf("%s: stored as %s", what, digest)
		}
		cancel()
		left := func() []os.DirEntry {
			uploads, err := os.ReadDir(c.testRack.dir + "/objects/tmp")
			if err != nil {
				t.Fatal(err)
			}
			stored, err := os.ReadDir(c.testRack.dir + "/objects/blobs/sha256")
			if err != nil {
				t.Fatal(err)
			}
			return append(uploads, stored...)
		}
		await(t, func() bool { return len(left()) == 0 }, func() string { return fmt.Sprintf("%s: %v is left", what, left()) })
	}
	if _, err := rack.UploadSource(t.Context(), "hello2", strings.NewReader("x")); api.CodeOf(err) != api.CodeNotFound {
		t.Errorf("upload to an app that does not exist: %v", err)
	}
}

// failing is a reader that only fails.
type failing func() error

// Read implements io.Reader.
func (f failing) Read([]byte) (int, error) { return 0, f() }

// Of deployments at once, the newest wins, and each of their commands is told the truth.
func TestDeploysAtOnce(t *testing.T) {
	c := newCLI(t)
	dir := c.app("hello", "web")
	c.must("deploy", dir)
	const n = 5
	results := make([]result, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { results[i] = c.run("deploy", dir, "-d", fmt.Sprint("deploy ", i)) })
	}
	all.Wait()
	won := 0
	for i, r := range results {
		switch {
		case r.code == 0 && strings.Contains(r.out, " is live (1/1, "):
			won++
		case r.code == exitRolledBack && strings.Contains(r.err, "superseded: release R"):
		default:
			t.Errorf("deploy %d: exit code %d\n%s%s", i, r.code, r.out, r.err)
		}
	}
	rack := c.dial("admin")
	releases, err := rack.Releases(t.Context(), "hello")
	if err != nil || len(releases) != n+1 || won == 0 {
		t.Fatalf("%d releases, %d commands succeeded: %v", len(releases), won, err)
	}
	app, err := rack.App(t.Context(), "hello")
	if err != nil || app.Release != releases[0].ID {
		t.Errorf("the app runs %s, the newest release is %s: %v", app.Release, releases[0].ID, err)
	}
	deployments, err := rack.Deployments(t.Context(), "hello")
	if err != nil || len(deployments) != n+1 {
		t.Errorf("%d deployments: %v", len(deployments), err)
	}
}

// The same call made twice changes nothing twice; the environment of one app is changed by many
// at once without a loss.
func TestChangesAtOnce(t *testing.T) {
	c := newCLI(t)
	c.must("apps", "create", "hello")
	const n = 10
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			if r := c.run("env", "set", "-a", "hello", fmt.Sprintf("V%d=%d", i, i)); r.code != 0 {
				t.Errorf("exit code %d: %s", r.code, r.err)
			}
		})
	}
	all.Wait()
	if env := c.must("env", "-a", "hello"); strings.Count(env, "\n") != n {
		t.Errorf("variables were lost:\n%s", env)
	}
}

// Events tell who did what, as it happens.
func TestEvents(t *testing.T) {
	c := newCLI(t)
	c.must("apps", "create", "hello")
	c.must("apps", "create", "other")
	one := c.start(strings.NewReader(""), nil, "events", "-a", "hello")
	scoped := c.start(strings.NewReader(""), nil, "events", "--all", "--json", "-r", "scoped")
	await(t, func() bool { // a subscription begins some time after the command
		c.must("apps", "lock", "other")
		c.must("apps", "lock", "hello")
		c.must("apps", "unlock", "hello")
		return strings.Contains(one.out.String(), "\n") && strings.Contains(scoped.out.String(), "\n")
	}, func() string { return one.out.String() + scoped.out.String() })
	for what, j := range map[string]*job{"-a hello": one, "--all of a token for hello": scoped} {
		j.cancel()
		if code := j.end(t); code != exitInterrupted {
			t.Errorf("%s: exit code %d", what, code)
		}
		if out := j.out.String(); strings.Contains(out, "other") || !strings.Contains(out, "hello") || !strings.Contains(out, "admin") {
			t.Errorf("%s:\n%s", what, out)
		}
	}
	if r := c.run("events", "-a", "nothing"); r.code != exitNotFound {
		t.Errorf("exit code %d: %s", r.code, r.err)
	}
}

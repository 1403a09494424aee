package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"slipway/api/client"
)

// cli is a rack and a user of it, in this process.
type cli struct {
	*testRack
	t   *testing.T
	dir string
	env []string
}

func newCLI(t *testing.T) *cli {
	t.Helper()
	c := &cli{testRack: startRack(t), t: t, dir: t.TempDir()}
	c.env = []string{"SLIPWAY_CONFIG=" + filepath.Join(c.dir, "config.json"), "PATH=" + os.Getenv("PATH"), "TERM=xterm"}
	conf := config{Current: "admin", Racks: map[string]client.Context{}}
	for name, token := range c.tokens {
		conf.Racks[name] = client.Context{Addr: c.addr, CA: string(c.ca.PEM()), Token: token}
	}
	if err := newShell(nil, nil, nil, c.env).saveConfig(conf); err != nil {
		t.Fatal(err)
	}
	return c
}

// write writes a file below the user's directory and returns the directory that it is in.
func (c *cli) write(path, text string) string {
	c.t.Helper()
	path = filepath.Join(c.dir, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		c.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		c.t.Fatal(err)
	}
	return filepath.Dir(path)
}

// app writes an app with one service that has a port, and returns its directory.
func (c *cli) app(name, service string) string {
	c.t.Helper()
	c.write(name+"/Dockerfile", "FROM base\n")
	return c.write(name+"/slipway.yml", "services:\n  "+service+":\n    build: .\n    port: 3000\n")
}

// result is what came of one command.
type result struct {
	code     int
	out, err string
}

// input runs slipway with something on its standard input.
func (c *cli) input(in io.Reader, args ...string) result {
	var out, errs bytes.Buffer
	code := run(c.t.Context(), args, in, &out, &errs, c.env)
	return result{code, out.String(), errs.String()}
}

func (c *cli) run(args ...string) result { return c.input(strings.NewReader(""), args...) }

// must runs slipway and expects success.
func (c *cli) must(args ...string) string {
	c.t.Helper()
	r := c.run(args...)
	if r.code != 0 {
		c.t.Fatalf("slipway %s: exit code %d\n%s%s", strings.Join(args, " "), r.code, r.out, r.err)
	}
	return r.out
}

// screen is what a command that still runs has written so far.
type screen struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements io.Writer.
func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

// String returns all that was written.
func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// await waits until text is on the screen.
func (s *screen) await(t *testing.T, text string) {
	t.Helper()
	await(t, func() bool { return strings.Contains(s.String(), text) }, func() string { return "no " + text + " in\n" + s.String() })
}

// await waits for a condition, and prints what fails it.
func await(t *testing.T, reached func() bool, state func() string) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !reached(); time.Sleep(time.Millisecond) { // polls
		if time.Now().After(deadline) {
			t.Fatalf("after 20 s: %s", state())
		}
	}
}

// job is a command that runs beside the test.
type job struct {
	code   chan int
	cancel context.CancelFunc
	out    screen
}

// start starts slipway on the given standard streams; without them, both go to the screen.
func (c *cli) start(in io.Reader, out io.Writer, args ...string) *job {
	ctx, cancel := context.WithCancel(c.t.Context())
	j := &job{code: make(chan int, 1), cancel: cancel}
	if out == nil {
		out = &j.out
	}
	go func() { j.code <- run(ctx, args, in, out, out, c.env) }()
	c.t.Cleanup(cancel)
	return j
}

// end waits for the exit code.
func (j *job) end(t *testing.T) int {
	t.Helper()
	select {
	case code := <-j.code:
		return code
	case <-time.After(20 * time.Second):
		t.Fatalf("the command has not ended after 20 s:\n%s", j.out.String())
		return 0
	}
}

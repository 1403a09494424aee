package main

import (
	"fmt"
	"strings"
	"testing"

	"slipway/api"
)

// A drain asks on a terminal; anything but a yes changes nothing, and neither does an interrupt.
func TestDrainAsks(t *testing.T) {
	c := newCLI(t)
	c.must("deploy", c.app("hello", "web"))
	c.agent.join("n2", 8*api.GiB)
	for answer, want := range map[string]int{"n\n": exitFailure, "\n": exitFailure, "\x04": exitFailure, "": exitInterrupted} {
		tty := newTerminal(t, 24, 120)
		j := c.start(tty.tty, tty.tty, "nodes", "drain", "n1")
		tty.screen.await(t, "Drain node node1? [y/N] ")
		if answer == "" {
			j.cancel()
		}
		tty.keys(answer)
		if code := j.end(t); code != want {
			t.Errorf("%q: exit code %d\n%s", answer, code, tty.screen.String())
		}
		if n, _ := c.store.View().Node("n1"); n.Draining {
			t.Fatalf("%q: the node drains", answer)
		}
		tty.keys("\n") // lets the read go that was left behind
	}
	tty := newTerminal(t, 24, 120)
	j := c.start(tty.tty, tty.tty, "nodes", "drain", "n1")
	tty.screen.await(t, "Drain node node1? [y/N] ")
	tty.keys("y\n")
	tty.screen.await(t, "is drained")
	if code := j.end(t); code != 0 {
		t.Errorf("exit code %d\n%s", code, tty.screen.String())
	}
}

// Whoever stops waiting does not stop the drain, and is told so; it can be called off by others.
func TestDrainGoesOn(t *testing.T) {
	c := newCLI(t)
	c.must("deploy", c.app("hello", "web"))
	for _, off := range []bool{false, true} {
		j := c.start(strings.NewReader(""), nil, "nodes", "drain", "n1", "--yes")
		j.out.await(t, "Waiting: hello/web ")
		want := exitInterrupted
		if off {
			c.must("nodes", "undrain", "n1")
			want = exitConflict
		} else {
			j.cancel()
		}
		text := map[bool]string{false: "The drain goes on; follow it with: slipway nodes drain n1", true: "the drain of node node1 was called off"}[off]
		if code := j.end(t); code != want || !strings.Contains(j.out.String(), text) {
			t.Errorf("exit code %d, want %d\n%s", code, want, j.out.String())
		}
		if n, _ := c.store.View().Node("n1"); n.Draining == off {
			t.Errorf("the node drains: %v", n.Draining)
		}
	}
	c.must("nodes", "drain", "n1", "--yes", "--no-wait")
	j := c.start(strings.NewReader(""), nil, "nodes", "drain", "n1")
	j.out.await(t, "1 node is draining")
	c.agent.join("n2", 8*api.GiB)
	if code := j.end(t); code != 0 {
		t.Errorf("exit code %d\n%s", code, j.out.String())
	}
}

// A reason is one line that can be printed.
func TestReasons(t *testing.T) {
	c := newCLI(t)
	for _, reason := range []string{"two\nlines", "\x1b[2J", strings.Repeat("x", api.ReasonMax+1), "\xff"} {
		if r := c.run("apps", "create", "hello", "--reason", reason); r.code != exitUsage || len(r.err) > 300 {
			t.Errorf("reason %.20q: exit code %d %s", reason, r.code, r.err)
		}
	}
	long := strings.Repeat("é", api.ReasonMax/2)
	c.must("apps", "create", "hello", "--reason", long)
	if out := c.must("events", "-a", "hello", "--last", "1"); !strings.Contains(out, "because: "+long) {
		t.Errorf("%s", out)
	}
}

// What is followed after the past joins it without a gap and without a repetition.
func TestEventsGoOn(t *testing.T) {
	c := newCLI(t)
	c.must("apps", "create", "hello")
	c.must("apps", "lock", "hello", "--reason", "before")
	j := c.start(strings.NewReader(""), nil, "events", "-a", "hello", "--last", "1", "--follow")
	j.out.await(t, "because: before")
	const n = 20
	for i := range n {
		c.must("apps", []string{"unlock", "lock"}[i%2], "hello", "--reason", fmt.Sprintf("change %02d", i))
	}
	j.out.await(t, fmt.Sprintf("change %02d", n-1))
	j.cancel()
	if code := j.end(t); code != exitInterrupted {
		t.Errorf("exit code %d", code)
	}
	got := strings.Split(strings.TrimSpace(j.out.String()), "\n")
	if len(got) != n+1 {
		t.Fatalf("%d lines:\n%s", len(got), j.out.String())
	}
	for i, line := range got[1:] {
		if !strings.HasSuffix(line, fmt.Sprintf("because: change %02d", i)) {
			t.Errorf("line %d is %q", i, line)
		}
	}
}

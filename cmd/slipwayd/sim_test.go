package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func simulate(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	err := run(t.Context(), append([]string{"sim"}, args...), strings.NewReader(""), &out, &out)
	return out.String(), err
}

func TestSimTwiceIsTheSame(t *testing.T) {
	args := []string{"--seed", "11", "--servers", "3", "--nodes", "6", "--trace"}
	a, err := simulate(t, args...)
	if err != nil {
		t.Fatalf("%v\n%s", err, a)
	}
	b, _ := simulate(t, args...)
	if a != b {
		t.Error("the same seed has two outputs")
	}
	if other, _ := simulate(t, "--seed", "12", "--servers", "3", "--nodes", "6", "--trace"); a == other {
		t.Error("two seeds have the same output")
	}
	if !strings.Contains(a, "every invariant held") || !strings.Contains(a, "deployment.succeeded") {
		t.Errorf("a run says nothing:\n%s", a[len(a)-500:])
	}
}

func TestSimReport(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "report")
	if out, err := simulate(t, "--servers", "1", "--nodes", "2", "--faults", "none", "--report", dir); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, name := range []string{"report.md", "placements.svg", "moves.svg", "availability.svg", "queue.svg"} {
		if b, err := os.ReadFile(filepath.Join(dir, name)); err != nil || len(b) < 200 {
			t.Errorf("%s: %d bytes, %v", name, len(b), err)
		}
	}
}

func TestSimRefuses(t *testing.T) {
	for _, c := range []struct{ args, says string }{
		{"--servers 2", "1, 3 or 5"}, {"--nodes 0", "0 nodes"}, {"--hours -1", "-1 hours"}, {"--faults crash,rain", `"rain" is not known`},
	} {
		if out, err := simulate(t, strings.Fields(c.args)...); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v\n%s", c.args, err, out)
		}
	}
}

package main

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"slipway/docs"
)

// TestConvoxDoc keeps the tables of docs/convox.md about this command equal to what it does, and
// parses every command of the page. UPDATE=1 writes the tables anew.
func TestConvoxDoc(t *testing.T) {
	const file = "../../docs/convox.md"
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var flags, verbs strings.Builder
	for _, g := range givens() {
		fmt.Fprintf(&flags, "| `%s --%s` | %s |\n", g.verb, g.flag, g.why)
	}
	other := elsewhere()
	for _, words := range slices.Sorted(maps.Keys(other)) {
		fmt.Fprintf(&verbs, "| `%s` | %s |\n", words, other[words])
	}
	page := setTable(t, string(b), "| flag | why |\n|---|---|\n", flags.String())
	page = setTable(t, page, "| verb | instead |\n|---|---|\n", verbs.String())
	switch {
	case page == string(b):
	case os.Getenv("UPDATE") == "":
		t.Errorf("%s is out of date; run: UPDATE=1 go test ./cmd/slipway -run TestConvoxDoc", file)
	default:
		if err := os.WriteFile(file, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	n := 0
	for _, args := range docs.Commands(page, "slipway") {
		n++
		if err := parses(args); err != nil {
			t.Errorf("slipway %s: %v", strings.Join(args, " "), err)
		}
	}
	if n < 12 {
		t.Errorf("only %d commands", n)
	}
}

// setTable puts rows under the head of a table.
func setTable(t *testing.T, page, head, rows string) string {
	t.Helper()
	before, after, ok := strings.Cut(page, head)
	if !ok {
		t.Fatalf("the page has no table %q", head)
	}
	for strings.HasPrefix(after, "|") {
		_, after, _ = strings.Cut(after, "\n")
	}
	return before + head + rows + after
}

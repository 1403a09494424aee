package docs

import (
	"os"
	"strings"
	"testing"

	"slipway/server/rest"
)

// notSupported is the table of convox.md with what the rack API answers with 501.
func notSupported() string {
	var b strings.Builder
	b.WriteString("| request | why |\n|---|---|\n")
	for _, row := range rest.Table() {
		if row.Missing != "" {
			b.WriteString("| `" + row.Method + " " + row.Path + "` | " + row.Missing + " |\n")
		}
	}
	return b.String()
}

// TestConvox compares the table of convox.md with the routes. -rewrite brings the page up to date.
func TestConvox(t *testing.T) {
	b, err := os.ReadFile("convox.md")
	if err != nil {
		t.Fatal(err)
	}
	page, want := string(b), notSupported()
	start := strings.Index(page, "| request | why |")
	if start < 0 {
		t.Fatal("convox.md has no table of what is not supported")
	}
	have := page[start:]
	if end := strings.Index(have, "\n\n"); end >= 0 {
		have = have[:end+1]
	}
	if have == want {
		return
	}
	if !*rewrite {
		t.Fatalf("convox.md is out of date; run: go test ./docs -rewrite\nhave:\n%s\nwant:\n%s", have, want)
	}
	if err := os.WriteFile("convox.md", []byte(strings.Replace(page, have, want, 1)), 0o644); err != nil {
		t.Fatal(err)
	}
}

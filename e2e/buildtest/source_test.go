package buildtest

import (
	"strings"
	"testing"
)

// TestEditOfTheSameSizeIsSeen changes one byte, and neither size nor time of a file.
func TestEditOfTheSameSizeIsSeen(t *testing.T) {
	t.Parallel()
	b := newBuilder(t, newRack(t))
	for _, text := range []string{"one", "two", "one"} {
		j, out := job(source{"Dockerfile": "FROM busybox\nCOPY main /main\nRUN echo the file says $(cat /main)\n", "main": text})
		if _, err := b.Build(t.Context(), j); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if text == "two" && !strings.Contains(out.String(), "the file says two") {
			t.Fatalf("the edit was not built:\n%s", out)
		}
	}
}

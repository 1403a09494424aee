package server

import (
	"path/filepath"
	"testing"

	"github.com/cockroachdb/datadriven"

	"slipway/server/steps/stepstest"
)

// TestStories plays whole deployments with every step of the leader; see stepstest.Rack.Play
// for the commands. -rewrite writes down what happens now.
func TestStories(t *testing.T) {
	paths, err := filepath.Glob("testdata/stories/*.txt")
	if err != nil || len(paths) == 0 {
		t.Fatalf("%d stories: %v", len(paths), err)
	}
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) {
			r := stepstest.New(new(Decider).Decide)
			datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string { return r.Play(t, d) })
		})
	}
}

package main

import (
	"os"
	"path/filepath"
	"testing"
)

// TestLocateMakesNothing: who only looks for a rack leaves nothing where there is none.
func TestLocateMakesNothing(t *testing.T) {
	t.Chdir(t.TempDir())
	p, err := locate("rack")
	if err != nil {
		t.Fatal(err)
	}
	if !filepath.IsAbs(p.Dir) || filepath.Dir(p.Run) != runRoot {
		t.Errorf("it is at %+v", p)
	}
	for _, d := range []string{p.Dir, p.Run} {
		if _, err := os.Lstat(d); err == nil {
			t.Errorf("%s is there", d)
		}
	}
}

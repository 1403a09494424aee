package mutants

import (
	"cmp"
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

var only = flag.String("mutant", "", "try this one only")

// TestMutants requires that each bug is found.
func TestMutants(t *testing.T) {
	if testing.Short() || os.Getenv("SLIPWAY_MUTANTS") == "" {
		t.Skip("takes minutes; run: make mutants")
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	clean := map[Finder]bool{}
	for _, m := range Mutants {
		if *only != "" && m.Name != *only {
			continue
		}
		if !clean[m.Finder] {
			clean[m.Finder] = true
			t.Run("no bug, "+m.Package+" "+m.Run+" "+m.Args, func(t *testing.T) {
				t.Parallel()
				if out, failed := m.find(root); failed {
					t.Fatalf("it fails without a bug:\n%s", out)
				}
			})
		}
		t.Run(m.Name, func(t *testing.T) {
			t.Parallel()
			out, failed := m.try(t, root)
			switch {
			case strings.Contains(out, "[build failed]") || strings.Contains(out, "[setup failed]"):
				t.Fatalf("the bug does not compile:\n%s", out)
			case !failed:
				t.Fatalf("%s %s %s does not find it", m.Package, m.Run, m.Args)
			}
			t.Logf("found by %s", finding(out))
		})
	}
}

// try runs the finder on a build with the bug.
func (m Mutant) try(t *testing.T, root string) (out string, failed bool) {
	dir := t.TempDir()
	file := filepath.Join(root, m.File)
	source, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	mutated := filepath.Join(dir, "mutated.go")
	overlay := filepath.Join(dir, "overlay.json")
	doc, err := json.Marshal(map[string]any{"Replace": map[string]string{file: mutated}})
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{mutated: []byte(strings.Replace(string(source), m.Old, m.New, 1)), overlay: doc} {
		if err := os.WriteFile(name, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return m.find(root, "-overlay", overlay)
}

// find runs the test that finds something, or nothing.
func (f Finder) find(root string, flags ...string) (out string, failed bool) {
	args := append([]string{"test", "-count=1", "-timeout=3m", "-vet=off", "-run", f.Run}, flags...)
	if args = append(args, f.Package); f.Args != "" {
		args = append(append(args, "-args"), strings.Fields(f.Args)...)
	}
	cmd := exec.Command("go", args...)
	cmd.Dir = root
	b, err := cmd.CombinedOutput()
	return string(b), err != nil
}

// finding is the test that failed, with the seed if that is a part of its name.
func finding(out string) string {
	_, after, _ := strings.Cut(out[max(0, strings.LastIndex(out, "--- FAIL: ")):], "--- FAIL: ")
	name, _, _ := strings.Cut(after, " ")
	return cmp.Or(name, "a panic")
}

// TestTableIsTrue: every bug is still a change of what it names, and there are enough of them.
func TestTableIsTrue(t *testing.T) {
	if len(Mutants) < 25 {
		t.Errorf("%d bugs, want 25 at least", len(Mutants))
	}
	names := map[string]bool{}
	for _, m := range Mutants {
		if names[m.Name] {
			t.Errorf("%q is there twice", m.Name)
		}
		names[m.Name] = true
		b, err := os.ReadFile(filepath.Join("../..", m.File))
		if err != nil {
			t.Error(err)
			continue
		}
		if n := strings.Count(string(b), m.Old); n != 1 || m.Old == m.New {
			t.Errorf("%q: the text is %d times in %s", m.Name, n, m.File)
		}
	}
}

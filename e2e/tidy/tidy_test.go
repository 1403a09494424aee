package tidy

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	functionMax = 70
	fileMax     = 500
)

// source is one parsed file.
type source struct {
	path string // below the root
	pkg  string // folder below the root
	file *ast.File
	set  *token.FileSet
	test bool
}

func (s *source) lines(n ast.Node) int {
	return s.set.Position(n.End()).Line - s.set.Position(n.Pos()).Line + 1
}

// imports lists what the file imports, packages of ours without the module's name.
func (s *source) imports() (out []string) {
	for _, i := range s.file.Imports {
		path, _ := strconv.Unquote(i.Path.Value) // the parser has accepted it
		out = append(out, path)
	}
	return out
}

// tree parses every file that is not generated.
func tree(t *testing.T) []*source {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	var out []*source
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") && path != root || d.Name() == "bin" || d.Name() == "testdata") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, ".pb.go") {
			return nil
		}
		set := token.NewFileSet()
		f, err := parser.ParseFile(set, path, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		out = append(out, &source{path: rel, pkg: filepath.Dir(rel), file: f, set: set, test: strings.HasSuffix(rel, "_test.go")})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(out) < 100 {
		t.Fatalf("only %d files below %s", len(out), root)
	}
	return out
}

// may lists, for the longest folder that a package lies in, what it may import of ours.
var may = []struct {
	folder  string
	imports []string
}{
	{"api/client", []string{"api", "api/machine", "api/pb"}},
	{"api/machine", []string{"api", "api/pb", "durable"}},
	{"api/pb", []string{"api"}},
	{"api", nil},
	{"durable", nil},
	{"manifest", []string{"api"}},
	{"scheduler", []string{"api"}},
	{"raftstore/state", []string{"api"}},
	{"raftstore/boltlog", nil},
	{"raftstore/keyring", []string{"api", "durable"}},
	{"raftstore", []string{"api", "api/pb", "durable", "raftstore/*"}},
	{"server/steps", []string{"api", "raftstore/state", "server/steps"}},
	{"server/control", []string{"api", "api/machine", "api/pb", "manifest", "raftstore", "raftstore/state"}},
	{"server/rest", []string{"api", "api/client", "manifest"}},
	{"server/dispatch", []string{"api", "api/pb", "raftstore", "raftstore/state"}},
	{"server/auth", []string{"api", "api/machine", "api/pb", "raftstore", "raftstore/state"}},
	{"server/link", []string{"api", "api/machine", "raftstore"}},
	{"server/gossip", []string{"api"}},
	{"server/registry", []string{"api"}},
	{"server/objects", []string{"api", "durable"}},
	{"server", []string{"api", "api/machine", "api/pb", "raftstore", "raftstore/*", "scheduler", "server/*"}},
	{"runtime/logfmt", nil},
	{"runtime/containerd", []string{"api", "runtime", "runtime/logfmt"}},
	{"runtime", []string{"api", "runtime", "runtime/*"}},
	{"agent/logs", []string{"api", "runtime/logfmt"}},
	{"agent/exec", []string{"api", "api/pb", "runtime"}},
	{"agent/build", []string{"api", "api/machine"}},
	{"agent/router", []string{"api", "durable"}},
	{"agent/health", []string{"api"}},
	{"agent/network", []string{"api"}},
	{"agent/dns", []string{"api"}},
	{"agent/fingerprint", []string{"api"}},
	{"agent", []string{"api", "api/pb", "runtime", "runtime/logfmt", "agent/*"}},
	{"cmd/slipway", []string{"api", "api/client", "durable", "manifest"}},
	{"cmd/sliplog", []string{"runtime/logfmt"}},
}

func within(pkg, folder string) bool { return pkg == folder || strings.HasPrefix(pkg, folder+"/") }

func TestImportDirections(t *testing.T) {
	for _, s := range tree(t) {
		if s.test {
			continue
		}
		var rule []string
		found := false
		for _, m := range may {
			if within(s.pkg, m.folder) {
				rule, found = m.imports, true
				break
			}
		}
		if !found {
			continue // cmd/slipwayd and e2e see everything
		}
		for _, path := range s.imports() {
			ours, ok := strings.CutPrefix(path, "slipway/")
			if !ok {
				continue
			}
			allowed := slices.ContainsFunc(rule, func(r string) bool {
				folder, wild := strings.CutSuffix(r, "/*")
				return ours == r || wild && within(ours, folder)
			})
			if !allowed {
				t.Errorf("%s imports %s; %s may import %q", s.path, ours, s.pkg, rule)
			}
		}
	}
}

// pure reports whether a file holds decisions only.
func pure(s *source) bool {
	return !s.test && (within(s.pkg, "scheduler") || within(s.pkg, "raftstore/state") ||
		within(s.pkg, "server/steps") && s.pkg != "server/steps/stepstest" || s.path == "agent/next.go")
}

func TestPureCodeDoesNothing(t *testing.T) {
	forbidden := []string{"os", "net", "net/http", "log", "log/slog", "math/rand", "math/rand/v2", "crypto/rand", "sync", "context"}
	for _, s := range tree(t) {
		if !pure(s) {
			continue
		}
		for _, path := range s.imports() {
			if slices.Contains(forbidden, path) {
				t.Errorf("%s imports %s, but it is pure", s.path, path)
			}
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt:
				t.Errorf("%s starts a goroutine, but it is pure", s.set.Position(n.Pos()))
			case *ast.SelectorExpr:
				if x, ok := n.X.(*ast.Ident); ok && x.Name == "time" && slices.Contains([]string{"Now", "Since", "Until", "After", "AfterFunc", "Sleep", "Tick", "NewTimer", "NewTicker"}, n.Sel.Name) {
					t.Errorf("%s reads the clock, but it is pure", s.set.Position(n.Pos()))
				}
			}
			return true
		})
	}
}

func TestSizes(t *testing.T) {
	for _, s := range tree(t) {
		if n := s.lines(s.file); n > fileMax {
			t.Errorf("%s has %d lines, the limit is %d", s.path, n, fileMax)
		}
		if s.test {
			continue
		}
		for _, d := range s.file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && s.lines(f) > functionMax {
				t.Errorf("%s: %s has %d lines, the limit is %d", s.path, f.Name.Name, s.lines(f), functionMax)
			}
		}
	}
}

func TestEveryPackageHasOneComment(t *testing.T) {
	comments := map[string][]string{}
	for _, s := range tree(t) {
		if s.test {
			continue
		}
		if _, ok := comments[s.pkg]; !ok {
			comments[s.pkg] = nil
		}
		if s.file.Doc != nil {
			comments[s.pkg] = append(comments[s.pkg], s.path)
		}
	}
	for pkg, files := range comments {
		if len(files) != 1 {
			t.Errorf("package %s has %d package comments: %q", pkg, len(files), files)
		}
	}
}

func TestExportedNamesHaveComments(t *testing.T) {
	for _, s := range tree(t) {
		if s.test || s.file.Name.Name == "main" {
			continue
		}
		for _, d := range s.file.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				oneLiner := d.Recv != nil && s.lines(d) == 1 // a row in a table of methods
				if d.Name.IsExported() && d.Doc == nil && exportedReceiver(d) && !oneLiner {
					t.Errorf("%s: %s has no comment", s.path, d.Name.Name)
				}
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					if ts, ok := spec.(*ast.TypeSpec); ok && ts.Name.IsExported() && d.Doc == nil && ts.Doc == nil && ts.Comment == nil {
						t.Errorf("%s: %s has no comment", s.path, ts.Name.Name)
					}
				}
			}
		}
	}
}

// exportedReceiver reports whether a function is reachable from outside: methods of unexported
// types implement interfaces, whose methods are documented there.
func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	typ := d.Recv.List[0].Type
	if star, ok := typ.(*ast.StarExpr); ok {
		typ = star.X
	}
	if index, ok := typ.(*ast.IndexExpr); ok {
		typ = index.X
	}
	id, ok := typ.(*ast.Ident)
	return ok && id.IsExported()
}

func TestNamesOfPackages(t *testing.T) {
	for _, s := range tree(t) {
		if slices.Contains([]string{"utils", "util", "common", "helpers", "misc", "types", "models", "structs", "base"}, s.file.Name.Name) {
			t.Errorf("%s: package %s is not named for what it provides", s.path, s.file.Name.Name)
		}
	}
}

// TestSleepsSayWhatFor: a test waits for a condition and prints what it saw. What sleeps all the
// same, because it polls, in virtual time or because a span is what is tested, says so.
func TestSleepsSayWhatFor(t *testing.T) {
	for _, s := range tree(t) {
		if !s.test {
			continue
		}
		said := map[int]bool{}
		for _, group := range s.file.Comments {
			said[s.set.Position(group.Pos()).Line] = true
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			if sel, ok := n.(*ast.SelectorExpr); ok && sel.Sel.Name == "Sleep" {
				x, ok := sel.X.(*ast.Ident)
				if at := s.set.Position(n.Pos()); ok && x.Name == "time" && !said[at.Line] {
					t.Errorf("%s:%d sleeps; wait for a condition, or say on its line what for (polls, virtual, …)", s.path, at.Line)
				}
			}
			return true
		})
	}
}

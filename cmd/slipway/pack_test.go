package main

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"github.com/tonistiigi/fsutil"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"slipway/api"
)

// writeTree makes files in a new directory; a name that ends in "/" is a directory, and content
// that begins with "->" makes a link.
func writeTree(t testing.TB, dir string, files map[string]string) string {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, name)
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		to, isLink := strings.CutPrefix(text, "->")
		switch {
		case strings.HasSuffix(name, "/"):
			err = errors.Join(err, os.MkdirAll(path, 0o755))
		case isLink:
			err = errors.Join(err, os.Symlink(to, path))
		default:
			err = errors.Join(err, os.WriteFile(path, []byte(text), 0o644))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// sent packs a directory and reads the archive back.
func sent(t testing.TB, dir string, keep ...string) (headers map[string]tar.Header, p packed) {
	t.Helper()
	s, err := openSource(dir, keep...)
	if err != nil {
		t.Fatal(err)
	}
	if p, err = s.digest(t.Context()); err != nil {
		t.Fatal(err)
	}
	r := s.reader(t.Context(), p)
	defer r.Close()
	z, err := zstd.NewReader(r)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	headers = map[string]tar.Header{}
	for tr := tar.NewReader(z); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return headers, p
		}
		if err != nil {
			t.Fatal(err)
		}
		headers[h.Name] = *h
	}
}

// filesOf lists what is not a directory.
func filesOf(headers map[string]tar.Header) (out []string) {
	for name := range headers {
		if !strings.HasSuffix(name, "/") {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

func TestPackHonoursDockerignore(t *testing.T) {
	t.Parallel()
	tree := map[string]string{
		"Dockerfile": "FROM x", "convox.yml": "services: {}", "main.go": "x", "README.md": "x", "NOTES.md": "x", "temp1": "x",
		"docs/a.md": "x", "docs/deep/b.md": "x", "docs/deep/temp2": "x", "node_modules/a/index.js": "x", "node_modules/keep/index.js": "x",
		"app/Dockerfile.prod": "FROM x", "app/main.go": "x", "a b": "x", ".git/HEAD": "x",
	}
	for name, c := range map[string]struct {
		ignore string
		gone   []string // all others are sent
	}{
		"nothing":         {"", nil},
		"comments":        {"# main.go\n\n   \n#", nil},
		"byte order mark": {"\ufeffmain.go\n", []string{"main.go"}},
		"a directory":     {"node_modules\n.git/\n", []string{"node_modules/a/index.js", "node_modules/keep/index.js", ".git/HEAD"}},
		"from the root":   {"/docs\n./main.go\n", []string{"docs/a.md", "docs/deep/b.md", "docs/deep/temp2", "main.go"}},
		"only the root":   {"*.md\ntemp?\n", []string{"README.md", "NOTES.md", "temp1"}},
		"any depth":       {"**/*.md\n**/temp?\n", []string{"README.md", "NOTES.md", "temp1", "docs/a.md", "docs/deep/b.md", "docs/deep/temp2"}},
		"one level":       {"*/*.md\n", []string{"docs/a.md"}},
		"an exception":    {"*.md\n!README.md\n", []string{"NOTES.md"}},
		"the last wins":   {"*.md\n!README.md\nREADME*\n", []string{"NOTES.md", "README.md"}},
		"below ignored":   {"node_modules\n!node_modules/keep\n", []string{"node_modules/a/index.js"}},
		"wild exception":  {"docs\n!**/b.md\n", []string{"docs/a.md", "docs/deep/temp2"}},
		"a space":         {"a b\n", []string{"a b"}},
		"a class":         {"[RN]*.md\n", []string{"README.md", "NOTES.md"}},
		// What the build needs is sent, whatever is ignored.
		"needed": {"Dockerfile\nconvox.yml\n.dockerignore\napp\n", []string{"app/main.go"}},
		"everything": {"*\n!main.go\n", []string{"README.md", "NOTES.md", "temp1", "docs/a.md", "docs/deep/b.md", "docs/deep/temp2",
			"node_modules/a/index.js", "node_modules/keep/index.js", "app/main.go", "a b", ".git/HEAD"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := writeTree(t, t.TempDir(), tree)
			writeTree(t, dir, map[string]string{ignoreFile: c.ignore})
			headers, p := sent(t, dir, "Dockerfile", "convox.yml", "./app/Dockerfile.prod")
			want := []string{ignoreFile}
			for name := range tree {
				if !slices.Contains(c.gone, name) {
					want = append(want, name)
				}
			}
			slices.Sort(want)
			if diff := cmp.Diff(want, filesOf(headers)); diff != "" {
				t.Error(diff)
			}
			if p.files != len(want) {
				t.Errorf("%d files are counted, %d were sent", p.files, len(want))
			}
		})
	}
}

// TestPackIgnoresAsDockerDoes compares with the code that docker build and BuildKit use.
func TestPackIgnoresAsDockerDoes(t *testing.T) {
	t.Parallel()
	part := rapid.SampledFrom([]string{"a", "b", "ab", "c.md"})
	path := rapid.Custom(func(t *rapid.T) string { return strings.Join(rapid.SliceOfN(part, 1, 3).Draw(t, "path"), "/") })
	glob := rapid.SampledFrom([]string{"a", "b", "ab", "c.md", "*", "**", "?", "*.md", "a*", "[ab]"})
	pattern := rapid.Custom(func(t *rapid.T) string {
		return rapid.SampledFrom([]string{"", "", "!"}).Draw(t, "not") + strings.Join(rapid.SliceOfN(glob, 1, 3).Draw(t, "pattern"), "/")
	})
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp("", "slippack")
		if err != nil {
			rt.Fatal(err)
		}
		defer os.RemoveAll(dir)
		for _, p := range rapid.SliceOfN(path, 1, 8).Draw(rt, "files") {
			if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(p)), 0o755); err != nil {
				continue // a file is in the way
			}
			_ = os.WriteFile(filepath.Join(dir, p), nil, 0o600) // a directory may be in the way
		}
		patterns := rapid.SliceOfN(pattern, 1, 4).Draw(rt, "patterns")
		writeTree(t, dir, map[string]string{ignoreFile: strings.Join(patterns, "\n")})

		all, err := fsutil.NewFS(dir)
		if err != nil {
			rt.Fatal(err)
		}
		filtered, err := fsutil.NewFilterFS(all, &fsutil.FilterOpt{ExcludePatterns: patterns})
		if err != nil {
			rt.Fatal(err)
		}
		want := []string{ignoreFile}
		err = filtered.Walk(t.Context(), "", func(path string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() && path != ignoreFile {
				want = append(want, filepath.ToSlash(path))
			}
			return err
		})
		if err != nil {
			rt.Fatal(err)
		}
		slices.Sort(want)
		headers, _ := sent(t, dir)
		if diff := cmp.Diff(want, filesOf(headers)); diff != "" {
			rt.Errorf("patterns %q: %s", patterns, diff)
		}
	})
}

func TestPackDigestTellsWhatChanged(t *testing.T) {
	t.Parallel()
	when := time.Unix(1_600_000_000, 123)
	pack := func(change func(dir string)) string {
		dir := writeTree(t, t.TempDir(), map[string]string{"a": "one", "dir/b": "two", "link": "->dir/b", "empty/": "", "skip.tmp": fmt.Sprint(t.TempDir()), ignoreFile: "*.tmp"})
		for _, name := range []string{"a", "dir/b", ignoreFile} {
			if err := os.Chtimes(filepath.Join(dir, name), when, when); err != nil {
				t.Fatal(err)
			}
		}
		link := filepath.Join(dir, "link")
		if err := lutimes(link, when); err != nil {
			t.Fatal(err)
		}
		change(dir)
		headers, p := sent(t, dir)
		if h := headers["a"]; h.Uid != 0 || h.Gid != 0 || h.Uname != "" {
			t.Errorf("the archive tells the owner: %+v", h)
		}
		return p.digest
	}
	same := pack(func(string) {})
	rewrite := func(text string) func(string) {
		return func(dir string) {
			a := filepath.Join(dir, "a")
			if err := errors.Join(os.WriteFile(a, []byte(text), 0o644), os.Chtimes(a, when, when)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, c := range map[string]struct {
		change func(dir string)
		same   bool
	}{
		"nothing":   {func(string) {}, true},
		"rewritten": {rewrite("one"), true},
		"ignored":   {func(dir string) { writeTree(t, dir, map[string]string{"more.tmp": "x"}) }, true},
		"content":   {rewrite("eno"), false},
		"new file":  {func(dir string) { writeTree(t, dir, map[string]string{"c": ""}) }, false},
		"mode":      {func(dir string) { _ = os.Chmod(filepath.Join(dir, "a"), 0o755) }, false},
		"another link": {func(dir string) {
			_ = os.Remove(filepath.Join(dir, "link"))
			_ = os.Symlink("a", filepath.Join(dir, "link"))
		}, false},
	} {
		if got := pack(c.change); (got == same) != c.same {
			t.Errorf("%s: digest equal %v, want %v", name, got == same, c.same)
		}
	}
}

func TestPackKeepsWhatFilesAre(t *testing.T) {
	t.Parallel()
	dir := writeTree(t, t.TempDir(), map[string]string{"run": "#!/bin/sh", "up": "->../../etc/passwd", "empty/": "", "täxt ..x": ""})
	if err := os.Chmod(filepath.Join(dir, "run"), 0o4755); err != nil {
		t.Fatal(err)
	}
	if err := mkfifo(filepath.Join(dir, "pipe")); err != nil {
		t.Fatal(err)
	}
	outside := filepath.Join(t.TempDir(), "current")
	if err := os.Symlink(dir, outside); err != nil {
		t.Fatal(err)
	}
	headers, _ := sent(t, outside) // the root may be a link
	for name, want := range map[string]tar.Header{
		"run": {Typeflag: tar.TypeReg, Mode: 0o755, Size: 9}, "up": {Typeflag: tar.TypeSymlink, Mode: 0o777, Linkname: "../../etc/passwd"},
		"empty/": {Typeflag: tar.TypeDir, Mode: 0o755}, "täxt ..x": {Typeflag: tar.TypeReg, Mode: 0o644},
	} {
		got := headers[name]
		if got.Typeflag != want.Typeflag || got.Mode != want.Mode || got.Size != want.Size || got.Linkname != want.Linkname {
			t.Errorf("%s: %+v", name, got)
		}
		if !strings.HasSuffix(name, "/") && time.Since(got.ModTime) > time.Hour {
			t.Errorf("%s: was written at %s", name, got.ModTime)
		}
	}
	if len(headers) != 4 {
		t.Errorf("sent: %v", headers)
	}
}

// TestSourceOfAStranger holds files that lead to those of the user.
func TestSourceOfAStranger(t *testing.T) {
	t.Parallel()
	secret := filepath.Join(writeTree(t, t.TempDir(), map[string]string{"key": "services: {web: {image: canary}}"}), "key")
	for name, files := range map[string]map[string]string{
		"ignore file":          {ignoreFile: "->" + secret},
		"manifest":             {"convox.yml": "->" + secret, "slipway.yml": "->nothing"},
		"manifest, up":         {"slipway.yml": "->../" + strings.Repeat("../", 20) + secret},
		"manifest, via a link": {"slipway.yml": "->d/key", "d": "->" + filepath.Dir(secret)},
	} {
		dir := writeTree(t, t.TempDir(), files)
		_, err := openSource(dir)
		if name != "ignore file" {
			_, err = readManifest(dir, "")
		}
		if api.CodeOf(err) != api.CodeInvalid || !strings.Contains(fmt.Sprint(err), "leads out") {
			t.Errorf("%s: code %q: %v", name, api.CodeOf(err), err)
		}
	}
	dir := writeTree(t, t.TempDir(), map[string]string{"slipway.yml": "->conf/app.yml", "conf/app.yml": "services: {}", ignoreFile: "->conf/ignore", "conf/ignore": "x"})
	if m, err := readManifest(dir, ""); err != nil || m.text != "services: {}" {
		t.Errorf("a link inside: %+v, %v", m, err)
	}
	if _, err := openSource(dir); err != nil {
		t.Errorf("a link inside: %v", err)
	}
	if m, err := readManifest(dir, secret); err != nil || !strings.Contains(m.text, "canary") {
		t.Errorf("a manifest that the user names: %+v, %v", m, err)
	}
}

func TestPackFailsClearly(t *testing.T) {
	t.Parallel()
	if _, err := openSource(writeTree(t, t.TempDir(), map[string]string{ignoreFile: "[a\n"})); err == nil || !strings.Contains(err.Error(), ignoreFile) {
		t.Errorf("a broken pattern: %v", err)
	}
	dir := writeTree(t, t.TempDir(), map[string]string{"a": "x"})
	s, err := openSource(dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.digest(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if err := copyFile(io.Discard, filepath.Join(dir, "a"), 2); err == nil || !strings.Contains(err.Error(), "became shorter") {
		t.Errorf("a file that shrinks: %v", err)
	}
	var grown bytes.Buffer
	if err := copyFile(&grown, filepath.Join(dir, "a"), 0); err != nil || grown.Len() != 0 {
		t.Errorf("a file that grows: %q, %v", grown.String(), err)
	}
}

// TestLargeSourceIsPackedAgain sends one that is not kept.
func TestLargeSourceIsPackedAgain(t *testing.T) {
	t.Parallel()
	s, err := openSource(writeTree(t, t.TempDir(), map[string]string{"a": "one", "b": "two"}))
	if err != nil {
		t.Fatal(err)
	}
	small, err := s.digest(t.Context())
	if err != nil || small.archive == nil {
		t.Fatalf("a small archive is not kept: %v", err)
	}
	s.spoolMax = len(small.archive) - 1
	large, err := s.digest(t.Context())
	if err != nil || large.archive != nil || large.digest != small.digest {
		t.Fatalf("a large archive: kept %v, digest %s, want %s; %v", large.archive != nil, large.digest, small.digest, err)
	}
	for _, p := range []packed{small, large} {
		r := s.reader(t.Context(), p)
		sent, err := io.ReadAll(r)
		r.Close()
		if err != nil || fmt.Sprintf("sha256:%x", sha256.Sum256(sent)) != p.digest {
			t.Errorf("what is sent is not what was described: %d bytes, %v", len(sent), err)
		}
	}
}

// TestReaderThatIsClosedEndsThePacking gives up an upload in the middle.
func TestReaderThatIsClosedEndsThePacking(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "big"), bytes.Repeat([]byte("0123456789abcdef"), 1<<18), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := openSource(dir)
	if err != nil {
		t.Fatal(err)
	}
	r := s.reader(t.Context(), packed{})
	if _, err := r.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Read(make([]byte, 1)); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("read after the end: %v", err)
	}
}

func lutimes(path string, when time.Time) error {
	ts := []unix.Timespec{unix.NsecToTimespec(when.UnixNano()), unix.NsecToTimespec(when.UnixNano())}
	return unix.UtimesNanoAt(unix.AT_FDCWD, path, ts, unix.AT_SYMLINK_NOFOLLOW)
}

func mkfifo(path string) error { return unix.Mkfifo(path, 0o600) }

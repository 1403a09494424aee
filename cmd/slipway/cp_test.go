package main

import (
	"archive/tar"
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// entry is one entry of a tar.
type entry struct {
	name, link, text string
	kind             byte
}

func archive(t *testing.T, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Linkname: e.link, Typeflag: e.kind, Mode: 0o4777, Size: int64(len(e.text))}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(e.text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// What comes out of a process may be from an enemy: nothing is written outside of the target.
func TestCopyOutStaysInside(t *testing.T) {
	for name, entries := range map[string][]entry{
		"a path upwards":          {{name: "../../outside/file", text: "evil", kind: tar.TypeReg}},
		"an absolute path":        {{name: "/outside/file", text: "evil", kind: tar.TypeReg}},
		"through a link":          {{name: "x/link", link: "../outside", kind: tar.TypeSymlink}, {name: "x/link/file", text: "evil", kind: tar.TypeReg}},
		"through a link upwards":  {{name: "x", kind: tar.TypeDir}, {name: "x/a", link: "..", kind: tar.TypeSymlink}, {name: "x/a/../outside/file", text: "evil", kind: tar.TypeReg}},
		"over a link":             {{name: "x", link: "../outside/file", kind: tar.TypeSymlink}, {name: "x", text: "evil", kind: tar.TypeReg}},
		"a hard link":             {{name: "x/hard", link: "../outside/file", kind: tar.TypeLink}, {name: "x/hard", text: "evil", kind: tar.TypeReg}},
		"a device":                {{name: "x/device", kind: tar.TypeChar}},
		"a pipe":                  {{name: "x/pipe", kind: tar.TypeFifo}},
		"dots":                    {{name: "..", text: "evil", kind: tar.TypeReg}, {name: ".", text: "evil", kind: tar.TypeReg}, {name: "", text: "evil", kind: tar.TypeReg}},
		"a directory over a file": {{name: "x", text: "a", kind: tar.TypeReg}, {name: "x/y", text: "b", kind: tar.TypeReg}},
	} {
		dir := t.TempDir()
		for _, d := range []string{"outside", "target"} {
			if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(dir+"/outside/file", []byte("good"), 0o600); err != nil {
			t.Fatal(err)
		}
		root, err := os.OpenRoot(dir + "/target")
		if err != nil {
			t.Fatal(err)
		}
		_ = untar(root, bytes.NewReader(archive(t, entries...)), "copy") // refused or harmless, as the case may be
		root.Close()
		if text, err := os.ReadFile(dir + "/outside/file"); err != nil || string(text) != "good" {
			t.Errorf("%s: the file outside is %q: %v", name, text, err)
		}
		err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := d.Info()
			inside := strings.HasPrefix(path, dir+"/target") || path == dir || strings.HasPrefix(path, dir+"/outside")
			if !inside || info.Mode()&(fs.ModeDevice|fs.ModeNamedPipe|fs.ModeSetuid) != 0 {
				t.Errorf("%s: %s of mode %s was made", name, path, info.Mode())
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if left, err := os.ReadDir(dir + "/outside"); err != nil || len(left) != 1 {
			t.Errorf("%s: outside are %v", name, left)
		}
	}
	if err := untar(nil, strings.NewReader("no tar at all, and longer than one block"+strings.Repeat(".", 600)), "copy"); err == nil {
		t.Error("what is no tar was unpacked")
	}
}

// A name with a colon is a process only where it could be one.
func TestPlace(t *testing.T) {
	for arg, process := range map[string]string{"web:/tmp": "web", "pabcdefghij:x": "pabcdefghij"} {
		if p, ok := place(arg); !ok || string(p.Process) != process {
			t.Errorf("%q is %v %v", arg, p, ok)
		}
	}
	for _, arg := range []string{"file", "./web:x", "dir/web:x", ":x", "", "a.b:c", "../x:y"} {
		if p, ok := place(arg); ok {
			t.Errorf("%q is in process %q", arg, p.Process)
		}
	}
}

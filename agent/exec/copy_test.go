package exec

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"slipway/api"
)

// rooted makes a directory that stands for the root of a process, beside a canary that nothing
// may touch.
func rooted(t *testing.T) (root *os.Root, dir, canary string) {
	t.Helper()
	base := t.TempDir()
	dir, canary = filepath.Join(base, "root"), filepath.Join(base, "canary")
	for _, d := range []string{dir, canary} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(canary, "secret"), []byte("of the node"), 0o600); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		root.Close()
		b, err := os.ReadFile(filepath.Join(canary, "secret"))
		list, _ := os.ReadDir(canary)
		if string(b) != "of the node" || err != nil || len(list) != 1 {
			t.Errorf("the canary has %v and %q, %v", list, b, err)
		}
		filepath.WalkDir(dir, func(name string, _ fs.DirEntry, _ error) error {
			if strings.Contains(name, ".slipway-") {
				t.Errorf("left %s", name)
			}
			return nil
		})
	})
	return root, dir, canary
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// archive makes a tar.
func archive(t *testing.T, entries ...tar.Header) *bytes.Buffer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range entries {
		text := ""
		if h.Typeflag == tar.TypeReg {
			text = "new"
			h.Size = int64(len(text))
		}
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		must(t, w.WriteHeader(&h))
		_, err := io.WriteString(w, text)
		must(t, err)
	}
	must(t, w.Close())
	return &b
}

// names lists a tar.
func names(t *testing.T, r io.Reader) (out []string) {
	t.Helper()
	in := tar.NewReader(r)
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		must(t, err)
		out = append(out, h.Name)
	}
}

func TestCopyThereAndBack(t *testing.T) {
	from, dir, _ := rooted(t)
	must(t, os.MkdirAll(dir+"/srv/app/sub", 0o755))
	must(t, os.WriteFile(dir+"/srv/app/run", []byte("#!"), 0o755))
	must(t, os.WriteFile(dir+"/srv/app/.env", []byte("A=b"), 0o600))
	must(t, os.WriteFile(dir+"/srv/app/sub/big", bytes.Repeat([]byte("x"), 1<<20), 0o644))
	must(t, os.Symlink("/srv/app/run", dir+"/srv/app/link"))
	must(t, syscall.Mkfifo(dir+"/srv/app/pipe", 0o644))
	var b bytes.Buffer
	must(t, copyOut(from, "/srv/app", &b))
	if got := names(t, bytes.NewReader(b.Bytes())); !slices.Equal(got, []string{"app/", "app/.env", "app/link", "app/run", "app/sub/", "app/sub/big"}) {
		t.Errorf("the tar has %q", got)
	}
	to, target, _ := rooted(t)
	must(t, copyIn(to, "/var/copy", &b))
	for name, want := range map[string]struct {
		size int64
		mode fs.FileMode
	}{"run": {2, 0o755}, ".env": {3, 0o600}, "sub/big": {1 << 20, 0o644}} {
		info, err := os.Stat(filepath.Join(target, "var/copy/app", name))
		if err != nil || info.Size() != want.size || info.Mode() != want.mode {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	if link, err := os.Readlink(target + "/var/copy/app/link"); link != "/srv/app/run" {
		t.Errorf("the link leads to %q, %v", link, err)
	}
}

func TestCopyOutOfTheRootKeepsNames(t *testing.T) {
	root, dir, _ := rooted(t)
	must(t, os.WriteFile(dir+"/.env", []byte("A=b"), 0o600))
	must(t, os.MkdirAll(dir+"/etc", 0o755))
	must(t, os.WriteFile(dir+"/etc/passwd", nil, 0o644))
	for from, want := range map[string][]string{
		"/.env": {".env"}, "/": {"root/", "root/.env", "root/etc/", "root/etc/passwd"}, "etc/../etc/": {"etc/", "etc/passwd"}, "/../../etc/passwd": {"passwd"},
	} {
		var b bytes.Buffer
		must(t, copyOut(root, from, &b))
		if got := names(t, &b); !slices.Equal(got, want) {
			t.Errorf("%s: the tar has %q, want %q", from, got, want)
		}
	}
	if err := copyOut(root, "/nothing", io.Discard); api.CodeOf(err) != api.CodeNotFound {
		t.Errorf("a path that is not there: %v", err)
	}
}

func TestLinksAreFollowedAsTheProcessWould(t *testing.T) {
	root, dir, canary := rooted(t)
	must(t, os.MkdirAll(dir+"/run/app", 0o755))
	must(t, os.MkdirAll(dir+"/var", 0o755))
	must(t, os.WriteFile(dir+"/run/app/pid", []byte("1"), 0o644))
	must(t, os.Symlink("/run", dir+"/var/run"))
	must(t, os.Symlink("../../../../run/app", dir+"/var/up"))
	must(t, os.Symlink(canary, dir+"/var/out"))
	must(t, os.Symlink("loop", dir+"/var/loop"))
	for from, want := range map[string]string{"/var/run/app/pid": "pid", "/var/up/pid": "pid", "/var/run": "run"} {
		var b bytes.Buffer
		must(t, copyOut(root, from, &b))
		if got := names(t, &b); len(got) != 1 || got[0] != want {
			t.Errorf("%s: the tar has %q", from, got)
		}
	}
	for _, from := range []string{"/var/out/secret", "/var/loop/x", "/var/run/app/pid/x"} {
		var b bytes.Buffer
		if err := copyOut(root, from, &b); api.CodeOf(err) != api.CodeNotFound || b.Len() > 0 {
			t.Errorf("%s: %v, %d bytes", from, err, b.Len())
		}
	}
	must(t, copyIn(root, "/var/run/new", archive(t, tar.Header{Typeflag: tar.TypeReg, Name: "x"})))
	if _, err := os.Stat(dir + "/run/new/x"); err != nil {
		t.Errorf("through an absolute link: %v", err)
	}
	// What a link names outside is made inside, where the process would make it.
	must(t, copyIn(root, "/var/out", archive(t, tar.Header{Typeflag: tar.TypeReg, Name: "x"})))
	if _, err := os.Stat(filepath.Join(dir, canary, "x")); err != nil {
		t.Errorf("through a link out: %v", err)
	}
}

func TestArchivesStayBelowTheRoot(t *testing.T) {
	file := func(name string) tar.Header { return tar.Header{Typeflag: tar.TypeReg, Name: name} }
	for name, c := range map[string]struct {
		entries func(canary string) []tar.Header
		want    string // a file below the root; empty is an error
	}{
		"names that go up": {func(string) []tar.Header { return []tar.Header{file("../../../../x")} }, "in/x"},
		"absolute names":   {func(c string) []tar.Header { return []tar.Header{file(c + "/x")} }, "in/CANARY/x"},
		"up in the middle": {func(string) []tar.Header { return []tar.Header{file("a/../../../x")} }, "in/x"},
		"through a link": {func(c string) []tar.Header {
			return []tar.Header{{Typeflag: tar.TypeSymlink, Name: "l", Linkname: c}, file("l/x")}
		}, ""},
		"over a link": {func(c string) []tar.Header {
			return []tar.Header{{Typeflag: tar.TypeSymlink, Name: "l", Linkname: c + "/secret"}, file("l")}
		}, "in/l"},
		"through a link up": {func(string) []tar.Header {
			return []tar.Header{{Typeflag: tar.TypeSymlink, Name: "l", Linkname: "../../canary"}, file("l/secret")}
		}, ""},
		"hard links": {func(c string) []tar.Header {
			return []tar.Header{{Typeflag: tar.TypeLink, Name: "l", Linkname: c + "/secret"}, file("l")}
		}, "in/l"},
		"the directory itself": {func(string) []tar.Header { return []tar.Header{file(".")} }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			root, dir, canary := rooted(t)
			err := copyIn(root, "/in", archive(t, c.entries(canary)...))
			if c.want == "" {
				if api.CodeOf(err) != api.CodeInvalid {
					t.Errorf("got %v, want an error", err)
				}
				return
			}
			info, there := os.Lstat(filepath.Join(dir, strings.ReplaceAll(c.want, "CANARY", canary)))
			if err != nil || there != nil || !info.Mode().IsRegular() {
				t.Errorf("%s: %v, %v, %v", c.want, info, err, there)
			}
		})
	}
}

func TestPipesAndDevicesAreNotOpened(t *testing.T) {
	root, dir, _ := rooted(t)
	must(t, syscall.Mkfifo(dir+"/pipe", 0o644))
	bad := []string{"pipe"}
	if os.Geteuid() == 0 {
		must(t, syscall.Mknod(dir+"/null", syscall.S_IFCHR|0o666, 1<<8|3))
		bad = append(bad, "null")
	}
	for _, name := range bad {
		if f, _, err := openRegular(root, name); err == nil { // as when it was swapped after a look
			f.Close()
			t.Errorf("%s was opened", name)
		}
		must(t, copyIn(root, "/", archive(t, tar.Header{Typeflag: tar.TypeReg, Name: name})))
		if info, err := os.Lstat(filepath.Join(dir, name)); err != nil || !info.Mode().IsRegular() || info.Size() != 3 {
			t.Errorf("%s is now %v, %v", name, info, err)
		}
	}
}

func TestReplacedFilesKeepTheirOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	root, dir, _ := rooted(t)
	must(t, os.WriteFile(dir+"/config", []byte("old"), 0o600))
	must(t, os.Chown(dir+"/config", 1000, 1001))
	must(t, copyIn(root, "/", archive(t, tar.Header{Typeflag: tar.TypeReg, Name: "config", Mode: 0o4640})))
	info, err := os.Stat(dir + "/config")
	must(t, err)
	if s := info.Sys().(*syscall.Stat_t); s.Uid != 1000 || s.Gid != 1001 || info.Mode() != 0o640 {
		t.Errorf("owner %d:%d, mode %s", s.Uid, s.Gid, info.Mode())
	}
}

// A gibibyte without a block, by GNU tar --sparse, in both of its formats.
var sparse = map[string]string{
	"gnu":   "H4sIAAAAAAACA+3QQQrCQAwF0DnKHKFjUz2IJ3BRcCEMtPX+Dl0VFwqFupD3Nj8kgUDu9TGmg3XNOWLN5j3Xugx9VyIucWr90g9RUr6mH3jOy23KOU21Lp/2vs13K5svbD9yyAEAAAAAAAAAAAD+xAshawYiACgAAA==",
	"posix": "H4sIAAAAAAACA+3UzUrEMBQF4KzzFH2C9N78NJ1Ft+pKBPEBggastNMhqTD49MauxoozC4eBwfNtUs7NoiE9VfVD2N/F8BJTrl+nIYrzo6KxdlmL9UqmPLMzxNZ6q0vOzJZEtRcX8J7nkMqriP9J6+r2/knlXUg5qjG8TaljuUr7bUlJanuYbsMYu68vRppveYphyP1H7Ji88ZZbbaWhapz7sp/9xjnvXNOqdsOebMPLNBydPv8+FfAnqi5X97jc3E0/RMWNpvbMP4IT/Wf60X+39J8u2f80TfOxfafm68NdCZYHNSXUCQAAAAAAAAAAAAAAAAAAAODafAIg+P5ZACgAAA==",
}

func TestArchivesThatAreBroken(t *testing.T) {
	for name, text := range sparse {
		root, dir, _ := rooted(t)
		packed, err := base64.StdEncoding.DecodeString(text)
		must(t, err)
		z, err := gzip.NewReader(bytes.NewReader(packed))
		must(t, err)
		if err := copyIn(root, "/", z); api.CodeOf(err) != api.CodeInvalid || !strings.Contains(err.Error(), "sparse") {
			t.Errorf("%s: got %v", name, err)
		}
		if info, err := os.Stat(dir + "/hole"); err == nil {
			t.Errorf("%s: made %d bytes", name, info.Size())
		}
	}
	whole := archive(t, tar.Header{Typeflag: tar.TypeReg, Name: "file"}).Bytes()
	for name, b := range map[string][]byte{"cut off": whole[:513], "garbage": bytes.Repeat([]byte("garbage "), 200)} {
		root, dir, _ := rooted(t)
		if err := copyIn(root, "/", bytes.NewReader(b)); api.CodeOf(err) != api.CodeInvalid {
			t.Errorf("%s: got %v", name, err)
		}
		if list, _ := os.ReadDir(dir); len(list) > 0 {
			t.Errorf("%s: left %v", name, list)
		}
	}
}

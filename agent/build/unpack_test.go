package build

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"slipway/api"
)

// entry is one member of an archive under test.
type entry struct {
	tar.Header
	content string
}

func archive(t *testing.T, entries ...entry) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, e := range entries {
		h := e.Header
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if h.Mode == 0 && h.Typeflag != tar.TypeXGlobalHeader {
			h.Mode = 0o644
		}
		if h.Typeflag == tar.TypeReg && h.Size == 0 {
			h.Size = int64(len(e.content))
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatalf("entry %q: %v", h.Name, err)
		}
		if _, err := io.WriteString(w, e.content); err != nil {
			t.Fatalf("entry %q: %v", h.Name, err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func file(name, content string) entry { return entry{tar.Header{Name: name}, content} }

func link(kind byte, name, target string) entry {
	return entry{tar.Header{Typeflag: kind, Name: name, Linkname: target}, ""}
}

func TestUnpackSoundArchives(t *testing.T) {
	t.Parallel()
	when := time.Unix(1_500_000_000, 0)
	plain := archive(t,
		entry{tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": "a commit"}}, ""},
		entry{tar.Header{Typeflag: tar.TypeDir, Name: "./", Mode: 0o755}, ""},
		entry{tar.Header{Typeflag: tar.TypeDir, Name: "./bin/", Mode: 0o2755}, ""},
		entry{tar.Header{Name: "bin/run", Mode: 0o4755, Uid: 1000, ModTime: when}, "#!"},
		file("a/b/c", "deep"), file("a/b/c", "deeper"), file("täxt ..x", "odd but sound"),
		link(tar.TypeSymlink, "outside", "/etc/passwd"), link(tar.TypeLink, "a/twin", "bin/run"),
	)
	var packed, zpacked bytes.Buffer
	z := gzip.NewWriter(&packed)
	zz, err := zstd.NewWriter(&zpacked)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range []io.WriteCloser{z, zz} {
		if _, err := w.Write(plain); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}

	for name, data := range map[string][]byte{"tar": plain, "gzip": packed.Bytes(), "zstd": zpacked.Bytes()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if err := Unpack(t.Context(), bytes.NewReader(data), dir, Limits{}); err != nil {
				t.Fatal(err)
			}
			info, err := os.Stat(filepath.Join(dir, "a/twin"))
			if err != nil || info.Mode() != 0o755 || !info.ModTime().Equal(when) {
				t.Errorf("a/twin: %v, %v; want rwxr-xr-x and the archive's time", info, err)
			}
			if b, err := os.ReadFile(filepath.Join(dir, "a/b/c")); err != nil || string(b) != "deeper" {
				t.Errorf("the later entry should win: %q, %v", b, err)
			}
			if to, err := os.Readlink(filepath.Join(dir, "outside")); err != nil || to != "/etc/passwd" {
				t.Errorf("link leads to %q, %v", to, err)
			}
		})
	}
}

func TestUnpackRefusesHostileArchives(t *testing.T) {
	t.Parallel()
	dirLink := link(tar.TypeSymlink, "d", "..")
	long := strings.Repeat("x/", 2049) + "x"
	for name, c := range map[string]struct {
		entries []entry
		want    string
		code    api.Code
	}{
		"parent":                {[]entry{file("../x", "")}, "leads out", ""},
		"parent inside":         {[]entry{file("a/../../x", "")}, "leads out", ""},
		"absolute":              {[]entry{file("/etc/x", "")}, "absolute", ""},
		"write through link":    {[]entry{dirLink, file("d/x", "")}, "symbolic link", ""},
		"absolute link":         {[]entry{link(tar.TypeSymlink, "d", "/etc"), file("d/x", "")}, "symbolic link", ""},
		"link inside":           {[]entry{file("real/y", ""), link(tar.TypeSymlink, "d", "real"), file("d/x", "")}, "symbolic link", ""},
		"directory over link":   {[]entry{dirLink, {tar.Header{Typeflag: tar.TypeDir, Name: "d/", Mode: 0o755}, ""}}, "symbolic link", ""},
		"hard link to host":     {[]entry{link(tar.TypeLink, "x", "/etc/passwd")}, "absolute", ""},
		"hard link up":          {[]entry{link(tar.TypeLink, "x", "../../etc/passwd")}, "leads out", ""},
		"hard link via link":    {[]entry{dirLink, link(tar.TypeLink, "x", "d/y")}, "not a directory of the archive", ""},
		"hard link to link":     {[]entry{link(tar.TypeSymlink, "p", "/etc/passwd"), link(tar.TypeLink, "x", "p")}, "not a file", ""},
		"hard link to self":     {[]entry{link(tar.TypeLink, "x", "x")}, "itself", ""},
		"hard link to nothing":  {[]entry{link(tar.TypeLink, "x", "y")}, "no such file", ""},
		"character device":      {[]entry{{tar.Header{Typeflag: tar.TypeChar, Name: "null", Devmajor: 1, Devminor: 3}, ""}}, "neither", ""},
		"block device":          {[]entry{{tar.Header{Typeflag: tar.TypeBlock, Name: "disk"}, ""}}, "neither", ""},
		"fifo":                  {[]entry{{tar.Header{Typeflag: tar.TypeFifo, Name: "pipe"}, ""}}, "neither", ""},
		"newline":               {[]entry{file("a\nb", "")}, "control character", ""},
		"escape":                {[]entry{file("a\x1b[2Jb", "")}, "control character", ""},
		"invalid UTF-8":         {[]entry{file("a\xff", "")}, "UTF-8", ""},
		"long name":             {[]entry{file(long, "")}, "longer than 4096", ""},
		"long part":             {[]entry{file(strings.Repeat("x", 256), "")}, "more than 255", ""},
		"file below a file":     {[]entry{file("a", ""), file("a/b", "")}, "is not a directory", ""},
		"file over a directory": {[]entry{file("a/b", ""), file("a", "")}, "directory and something else", ""},
		"too many":              {[]entry{file("a", ""), file("b", ""), file("c", ""), file("d", "")}, "more than 3 entries", api.CodeExhausted},
		"too large":             {[]entry{file("a", strings.Repeat("x", 600)), file("b", strings.Repeat("x", 600))}, "more than 1 KiB", api.CodeExhausted},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			parent := t.TempDir()
			dir := filepath.Join(parent, "in")
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			code := c.code
			if code == "" {
				code = api.CodeInvalid
			}
			err := Unpack(t.Context(), bytes.NewReader(archive(t, c.entries...)), dir, Limits{Size: api.KiB, Entries: 3})
			if api.CodeOf(err) != code || !strings.Contains(fmt.Sprint(err), c.want) {
				t.Errorf("code %q, want %q with %q: %v", api.CodeOf(err), code, c.want, err)
			}
			if left, err := os.ReadDir(parent); err != nil || len(left) != 1 {
				t.Errorf("something was written outside: %v, %v", left, err)
			}
		})
	}
}

// TestUnpackRefusesBombs holds archives that no tar writer makes.
func TestUnpackRefusesBombs(t *testing.T) {
	t.Parallel()
	var zeros, sparse bytes.Buffer
	z := gzip.NewWriter(&zeros)
	w := tar.NewWriter(z)
	if err := w.WriteHeader(&tar.Header{Name: "zeros", Size: 200 << 20, Mode: 0o644}); err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(w, zeroReader{}, 200<<20); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	sparse.Write(sparseArchive("hole", 1<<40))

	window := []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa0} // a zstd frame that asks for a window of 1 GiB
	for name, c := range map[string]struct {
		data []byte
		code api.Code
	}{
		"ratio":        {zeros.Bytes(), api.CodeExhausted},
		"sparse":       {sparse.Bytes(), api.CodeExhausted},
		"zstd window":  {append(window, make([]byte, 64)...), api.CodeInvalid},
		"garbage":      {bytes.Repeat([]byte("garbage "), 200), api.CodeInvalid},
		"cut gzip":     {zeros.Bytes()[:1000], api.CodeInvalid},
		"gzip garbage": {append([]byte{0x1f, 0x8b}, "nonsense"...), api.CodeInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			err := Unpack(t.Context(), bytes.NewReader(c.data), dir, Limits{})
			if api.CodeOf(err) != c.code {
				t.Fatalf("code %q, want %q: %v", api.CodeOf(err), c.code, err)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Unpack(ctx, bytes.NewReader(zeros.Bytes()), t.TempDir(), Limits{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// sparseArchive is an old GNU sparse entry: no data, one hole of the given size.
func sparseArchive(name string, size int64) []byte {
	b := make([]byte, 1536)
	octal := func(at, width int, v int64) {
		b[at] = 0x80 // base-256
		for i := width - 1; i > 0; i-- {
			b[at+i] = byte(v)
			v >>= 8
		}
	}
	copy(b, name)
	octal(100, 8, 0o644)
	octal(124, 12, 0)
	octal(136, 12, 0)
	b[156] = 'S'
	copy(b[257:], "ustar  \x00")
	octal(386, 12, size) // one map entry: offset = size, length 0
	octal(398, 12, 0)
	octal(483, 12, size)
	copy(b[148:], "        ")
	sum := int64(0)
	for _, c := range b[:512] {
		sum += int64(c)
	}
	copy(b[148:], fmt.Sprintf("%06o\x00 ", sum))
	return b
}

type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func FuzzUnpack(f *testing.F) {
	f.Add([]byte("garbage"))
	f.Add(sparseArchive("hole", 1<<20))
	f.Fuzz(func(t *testing.T, data []byte) {
		parent := t.TempDir()
		dir := filepath.Join(parent, "in")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		_ = Unpack(t.Context(), bytes.NewReader(data), dir, Limits{Size: api.MiB, Entries: 100})
		if left, err := os.ReadDir(parent); err != nil || len(left) != 1 {
			t.Fatalf("something was written outside: %v, %v", left, err)
		}
	})
}

package build

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	goruntime "runtime"
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

func archive(t testing.TB, entries ...entry) []byte {
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
		entry{tar.Header{Typeflag: tar.TypeDir, Name: "./bin/", Mode: 0o2770}, ""},
		entry{tar.Header{Name: "bin/run", Mode: 0o4755, Uid: 1000, ModTime: when}, "#!"},
		file("a/b/c", "deep"), file("a/b/c", "deeper"), file("täxt ..x", "odd but sound"),
		link(tar.TypeSymlink, "outside", "/etc/passwd"), link(tar.TypeLink, "a/twin", "bin/run"),
	)
	for name, data := range map[string][]byte{"tar": plain, "gzip": packed(t, packGzip, plain), "zstd": packed(t, packZstd, plain)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if err := Unpack(t.Context(), bytes.NewReader(data), dir, Limits{}); err != nil {
				t.Fatal(err)
			}
			info, err := os.Stat(filepath.Join(dir, "a/twin"))
			if err != nil || info.Mode() != 0o755 || !info.ModTime().Truncate(time.Second).Equal(when) {
				t.Errorf("a/twin: %v, %v; want rwxr-xr-x and the archive's time", info, err)
			}
			if info, err := os.Stat(filepath.Join(dir, "bin")); err != nil || info.Mode() != fs.ModeDir|0o770 {
				t.Errorf("bin: %v, %v; want rwxrwx---", info, err)
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
		"too many":              {[]entry{file("a", ""), file("b", ""), file("c", ""), file("d", ""), file("e", "")}, "more than 4 entries", api.CodeExhausted},
		"too many implied":      {[]entry{file("a/b/c/d/e", "")}, "more than 4 entries", api.CodeExhausted},
		"too deep":              {[]entry{file(strings.Repeat("x/", 255)+"x", "")}, "more than 255 parts", ""},
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
			err := Unpack(t.Context(), bytes.NewReader(archive(t, c.entries...)), dir, Limits{Size: api.KiB, Entries: 4})
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
	zeros, zzeros := zeroArchive(t, packGzip, 200<<20), zeroArchive(t, packZstd, 200<<20)
	nested := packed(t, packGzip, archive(t, file("inner.tar.gz", string(zeros))))
	sound := packed(t, packGzip, archive(t, file("a", "b")))
	broken := bytes.Clone(sound)
	broken[len(broken)-6] ^= 1 // of the checksum, which comes after the end of the tar

	window := []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa0} // a zstd frame that asks for a window of 1 GiB
	for name, c := range map[string]struct {
		data []byte
		code api.Code
	}{
		"ratio":        {zeros, api.CodeExhausted},
		"zstd ratio":   {zzeros, api.CodeExhausted},
		"after end":    {packed(t, packGzip, append(archive(t, file("a", "b")), make([]byte, 100<<20)...)), api.CodeExhausted},
		"nested":       {nested, ""}, // the inner one stays a file
		"sparse":       {sparseArchive("hole", 1<<40), api.CodeExhausted},
		"sound":        {sound, ""},
		"checksum":     {broken, api.CodeInvalid},
		"zstd window":  {append(window, make([]byte, 64)...), api.CodeInvalid},
		"garbage":      {bytes.Repeat([]byte("garbage "), 200), api.CodeInvalid},
		"cut gzip":     {zeros[:1000], api.CodeInvalid},
		"cut at end":   {sound[:len(sound)-8], api.CodeInvalid},
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
	if err := Unpack(ctx, bytes.NewReader(zeros), t.TempDir(), Limits{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// A packer compresses.
type packer func(io.Writer) (io.WriteCloser, error)

func packGzip(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil }
func packZstd(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w) }

func packed(t testing.TB, pack packer, data []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	z, err := pack(&buf)
	if err == nil {
		_, err = z.Write(data)
	}
	if err == nil {
		err = z.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// zeroArchive holds one file of zeros.
func zeroArchive(t *testing.T, pack packer, size int64) []byte {
	t.Helper()
	var buf bytes.Buffer
	z, err := pack(&buf)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(z)
	if err := w.WriteHeader(&tar.Header{Name: "zeros", Size: size, Mode: 0o644}); err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(w, zeroReader{}, size); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// headers yields the headers of endless empty files, with names that are as long as they may be
// and directories that nobody else has.
type headers struct {
	rest []byte
	n    int
}

// Read implements io.Reader.
func (h *headers) Read(p []byte) (int, error) {
	if len(h.rest) == 0 {
		var buf bytes.Buffer
		w := tar.NewWriter(&buf)
		for range 100 {
			h.n++
			name := strings.Repeat(fmt.Sprintf("%0200d/", h.n), 20) + "x"
			if err := w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644}); err != nil {
				return 0, err
			}
		}
		h.rest = buf.Bytes()
	}
	n := copy(p, h.rest)
	h.rest = h.rest[n:]
	return n, nil
}

// TestUnpackBoundsWhatItCannotCount sends archives without an end.
func TestUnpackBoundsWhatItCannotCount(t *testing.T) {
	for name, c := range map[string]struct {
		archive io.Reader
		limits  Limits
		want    string
	}{
		"directories": {&headers{}, Limits{}, "names of the archive's directories"},
		"entries":     {&headers{}, Limits{Entries: 5000}, "more than 5000 entries"},
		"headers":     {globalHeaders(), Limits{Size: api.MiB, Entries: 1000}, "when it is decompressed"},
	} {
		t.Run(name, func(t *testing.T) {
			var before, after goruntime.MemStats
			goruntime.GC()
			goruntime.ReadMemStats(&before)
			err := Unpack(t.Context(), c.archive, t.TempDir(), c.limits)
			goruntime.ReadMemStats(&after)
			if api.CodeOf(err) != api.CodeExhausted || !strings.Contains(err.Error(), c.want) {
				t.Errorf("code %q, want exhausted with %q: %v", api.CodeOf(err), c.want, err)
			}
			if grown := int64(after.HeapSys) - int64(before.HeapSys); grown > 512<<20 {
				t.Errorf("the heap grew by %d MiB", grown>>20)
			}
		})
	}
}

// globalHeaders yields endless notes that are no files.
func globalHeaders() io.Reader {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	h := &tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": strings.Repeat("x", 900_000)}}
	if err := errors.Join(w.WriteHeader(h), w.Flush()); err != nil {
		panic(err)
	}
	return &repeated{data: buf.Bytes()}
}

type repeated struct {
	data []byte
	at   int
}

// Read implements io.Reader.
func (r *repeated) Read(p []byte) (int, error) {
	n := copy(p, r.data[r.at:])
	r.at = (r.at + n) % len(r.data)
	return n, nil
}

// TestUnpackTellsContentByTime keeps the engine from missing an edit.
func TestUnpackTellsContentByTime(t *testing.T) {
	t.Parallel()
	when := time.Unix(1_500_000_000, 999)
	seen := map[time.Time]string{}
	for _, text := range []string{"one", "two", "eno"} {
		dir := t.TempDir()
		data := archive(t, entry{tar.Header{Name: "f", ModTime: when}, text})
		if err := Unpack(t.Context(), bytes.NewReader(data), dir, Limits{}); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(filepath.Join(dir, "f"))
		if err != nil {
			t.Fatal(err)
		}
		if other, ok := seen[info.ModTime()]; ok || info.ModTime().Unix() != when.Unix() {
			t.Errorf("%q has the time %s, as has %q", text, info.ModTime(), other)
		}
		seen[info.ModTime()] = text
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

// FuzzUnpack lets nothing out of the directory, and nothing in but what Limits allow.
func FuzzUnpack(f *testing.F) {
	seeds := [][]entry{
		{file("a/b", "text"), link(tar.TypeSymlink, "l", "../x"), file("l/x", ""), link(tar.TypeLink, "h", "a/b"), file("h", "over")},
		{link(tar.TypeSymlink, "l", "/"), link(tar.TypeLink, "l/etc/x", "l"), {tar.Header{Typeflag: tar.TypeDir, Name: "l/", Mode: 0o7777}, ""}},
		{{tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": "x"}}, ""}, file("../x", ""), file("/x", "")},
		{{tar.Header{Name: "s", Mode: 0o6777, Uid: 7, PAXRecords: map[string]string{"SCHILY.xattr.user.x": "y"}}, "setuid"}, {tar.Header{Typeflag: tar.TypeFifo, Name: "p"}, ""}},
	}
	f.Add([]byte("garbage"))
	f.Add(sparseArchive("hole", 1<<20))
	for _, entries := range seeds {
		plain := archive(f, entries...)
		f.Add(plain)
		f.Add(packed(f, packGzip, plain))
		f.Add(packed(f, packZstd, plain))
	}
	limits := Limits{Size: api.MiB, Entries: 100}
	f.Fuzz(func(t *testing.T, data []byte) {
		parent := t.TempDir()
		dir := filepath.Join(parent, "in")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		err := Unpack(t.Context(), bytes.NewReader(data), dir, limits)
		if err != nil && api.CodeOf(err) != api.CodeInvalid && api.CodeOf(err) != api.CodeExhausted {
			t.Errorf("code %q: %v", api.CodeOf(err), err)
		}
		if left, err := os.ReadDir(parent); err != nil || len(left) != 1 {
			t.Fatalf("something was written outside: %v, %v", left, err)
		}
		checkUnpacked(t, dir, limits)
	})
}

// checkUnpacked looks at what an archive has become.
func checkUnpacked(t *testing.T, dir string, limits Limits) {
	t.Helper()
	entries, size := 0, int64(0)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		entries++
		switch mode := info.Mode(); {
		case mode&(fs.ModeDevice|fs.ModeNamedPipe|fs.ModeSocket|fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky) != 0:
			t.Errorf("%q is %s", path, mode)
		case mode.IsRegular():
			size += info.Size()
		}
		return nil
	})
	if err != nil || entries > limits.Entries || size > int64(limits.Size) {
		t.Errorf("%d entries, %d bytes; %v", entries, size, err)
	}
}

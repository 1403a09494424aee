package build

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/klauspost/compress/zstd"

	"slipway/api"
)

// Limits bound what one source archive may unpack to. Zero parts mean the defaults.
type Limits struct {
	Size    api.Bytes // of all files together, holes included
	Entries int       // in the archive, and directories that it only implies
	// Ratio is the largest factor by which the archive may grow when it is decompressed. It
	// counts after the first 64 MiB.
	Ratio int
}

const (
	sizeDefault    = 4 * api.GiB
	entriesDefault = 500_000
	ratioDefault   = 200
	ratioFrom      = 64 << 20

	pathMax      = 4096 // PATH_MAX
	componentMax = 255  // NAME_MAX
	depthMax     = 255  // parts of a name: each operation opens every one
	// namesMax bounds the memory for the names of directories, in bytes.
	namesMax = 32 << 20
	// entryOverhead is what an entry may add to the stream beside its content, in bytes: its
	// headers and padding, on average.
	entryOverhead = 8 << 10
	// windowMax bounds the memory that a zstd archive can make the decoder take.
	windowMax = 32 << 20
)

func (l *Limits) setDefaults() {
	if l.Size == 0 {
		l.Size = sizeDefault
	}
	if l.Entries == 0 {
		l.Entries = entriesDefault
	}
	if l.Ratio == 0 {
		l.Ratio = ratioDefault
	}
}

// Unpack writes the files of a tar archive, plain or compressed by gzip or zstd, below dir,
// which must exist. The archive may come from an enemy: nothing is written outside dir, only
// directories, regular files and links are made, set-user-ID bits and owners are dropped, and
// what passes the limits is an error of code exhausted. A broken archive is one of code
// invalid. After an error dir holds some of the files; the caller removes it.
func Unpack(ctx context.Context, archive io.Reader, dir string, limits Limits) error {
	limits.setDefaults()
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("unpack source: %w", err)
	}
	defer root.Close()
	r, done, err := decompress(ctx, archive, limits)
	if err != nil {
		return err
	}
	defer done()

	u := &unpacker{root: root, limits: limits, dirs: map[string]bool{".": true}}
	t := tar.NewReader(r)
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			// The checksum of a compressed archive comes after the end of the tar.
			if _, err = io.Copy(io.Discard, r); err == nil {
				return nil
			}
		}
		if err != nil {
			return unpackError("read archive", err)
		}
		if err := u.entry(h, t); err != nil {
			return unpackError(fmt.Sprintf("entry %.120q", h.Name), err)
		}
	}
}

func unpackError(what string, err error) error {
	if e, ok := errors.AsType[*api.Error](err); ok {
		return api.Errorf(e.Code, "source: %s: %w", what, err)
	}
	if isDiskFull(err) {
		return api.Errorf(api.CodeExhausted, "source: %s: %s: %w", what, diskFull, err)
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("unpack source: %w", err)
	}
	return api.Errorf(api.CodeInvalid, "source: %s: %w", what, err)
}

// decompress finds out how the archive is compressed.
func decompress(ctx context.Context, archive io.Reader, limits Limits) (io.Reader, func(), error) {
	packed := &countingReader{ctx: ctx, r: archive}
	buffered := bufio.NewReaderSize(packed, 64<<10)
	magic, err := buffered.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, nil, unpackError("read archive", err)
	}
	var plain io.Reader
	done := func() {}
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(buffered)
		if err != nil {
			return nil, nil, unpackError("read gzip", err)
		}
		plain = z
	case bytes.Equal(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err := zstd.NewReader(buffered, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(windowMax))
		if err != nil {
			return nil, nil, unpackError("read zstd", err)
		}
		plain, done = z, z.Close
	default:
		plain = buffered
	}
	total := int64(limits.Size) + int64(limits.Entries)*entryOverhead
	return &boundedReader{plain: plain, packed: packed, ratio: int64(limits.Ratio), total: total}, done, nil
}

// countingReader counts, and ends when ctx does.
type countingReader struct {
	ctx context.Context //nolint:containedctx // lives as long as one Unpack
	r   io.Reader
	n   int64
}

// Read implements io.Reader.
func (c *countingReader) Read(p []byte) (int, error) {
	if err := context.Cause(c.ctx); err != nil {
		return 0, err
	}
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// boundedReader stops a decompression bomb: what grows too much, and what is too much
// altogether, be it content or headers.
type boundedReader struct {
	plain  io.Reader
	packed *countingReader
	ratio  int64
	total  int64 // bytes
	n      int64
}

// Read implements io.Reader.
func (r *boundedReader) Read(p []byte) (int, error) {
	if err := context.Cause(r.packed.ctx); err != nil {
		return 0, err
	}
	n, err := r.plain.Read(p)
	r.n += int64(n)
	if r.n > ratioFrom && r.n > r.packed.n*r.ratio {
		return n, api.Errorf(api.CodeExhausted, "the archive grows more than %d-fold when it is decompressed", r.ratio)
	}
	if r.n > r.total {
		return n, api.Errorf(api.CodeExhausted, "the archive has more than %s when it is decompressed", api.Bytes(r.total))
	}
	return n, err
}

// unpacker is one run of Unpack.
type unpacker struct {
	root   *os.Root
	limits Limits
	// dirs are the directories known to be real ones, not links.
	dirs    map[string]bool
	names   int // bytes of the names in dirs
	entries int
	size    api.Bytes
}

// count counts an entry, or a directory that was made for one.
func (u *unpacker) count() error {
	if u.entries++; u.entries > u.limits.Entries {
		return api.Errorf(api.CodeExhausted, "the archive has more than %d entries; leave out what the build does not need with .dockerignore", u.limits.Entries)
	}
	return nil
}

func (u *unpacker) entry(h *tar.Header, content io.Reader) error {
	if err := u.count(); err != nil {
		return err
	}
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil // `git archive` notes the commit in one
	}
	name, err := cleanName(h.Name)
	if err != nil {
		return err
	}
	if name == "." {
		return nil
	}
	if err := u.makeDir(path.Dir(name)); err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeDir:
		if err := u.makeDir(name); err != nil {
			return err
		}
		return u.root.Chmod(name, fs.FileMode(h.Mode)&0o777|0o700)
	case tar.TypeReg, tar.TypeGNUSparse:
		return u.file(name, h, content)
	case tar.TypeSymlink:
		return u.symlink(name, h.Linkname)
	case tar.TypeLink:
		return u.hardLink(name, h.Linkname)
	default:
		return errors.New("is neither a file, a directory nor a link; leave devices and pipes out of the source")
	}
}

// cleanName checks a name in the archive and returns it without "./" and trailing slashes.
func cleanName(name string) (string, error) {
	switch {
	case len(name) > pathMax:
		return "", fmt.Errorf("name is longer than %d bytes", pathMax)
	case strings.ContainsFunc(name, func(r rune) bool { return r < 0x20 || r == 0x7f }):
		return "", errors.New("name holds a control character")
	case !utf8.ValidString(name):
		return "", errors.New("name is not valid UTF-8")
	case strings.HasPrefix(name, "/"):
		return "", errors.New("name is absolute")
	}
	if strings.Count(name, "/") >= depthMax {
		return "", fmt.Errorf("name has more than %d parts", depthMax)
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == ".." {
			return "", errors.New(`name leads out by ".."`)
		}
		if len(part) > componentMax {
			return "", fmt.Errorf("name has a part of more than %d bytes", componentMax)
		}
	}
	return path.Clean(name), nil
}

// makeDir makes a directory and those above it. A link on the way is refused: nothing in a
// sound archive lies behind one.
func (u *unpacker) makeDir(dir string) error {
	if u.dirs[dir] {
		return nil
	}
	if err := u.makeDir(path.Dir(dir)); err != nil {
		return err
	}
	if u.names += len(dir); u.names > namesMax {
		return api.Errorf(api.CodeExhausted, "the names of the archive's directories have more than %s", api.Bytes(namesMax))
	}
	err := u.root.Mkdir(dir, 0o755)
	if err == nil {
		err = u.count()
	}
	if errors.Is(err, fs.ErrExist) {
		info, err := u.root.Lstat(dir)
		if err != nil {
			return err
		}
		if !info.IsDir() {
			return fmt.Errorf("%q is not a directory but a %s", dir, kind(info.Mode()))
		}
	} else if err != nil {
		return err
	}
	u.dirs[dir] = true
	return nil
}

func kind(m fs.FileMode) string {
	if m&fs.ModeSymlink != 0 {
		return "symbolic link"
	}
	return "file"
}

// vacate removes what an earlier entry put in the place of name.
func (u *unpacker) vacate(name string) error {
	info, err := u.root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.IsDir() {
		return errors.New("is a directory and something else as well")
	}
	return u.root.Remove(name)
}

func (u *unpacker) file(name string, h *tar.Header, content io.Reader) error {
	// The header's size counts the holes of a sparse file, so that it is checked before one
	// byte is written.
	if h.Size < 0 || api.Bytes(h.Size) > u.limits.Size-u.size {
		return api.Errorf(api.CodeExhausted, "the source unpacks to more than %s; leave out what the build does not need with .dockerignore", u.limits.Size)
	}
	u.size += api.Bytes(h.Size)
	if err := u.vacate(name); err != nil {
		return err
	}
	f, err := u.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, fs.FileMode(h.Mode)&0o777|0o400)
	if err != nil {
		return err
	}
	sum := crc32.New(castagnoli)
	if _, err := io.Copy(io.MultiWriter(f, sum), content); err != nil {
		f.Close()
		return err
	}
	if err := f.Chmod(fs.FileMode(h.Mode)&0o777 | 0o400); err != nil {
		f.Close()
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	// The engine takes a file of the same size and time for one that it has already. So that it
	// sees an edit that keeps both, the nanoseconds, which no image holds, tell the content.
	when := time.Unix(h.ModTime.Unix(), int64(sum.Sum32())%int64(time.Second))
	return u.root.Chtimes(name, when, when)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (u *unpacker) symlink(name, target string) error {
	if target == "" || len(target) > pathMax || strings.ContainsRune(target, 0) {
		return errors.New("links to an impossible name")
	}
	if err := u.vacate(name); err != nil {
		return err
	}
	// Where it leads does not matter: nothing here follows it, and a build sees it inside its
	// own file system.
	return u.root.Symlink(target, name)
}

func (u *unpacker) hardLink(name, target string) error {
	target, err := cleanName(target)
	if err != nil {
		return fmt.Errorf("hard link target: %w", err)
	}
	if target == name {
		return errors.New("is a hard link to itself")
	}
	if err := u.realDir(path.Dir(target)); err != nil {
		return fmt.Errorf("hard link target: %w", err)
	}
	info, err := u.root.Lstat(target)
	if err != nil {
		return fmt.Errorf("hard link target: %w", err)
	}
	if !info.Mode().IsRegular() {
		return errors.New("is a hard link to something that is not a file")
	}
	if err := u.vacate(name); err != nil {
		return err
	}
	return u.root.Link(target, name)
}

// realDir refuses a directory that the archive did not make as one.
func (u *unpacker) realDir(dir string) error {
	if !u.dirs[dir] {
		return fmt.Errorf("%q is not a directory of the archive", dir)
	}
	return nil
}

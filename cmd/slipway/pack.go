package main

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"

	"slipway/api"
)

// ignoreFile lists what does not belong to a source, in the root of it.
const ignoreFile = ".dockerignore"

// source is a directory that is sent to the rack.
type source struct {
	dir    string
	ignore *patternmatcher.PatternMatcher
	// keep are paths that are sent even if they are ignored: the build needs them.
	keep map[string]bool
	// spoolMax is how much of an archive is kept, so that what was packed to learn its digest is
	// not packed again to be sent. A larger one is: memory does not grow with it.
	spoolMax int
}

const spoolMax = 64 << 20 // bytes

// packed is what came of packing.
type packed struct {
	digest string // "sha256:…" of the compressed archive
	files  int
	size   int64 // of the files together
	// archive is all of it, nil if it is larger than spoolMax.
	archive []byte
}

// openSource reads what a directory ignores.
func openSource(dir string, keep ...string) (*source, error) {
	dir, err := filepath.EvalSymlinks(dir) // a walk does not follow one
	if err != nil {
		return nil, fmt.Errorf("read the source: %w", err)
	}
	s := &source{dir: dir, keep: map[string]bool{ignoreFile: true}, spoolMax: spoolMax}
	for _, path := range keep {
		s.keep[filepath.ToSlash(filepath.Clean(path))] = true
	}
	var patterns []string
	text, err := readInside(dir, ignoreFile)
	if err == nil {
		patterns, err = ignorefile.ReadAll(bytes.NewReader(text))
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read %s: %w", ignoreFile, err)
	}
	if s.ignore, err = patternmatcher.New(patterns); err != nil {
		return nil, fmt.Errorf("read %s: %w", ignoreFile, err)
	}
	return s, nil
}

// readInside reads a file of a directory that may come from a stranger: a link that leads out of
// it, to a key of the user for instance, is refused.
func readInside(dir, name string) ([]byte, error) {
	f, err := os.OpenInRoot(dir, name)
	if err != nil {
		if info, e := os.Lstat(filepath.Join(dir, name)); e == nil && info.Mode()&fs.ModeSymlink != 0 && !errors.Is(err, fs.ErrNotExist) {
			return nil, api.Errorf(api.CodeInvalid, "%s is a link that leads out of the directory; put the file itself there: %w", name, err)
		}
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

// digest packs to learn the digest: files of the same content and time have the same one,
// whoever owns them.
func (s *source) digest(ctx context.Context) (packed, error) {
	sum, kept := sha256.New(), &spool{max: s.spoolMax}
	p, err := s.pack(ctx, io.MultiWriter(sum, kept))
	p.digest, p.archive = "sha256:"+hex.EncodeToString(sum.Sum(nil)), kept.data
	return p, err
}

// spool keeps what is written to it, or nothing of it if that is too much.
type spool struct {
	data []byte
	max  int
	over bool
}

// Write implements io.Writer.
func (s *spool) Write(p []byte) (int, error) {
	if s.over = s.over || len(s.data)+len(p) > s.max; s.over {
		s.data = nil
	} else {
		s.data = append(s.data, p...)
	}
	return len(p), nil
}

// reader returns the archive that digest described, or packs while it is read. The caller must
// read to the end or close it.
func (s *source) reader(ctx context.Context, p packed) io.ReadCloser {
	if p.archive != nil {
		return io.NopCloser(bytes.NewReader(p.archive))
	}
	r, w := io.Pipe()
	go func() {
		_, err := s.pack(ctx, w)
		w.CloseWithError(err) // nil is the end; a closed reader ends pack
	}()
	return r
}

// pack writes the archive and returns what is in it, without the digest. Files are streamed:
// memory does not grow with them.
func (s *source) pack(ctx context.Context, w io.Writer) (p packed, err error) {
	// One goroutine and one level: the same content gives the same bytes. The next level takes
	// twice the time for a fourteenth less (measured with the sources of Go).
	z, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		return p, fmt.Errorf("pack: %w", err)
	}
	t := tar.NewWriter(z)
	dirs := map[string]patternmatcher.MatchInfo{}
	err = filepath.WalkDir(s.dir, func(file string, d fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(s.dir, file)
		if err != nil || rel == "." {
			return err
		}
		rel = filepath.ToSlash(rel)
		skip, err := s.skips(rel, d, dirs)
		if skip || err != nil {
			return err
		}
		h, err := addFile(t, file, rel, d)
		if h.Typeflag == tar.TypeReg {
			p.files++
			p.size += h.Size
		}
		return err
	})
	if err == nil {
		err = errors.Join(t.Close(), z.Close())
	}
	if err != nil {
		return p, fmt.Errorf("pack %s: %w", s.dir, err)
	}
	return p, nil
}

// skips reports whether a path is left out; fs.SkipDir leaves out all below it as well. dirs
// holds what was found about the directories above, as BuildKit does it.
func (s *source) skips(rel string, d fs.DirEntry, dirs map[string]patternmatcher.MatchInfo) (bool, error) {
	ignored, info, err := s.ignore.MatchesUsingParentResults(rel, dirs[path.Dir(rel)])
	if err != nil {
		return false, fmt.Errorf("%s: %w", ignoreFile, err)
	}
	if d.IsDir() {
		dirs[rel] = info
	}
	if !ignored || s.keep[rel] {
		return false, nil
	}
	if d.IsDir() && !s.keepsBelow(rel) && !s.mayReturn(rel) {
		return true, fs.SkipDir
	}
	return true, nil
}

// mayReturn reports whether a pattern like "!dir/file" may bring something back that lies below
// an ignored directory.
func (s *source) mayReturn(dir string) bool {
	for _, p := range s.ignore.Patterns() {
		if !p.Exclusion() {
			continue
		}
		fixed, _, wild := strings.Cut(filepath.ToSlash(p.String()), "*")
		if i := strings.IndexAny(fixed, `?[\`); i >= 0 {
			fixed, wild = fixed[:i], true
		}
		if strings.HasPrefix(fixed+"/", dir+"/") || wild && strings.HasPrefix(dir+"/", fixed) {
			return true
		}
	}
	return false
}

func (s *source) keepsBelow(dir string) bool {
	for path := range s.keep {
		if len(path) > len(dir) && path[:len(dir)+1] == dir+"/" {
			return true
		}
	}
	return false
}

// addFile adds one file, link or directory, and returns its header; sockets, pipes and devices
// are left out.
func addFile(t *tar.Writer, file, name string, d fs.DirEntry) (h tar.Header, err error) {
	info, err := d.Info()
	if err != nil {
		return h, err
	}
	// Who owned a file says nothing about it. When it was written does: to make, to cargo and to
	// the caches of browsers, which read it in the image.
	h = tar.Header{Name: name, Mode: int64(info.Mode().Perm()), ModTime: info.ModTime().Truncate(time.Second)}
	switch mode := info.Mode(); {
	case mode.IsRegular():
		h.Typeflag, h.Size = tar.TypeReg, info.Size()
	case mode.IsDir():
		h.Typeflag, h.Name, h.ModTime = tar.TypeDir, name+"/", time.Time{} // a new file changes it
	case mode&fs.ModeSymlink != 0:
		h.Typeflag = tar.TypeSymlink
		if h.Linkname, err = os.Readlink(file); err != nil {
			return h, err
		}
		h.Linkname = filepath.ToSlash(h.Linkname)
	default:
		return h, nil
	}
	if err := t.WriteHeader(&h); err != nil || h.Typeflag != tar.TypeReg {
		return h, err
	}
	return h, copyFile(t, file, h.Size)
}

// copyFile copies exactly size bytes.
func copyFile(t io.Writer, path string, size int64) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	n, err := io.Copy(t, io.LimitReader(f, size))
	if err == nil && n < size {
		return fmt.Errorf("%s became shorter while it was read; try again", path)
	}
	return err
}

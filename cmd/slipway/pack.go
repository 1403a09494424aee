package main

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/zstd"
	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
)

// ignoreFile lists what does not belong to a source, in the root of it.
const ignoreFile = ".dockerignore"

// source is a directory that is sent to the rack.
type source struct {
	dir    string
	ignore *patternmatcher.PatternMatcher
	// keep are paths that are sent even if they are ignored: the build needs them.
	keep map[string]bool
}

// packed is what came of packing.
type packed struct {
	digest string // "sha256:…" of the compressed archive
	files  int
	size   int64 // of the compressed archive
}

// openSource reads what a directory ignores.
func openSource(dir string, keep ...string) (*source, error) {
	s := &source{dir: dir, keep: map[string]bool{ignoreFile: true}}
	for _, path := range keep {
		s.keep[filepath.ToSlash(filepath.Clean(path))] = true
	}
	var patterns []string
	f, err := os.Open(filepath.Join(dir, ignoreFile))
	if err == nil {
		defer f.Close()
		if patterns, err = ignorefile.ReadAll(f); err != nil {
			return nil, fmt.Errorf("read %s: %w", ignoreFile, err)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read %s: %w", ignoreFile, err)
	}
	if s.ignore, err = patternmatcher.New(patterns); err != nil {
		return nil, fmt.Errorf("read %s: %w", ignoreFile, err)
	}
	return s, nil
}

// digest packs into nothing, to learn the digest: equal content has an equal one, whatever the
// times and owners of the files are.
func (s *source) digest(ctx context.Context) (packed, error) {
	sum := sha256.New()
	size := &counter{}
	files, err := s.pack(ctx, io.MultiWriter(sum, size))
	return packed{digest: "sha256:" + hex.EncodeToString(sum.Sum(nil)), files: files, size: size.n}, err
}

// reader packs while it is read. The caller must read to the end or close it.
func (s *source) reader(ctx context.Context) io.ReadCloser {
	r, w := io.Pipe()
	go func() {
		_, err := s.pack(ctx, w)
		w.CloseWithError(err) // nil is the end; a closed reader ends pack
	}()
	return r
}

type counter struct{ n int64 }

// Write implements io.Writer.
func (c *counter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return len(p), nil
}

// pack writes the archive and returns how many files are in it. Files are streamed: memory
// does not grow with them.
func (s *source) pack(ctx context.Context, w io.Writer) (int, error) {
	// One goroutine and one level: the same content gives the same bytes.
	z, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedDefault))
	if err != nil {
		return 0, fmt.Errorf("pack: %w", err)
	}
	t := tar.NewWriter(z)
	files := 0
	err = filepath.WalkDir(s.dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(s.dir, path)
		if err != nil || rel == "." {
			return err
		}
		rel = filepath.ToSlash(rel)
		skip, err := s.skips(rel, d)
		if skip || err != nil {
			return err
		}
		added, err := addFile(t, path, rel, d)
		if added {
			files++
		}
		return err
	})
	if err != nil {
		return files, fmt.Errorf("pack %s: %w", s.dir, err)
	}
	if err := errors.Join(t.Close(), z.Close()); err != nil {
		return files, fmt.Errorf("pack %s: %w", s.dir, err)
	}
	return files, nil
}

// skips reports whether a path is left out; fs.SkipDir leaves out all below it as well.
func (s *source) skips(rel string, d fs.DirEntry) (bool, error) {
	if s.keep[rel] {
		return false, nil
	}
	ignored, err := s.ignore.MatchesOrParentMatches(rel)
	if err != nil {
		return false, fmt.Errorf("%s: %w", ignoreFile, err)
	}
	if !ignored {
		return false, nil
	}
	if d.IsDir() && !s.ignore.Exclusions() && !s.keepsBelow(rel) {
		return true, fs.SkipDir
	}
	return true, nil
}

func (s *source) keepsBelow(dir string) bool {
	for path := range s.keep {
		if len(path) > len(dir) && path[:len(dir)+1] == dir+"/" {
			return true
		}
	}
	return false
}

// addFile adds one file, link or directory; sockets, pipes and devices are left out.
func addFile(t *tar.Writer, path, name string, d fs.DirEntry) (bool, error) {
	info, err := d.Info()
	if err != nil {
		return false, err
	}
	link := ""
	switch mode := info.Mode(); {
	case mode.IsRegular(), mode.IsDir():
	case mode&fs.ModeSymlink != 0:
		if link, err = os.Readlink(path); err != nil {
			return false, err
		}
	default:
		return false, nil
	}
	h, err := tar.FileInfoHeader(info, filepath.ToSlash(link))
	if err != nil {
		return false, err
	}
	// Who owned a file and when it was written says nothing about its content.
	*h = tar.Header{Typeflag: h.Typeflag, Name: name, Linkname: h.Linkname, Size: h.Size, Mode: h.Mode & 0o777}
	if info.IsDir() {
		h.Name += "/"
	}
	if err := t.WriteHeader(h); err != nil {
		return false, err
	}
	if !info.Mode().IsRegular() {
		return false, nil
	}
	return true, copyFile(t, path, info.Size())
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

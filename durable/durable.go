package durable

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
)

// WriteFile makes b the content of a file, of mode 0600.
func WriteFile(path string, b []byte) error {
	_, err := Write(path, func(w io.Writer) error {
		_, err := w.Write(b)
		return err
	})
	return err
}

// Write makes what write writes the content of a file, of mode 0600, and returns its size in
// bytes. An error of write is returned as it is, and leaves the file as it was.
func Write(path string, write func(io.Writer) error) (int64, error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return 0, fmt.Errorf("write %s: %w", path, err)
	}
	defer os.Remove(f.Name()) // where it was not renamed
	defer f.Close()           // where it was not closed
	if err := write(f); err != nil {
		return 0, err
	}
	size, err := f.Seek(0, io.SeekCurrent)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return 0, fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return 0, fmt.Errorf("write %s: %w", path, err)
	}
	return size, SyncDir(filepath.Dir(path))
}

// SyncDir waits until what was created, renamed or removed in a directory is on disk.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	// Some network file systems know no such thing, and do it without.
	if err := d.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) {
		return err
	}
	return nil
}

package durable

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestWriteReplacesWholeOrNotAtAll(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "key")
	if err := os.WriteFile(path, []byte("old and longer"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := WriteFile(path, []byte("new")); err != nil {
		t.Fatal(err)
	}
	check(t, path, "new")

	full := errors.New("no space")
	_, err := Write(path, func(w io.Writer) error {
		if _, err := io.WriteString(w, "half"); err != nil {
			return err
		}
		check(t, path, "new") // nobody sees what is half written
		return full
	})
	if !errors.Is(err, full) {
		t.Errorf("error %v, want that of the writer", err)
	}
	check(t, path, "new")

	size, err := Write(path, func(w io.Writer) error {
		_, err := io.WriteString(w, "streamed")
		return err
	})
	if err != nil || size != int64(len("streamed")) {
		t.Errorf("wrote %d bytes, error %v", size, err)
	}
	check(t, path, "streamed")

	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, error %v", entries, err)
	}
}

// check compares the content of a file, which only its owner may read.
func check(t *testing.T, path, want string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil || string(b) != want {
		t.Errorf("the file holds %q, error %v; want %q", b, err, want)
	}
	if st, err := os.Stat(path); err == nil && st.Mode().Perm() != 0o600 {
		t.Errorf("the file has mode %v", st.Mode())
	}
}

func TestWriteNamesTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gone", "key")
	err := WriteFile(path, nil)
	if !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("error %v, want that the directory is missing", err)
	}
	if !strings.HasPrefix(err.Error(), "write "+path+": ") {
		t.Errorf("error %q does not name %s", err, path)
	}
}

package exec

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"slipway/api"
)

// rootOf opens the root of a process. No link inside leads out of it.
func rootOf(pid int) (*os.Root, error) {
	root, err := os.OpenRoot(fmt.Sprintf("/proc/%d/root", pid))
	if err != nil {
		return nil, api.Errorf(api.CodeConflict, "the process has ended: %w", err)
	}
	return root, nil
}

// inside turns a path of the container into one relative to its root.
func inside(p string) string {
	p = strings.TrimPrefix(path.Clean("/"+p), "/")
	if p == "" {
		return "."
	}
	return p
}

// copyOut writes a file or a directory as a tar, its own name first.
func copyOut(pid int, from string, to io.Writer) error {
	root, err := rootOf(pid)
	if err != nil {
		return err
	}
	defer root.Close()
	start := inside(from)
	if _, err := root.Lstat(start); err != nil {
		return api.Errorf(api.CodeNotFound, "%s: no such file or directory in the process", from)
	}
	out := tar.NewWriter(to)
	base := path.Dir(start)
	err = fs.WalkDir(root.FS(), start, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return addFile(root, out, name, strings.TrimPrefix(strings.TrimPrefix(name, base), "/"), d)
	})
	if err == nil {
		err = out.Close()
	}
	if err != nil {
		return fmt.Errorf("copy %s: %w", from, err)
	}
	return nil
}

// addFile writes one entry. Devices, pipes and sockets are left out.
func addFile(root *os.Root, out *tar.Writer, name, as string, d fs.DirEntry) error {
	info, err := d.Info()
	if err != nil {
		return err
	}
	var link string
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		if link, err = root.Readlink(name); err != nil {
			return err
		}
	case !info.Mode().IsRegular() && !info.IsDir():
		return nil
	}
	h, err := tar.FileInfoHeader(info, link)
	if err != nil {
		return err
	}
	if h.Name = as; info.IsDir() {
		h.Name += "/"
	}
	if err := out.WriteHeader(h); err != nil || !info.Mode().IsRegular() {
		return err
	}
	f, err := root.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	// A file that grows while it is read is cut off, one that shrinks is an error.
	_, err = io.CopyN(out, f, h.Size)
	return err
}

// copyIn unpacks a tar below a directory of the process.
func copyIn(pid int, to string, from io.Reader) error {
	root, err := rootOf(pid)
	if err != nil {
		return err
	}
	defer root.Close()
	target := inside(to)
	if err := root.MkdirAll(target, 0o755); err != nil {
		return api.Errorf(api.CodeInvalid, "copy to %s: %w", to, err)
	}
	in := tar.NewReader(from)
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return api.Errorf(api.CodeInvalid, "copy to %s: read tar: %w", to, err)
		}
		if err := unpack(root, path.Join(target, path.Clean("/"+h.Name)), h, in); err != nil {
			return api.Errorf(api.CodeInvalid, "copy to %s: %w", to, err)
		}
	}
}

// unpack makes one entry; anything but files, directories and symbolic links is left out.
func unpack(root *os.Root, name string, h *tar.Header, in io.Reader) error {
	mode := fs.FileMode(h.Mode).Perm()
	switch h.Typeflag {
	case tar.TypeDir:
		return root.MkdirAll(name, mode|0o700)
	case tar.TypeSymlink:
		if err := root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return root.Symlink(h.Linkname, name)
	case tar.TypeReg:
		if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
			return err
		}
		f, err := root.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, mode)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, in)
		return errors.Join(err, f.Close())
	}
	return nil
}

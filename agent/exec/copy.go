package exec

import (
	"archive/tar"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"

	"slipway/api"
)

// linksMax bounds the links on the way to a file, as the kernel does.
const linksMax = 40

// rootOf opens the root of a process. No link inside leads out of it.
func rootOf(ctx context.Context, engine Engine, id api.ProcessID) (*os.Root, error) {
	pid, err := pidOf(ctx, engine, id)
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(fmt.Sprintf("/proc/%d/root", pid))
	if err != nil {
		return nil, api.Errorf(api.CodeConflict, "process %s has ended: %w", id, err)
	}
	// A process that runs now ran when its root was opened: the number was not another's.
	again, err := pidOf(ctx, engine, id)
	if err == nil && again != pid {
		err = api.Errorf(api.CodeConflict, "process %s has ended", id)
	}
	if err != nil {
		root.Close()
		return nil, err
	}
	return root, nil
}

// resolve follows the links of a path as the process would: an absolute one starts at its root.
// The last element is followed only if whole. What is not there yet is kept as it is. Whoever
// swaps a link afterwards gets an error of package os, not a way out.
func resolve(root *os.Root, name string, whole bool) (string, error) {
	rest := strings.Split(path.Clean("/" + name)[1:], "/")
	at := "."
	for links := 0; len(rest) > 0; {
		next := rest[0]
		rest = rest[1:]
		switch next {
		case "", ".":
			continue
		case "..":
			at = path.Dir(at)
			continue
		}
		here := path.Join(at, next)
		if len(rest) == 0 && !whole {
			return here, nil
		}
		info, err := root.Lstat(here)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		if err != nil || info.Mode()&fs.ModeSymlink == 0 {
			at = here
			continue
		}
		if links++; links > linksMax {
			return "", fmt.Errorf("%s: %w", name, syscall.ELOOP)
		}
		to, err := root.Readlink(here)
		if err != nil {
			return "", err
		}
		if path.IsAbs(to) {
			at = "."
		}
		rest = append(strings.Split(strings.Trim(to, "/"), "/"), rest...)
	}
	return at, nil
}

// openRegular opens a file if it is a regular one. A pipe in its place would block for ever, and
// a device would be the node's.
func openRegular(root *os.Root, name string) (*os.File, fs.FileInfo, error) {
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no regular file any more", name)
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, info, nil
}

// copyOut writes a file or a directory as a tar. Names begin with its own, "root" for the root.
func copyOut(root *os.Root, from string, to io.Writer) error {
	start, err := resolve(root, from, false)
	var info fs.FileInfo
	if err == nil {
		info, err = root.Lstat(start)
	}
	if err != nil {
		return api.Errorf(api.CodeNotFound, "%s: no such file or directory in the process", from)
	}
	top := path.Base(start)
	if start == "." {
		top = "root"
	}
	out := tar.NewWriter(to)
	if info.IsDir() {
		err = addTree(root, out, start, top)
	} else {
		err = addFile(root, out, start, top)
	}
	if err == nil {
		err = out.Close()
	}
	if err != nil {
		return fmt.Errorf("copy %s: %w", from, err)
	}
	return nil
}

// addTree writes a directory and all below it.
func addTree(root *os.Root, out *tar.Writer, start, top string) error {
	return fs.WalkDir(root.FS(), start, func(name string, _ fs.DirEntry, err error) error {
		if err != nil && name != start && errors.Is(err, fs.ErrNotExist) {
			return nil // removed meanwhile
		}
		if err != nil {
			return err
		}
		below := name
		if start != "." {
			below = strings.TrimPrefix(name, start)
		}
		return addFile(root, out, name, path.Join(top, below))
	})
}

// addFile writes one entry. Devices, pipes and sockets are left out, and what has gone meanwhile.
func addFile(root *os.Root, out *tar.Writer, name, as string) error {
	info, err := root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var link string
	var content io.Reader
	switch {
	case info.IsDir():
		as += "/"
	case info.Mode()&fs.ModeSymlink != 0:
		link, err = root.Readlink(name)
	case info.Mode().IsRegular():
		var f *os.File
		if f, info, err = openRegular(root, name); err == nil {
			defer f.Close()
			content = f
		}
	default:
		return nil
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	h, err := tar.FileInfoHeader(info, link)
	if err != nil {
		return err
	}
	h.Name = as
	if err := out.WriteHeader(h); err != nil || content == nil {
		return err
	}
	// A file that grows while it is read is cut off, one that shrinks is an error.
	_, err = io.CopyN(out, content, h.Size)
	return err
}

// copyIn unpacks a tar below a directory of the process.
func copyIn(root *os.Root, to string, from io.Reader) error {
	target, err := resolve(root, to, true)
	if err == nil {
		err = root.MkdirAll(target, 0o755)
	}
	if err != nil {
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
			return api.Errorf(api.CodeInvalid, "copy to %s: %s: %w", to, h.Name, err)
		}
	}
}

// unpack makes one entry; anything but files, directories and symbolic links is left out.
func unpack(root *os.Root, name string, h *tar.Header, in io.Reader) error {
	if strings.ContainsRune(h.Name, 0) {
		return fmt.Errorf("the name contains a zero byte")
	}
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return fmt.Errorf("sparse files cannot be copied: a small archive could fill the disk")
		}
	}
	mode := fs.FileMode(h.Mode).Perm()
	switch h.Typeflag {
	case tar.TypeGNUSparse:
		return fmt.Errorf("sparse files cannot be copied: a small archive could fill the disk")
	case tar.TypeDir:
		return root.MkdirAll(name, mode|0o700)
	case tar.TypeSymlink, tar.TypeReg:
		if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
			return err
		}
		return replace(root, name, func(new string) error {
			if h.Typeflag == tar.TypeSymlink {
				return root.Symlink(h.Linkname, new)
			}
			return write(root, new, mode, in)
		})
	}
	return nil
}

// replace makes a file under a new name and moves it to its place when it is whole. Nothing that
// is there is opened: it could be a pipe, or a device, which would be the node's. Its owner stays.
func replace(root *os.Root, name string, make func(new string) error) error {
	new := path.Join(path.Dir(name), ".slipway-"+rand.Text())
	err := make(new)
	if old, there := root.Lstat(name); err == nil && there == nil {
		if stat, ok := old.Sys().(*syscall.Stat_t); ok {
			err = root.Lchown(new, int(stat.Uid), int(stat.Gid))
		}
	}
	if err == nil {
		err = root.Rename(new, name)
	}
	if err != nil {
		if again := root.Remove(new); again != nil && !errors.Is(again, fs.ErrNotExist) {
			err = errors.Join(err, again)
		}
	}
	return err
}

func write(root *os.Root, name string, mode fs.FileMode, content io.Reader) error {
	f, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	return errors.Join(err, f.Chmod(mode), f.Close())
}

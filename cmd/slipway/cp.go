package main

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"slipway/api"
	"slipway/api/client"
)

func (s *shell) cpCommand() *cobra.Command {
	return s.verb(verb{
		use: "cp [PROCESS|SERVICE:]SOURCE [PROCESS|SERVICE:]TARGET", short: "Copy files into and out of processes",
		long: "Copy a file or directory between this machine and a running process. A target that ends with a slash\n" +
			"is a directory, which the source is put into; any other target is the new name.",
		example: "  slipway cp seed.sql web:/tmp/\n  slipway cp pabcdefghij:/var/log/app.log .", args: between(2, 2),
		run: func(ctx context.Context, args []string) error {
			from, remoteFrom := place(args[0])
			to, remoteTo := place(args[1])
			if remoteFrom == remoteTo {
				return usage("one of source and target must be in a process, the other on this machine")
			}
			rack, app, err := s.open(ctx)
			if err != nil {
				return err
			}
			err = s.step(fmt.Sprintf("Copying %s to %s", args[0], args[1]), func() (string, error) {
				if remoteTo {
					return "", copyIn(ctx, rack, app, args[0], to)
				}
				return "", copyOut(ctx, rack, app, from, args[1])
			})
			if err != nil {
				return err
			}
			return s.print(map[string]string{"from": args[0], "to": args[1]}, nothing)
		},
	})
}

// place reads "process:path". A path with a slash before the colon is on this machine.
func place(arg string) (client.Place, bool) {
	name, file, ok := strings.Cut(arg, ":")
	if !ok || name == "" || strings.ContainsAny(name, `/\.`) {
		return client.Place{}, false
	}
	return client.Place{Process: api.ProcessID(name), Service: api.ServiceName(name), Path: file}, true
}

// copyIn sends a file or directory into a process.
func copyIn(ctx context.Context, rack *client.Client, app api.AppName, source string, to client.Place) error {
	if !path.IsAbs(to.Path) {
		return usage("the path in the process must be absolute, got %q", to.Path)
	}
	if _, err := os.Lstat(source); err != nil {
		return fmt.Errorf("copy: %w", err)
	}
	name := path.Base(to.Path)
	if strings.HasSuffix(to.Path, "/") {
		abs, err := filepath.Abs(source)
		if err != nil {
			return fmt.Errorf("copy: %w", err)
		}
		name = filepath.Base(abs)
	}
	if to.Path = path.Dir(to.Path); to.Path == "" {
		to.Path = "/"
	}
	r, w := io.Pipe()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		w.CloseWithError(tarTree(w, source, name))
	}()
	err := rack.CopyIn(ctx, app, to, r)
	r.Close()
	<-ended
	return err
}

// tarTree writes a file or directory as a tar under a name.
func tarTree(w io.Writer, source, name string) error {
	t := tar.NewWriter(w)
	err := filepath.WalkDir(source, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(source, file)
		if err != nil {
			return err
		}
		_, err = addFile(t, file, path.Join(name, filepath.ToSlash(rel)), d)
		return err
	})
	return errors.Join(err, t.Close())
}

// copyOut fetches a file or directory out of a process.
func copyOut(ctx context.Context, rack *client.Client, app api.AppName, from client.Place, target string) error {
	if !path.IsAbs(from.Path) {
		return usage("the path in the process must be absolute, got %q", from.Path)
	}
	dir, name := filepath.Split(target)
	if info, err := os.Stat(target); err == nil && info.IsDir() {
		dir, name = target, ""
	}
	if name == "" {
		name = path.Base(from.Path)
	}
	if name == "/" || name == "." {
		return usage("give the copy a name")
	}
	root, err := os.OpenRoot(orElse(dir, "."))
	if err != nil {
		return fmt.Errorf("copy: %w", err)
	}
	defer root.Close()
	r, w := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := untar(root, r, name)
		r.CloseWithError(err) // a failure here ends the session
		ended <- err
	}()
	err = rack.CopyOut(ctx, app, from, w)
	w.CloseWithError(err)
	unpacked := <-ended
	if err != nil {
		return err
	}
	return unpacked
}

// untar unpacks a tar below root, its first path element replaced by name. What comes may be
// from an enemy: nothing is written outside of root.
func untar(root *os.Root, r io.Reader, name string) error {
	t := tar.NewReader(r)
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			_, err = io.Copy(io.Discard, r) // padding
			return err
		}
		if err != nil {
			return fmt.Errorf("copy: read what the process sent: %w", err)
		}
		_, below, _ := strings.Cut(strings.Trim(path.Clean("/"+h.Name), "/"), "/")
		if err := unpackOne(root, path.Join(name, below), h, t); err != nil {
			return fmt.Errorf("copy %s: %w", h.Name, err)
		}
	}
}

func unpackOne(root *os.Root, name string, h *tar.Header, content io.Reader) error {
	mode := fs.FileMode(h.Mode) & 0o777
	if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeDir:
		return root.MkdirAll(name, mode|0o700)
	case tar.TypeReg:
		f, err := root.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, mode)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, content)
		return errors.Join(err, f.Close())
	case tar.TypeSymlink:
		if err := root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return root.Symlink(h.Linkname, name)
	}
	return nil // devices and the like
}

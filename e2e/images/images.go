package images

import (
	"archive/tar"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	goruntime "runtime"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

const (
	busyboxPath = "/bin/busybox"
	certsPath   = "/etc/ssl/certs/ca-certificates.crt"
	pathBase    = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)

// Busybox returns an image with a shell and the usual small tools: the machine's static
// busybox, a link for each of its applets, users root and nobody, and the machine's
// certificate authorities.
func Busybox() (v1.Image, error) {
	l, err := busyboxLayer()
	if err != nil {
		return nil, fmt.Errorf("busybox image: %w", err)
	}
	return newImage(v1.Config{Env: []string{"PATH=" + pathBase}, Cmd: []string{"sh"}}, l)
}

func busyboxLayer() (v1.Layer, error) {
	list, err := exec.Command(busyboxPath, "--list").Output()
	if err != nil {
		return nil, fmt.Errorf("list applets of %s (is busybox-static installed?): %w", busyboxPath, err)
	}
	return memoryLayer(func(t *tar.Writer) error {
		for _, d := range []string{"bin", "dev", "etc", "etc/ssl", "etc/ssl/certs", "home", "proc", "root", "sys", "usr", "usr/bin", "var"} {
			if err := addDir(t, d, 0o755); err != nil {
				return err
			}
		}
		if err := addDir(t, "tmp", 0o1777); err != nil {
			return err
		}
		if err := addFile(t, "bin/busybox", busyboxPath, 0o755); err != nil {
			return err
		}
		for applet := range strings.FieldsSeq(string(list)) {
			if applet == "busybox" {
				continue
			}
			if err := addLink(t, "bin/"+applet, "busybox"); err != nil {
				return err
			}
		}
		return errors.Join(
			addLink(t, "usr/bin/env", "/bin/busybox"),
			addText(t, "etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"),
			addText(t, "etc/group", "root:x:0:\nnobody:x:65534:\n"),
			addText(t, "etc/nsswitch.conf", "hosts: files dns\n"),
			addCerts(t),
		)
	})
}

func addCerts(t *tar.Writer) error {
	err := addFile(t, "etc/ssl/certs/ca-certificates.crt", certsPath, 0o644)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // a machine without certificates makes an image without
	}
	return err
}

// Golang returns Busybox with the machine's Go toolchain in /usr/local/go. There is no C
// compiler in it, so CGO_ENABLED is 0. The layer is made once per Go version and kept in
// cacheDir.
func Golang(cacheDir string) (v1.Image, error) {
	base, err := busyboxLayer()
	if err != nil {
		return nil, fmt.Errorf("golang image: %w", err)
	}
	root, version, err := goroot()
	if err != nil {
		return nil, fmt.Errorf("golang image: %w", err)
	}
	toolchain, err := cachedLayer(cacheDir, "golang-"+version+"-"+goruntime.GOARCH, func(t *tar.Writer) error { return addToolchain(t, root) })
	if err != nil {
		return nil, fmt.Errorf("golang image: %w", err)
	}
	return newImage(v1.Config{
		Env: []string{"PATH=/go/bin:/usr/local/go/bin:" + pathBase, "GOPATH=/go", "GOTOOLCHAIN=local",
			"GOFLAGS=-mod=mod", "CGO_ENABLED=0"},
		Cmd:        []string{"sh"},
		WorkingDir: "/go",
	}, base, toolchain)
}

// goroot returns the toolchain that "go" on the path belongs to, and its version.
func goroot() (root, version string, err error) {
	root = os.Getenv("GOROOT")
	if root == "" {
		bin, err := exec.LookPath("go")
		if err != nil {
			return "", "", err
		}
		if bin, err = filepath.EvalSymlinks(bin); err != nil {
			return "", "", err
		}
		root = filepath.Dir(filepath.Dir(bin))
	}
	b, err := os.ReadFile(filepath.Join(root, "VERSION"))
	if err != nil {
		return "", "", fmt.Errorf("%s is not a Go toolchain: %w", root, err)
	}
	version, _, _ = strings.Cut(string(b), "\n")
	return root, version, nil
}

// addToolchain adds what `go build` needs: no tests, no test data, no documentation.
func addToolchain(t *tar.Writer, root string) error {
	for _, d := range []string{"usr", "usr/local", "usr/local/go"} {
		if err := addDir(t, d, 0o755); err != nil {
			return err
		}
	}
	for _, d := range []string{"go", "go/bin", "go/src"} {
		if err := addDir(t, d, 0o777); err != nil {
			return err
		}
	}
	for _, name := range []string{"VERSION", "bin", "go.env", "lib", "pkg", "src"} {
		err := filepath.WalkDir(filepath.Join(root, name), func(file string, e fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			rel, err := filepath.Rel(root, file)
			if err != nil {
				return err
			}
			to := path.Join("usr/local/go", filepath.ToSlash(rel))
			switch {
			case e.IsDir() && e.Name() == "testdata":
				return fs.SkipDir
			case e.IsDir():
				return addDir(t, to, 0o755)
			case strings.HasSuffix(e.Name(), "_test.go") || !e.Type().IsRegular():
				return nil
			}
			info, err := e.Info()
			if err != nil {
				return err
			}
			return addFile(t, to, file, int64(info.Mode().Perm()))
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// FromBinary returns an image that holds one static program, as /app, and the machine's
// certificate authorities. It runs the program with args.
func FromBinary(file string, args ...string) (v1.Image, error) {
	l, err := memoryLayer(func(t *tar.Writer) error {
		for _, d := range []string{"etc", "etc/ssl", "etc/ssl/certs"} {
			if err := addDir(t, d, 0o755); err != nil {
				return err
			}
		}
		return errors.Join(addDir(t, "tmp", 0o1777), addFile(t, "app", file, 0o755), addCerts(t))
	})
	if err != nil {
		return nil, fmt.Errorf("image of %s: %w", file, err)
	}
	return newImage(v1.Config{Entrypoint: []string{"/app"}, Cmd: args, Env: []string{"PATH=" + pathBase}}, l)
}

func newImage(config v1.Config, layers ...v1.Layer) (v1.Image, error) {
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	img, err := mutate.AppendLayers(img, layers...)
	if err != nil {
		return nil, err
	}
	return mutate.ConfigFile(img, withConfig(img, config))
}

func withConfig(img v1.Image, config v1.Config) *v1.ConfigFile {
	file := &v1.ConfigFile{OS: "linux", Architecture: goruntime.GOARCH, Created: v1.Time{Time: epoch}, Config: config}
	if old, err := img.ConfigFile(); err == nil {
		file.RootFS, file.History = old.RootFS, old.History
	}
	return file
}

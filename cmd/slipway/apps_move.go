package main

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"slipway/api"
	"slipway/api/client"
)

func (s *shell) exportAppCommand() *cobra.Command {
	file := ""
	c := s.verb(verb{
		use: "export [NAME]", names: appNames, short: "Write an app with its environment and images to a file", args: between(0, 1),
		long: "Write an app to a file, or to standard output: its environment in plain text, and the build of its active\n" +
			"release (of the newest, when none is active) with the images. `slipway apps import` makes an app of it, on this\n" +
			"rack or another; `convox apps import` does on a rack of Convox.",
		example: "  slipway apps export shop -f shop.tgz\n  slipway apps export -a shop > shop.tgz",
		run: func(ctx context.Context, args []string) error {
			if err := s.checkTarget(file); err != nil {
				return err
			}
			export := func(ctx context.Context, rack *client.Client, app api.AppName) error {
				return s.exportApp(ctx, rack, app, file)
			}
			return s.withApp(export)(ctx, args)
		},
	})
	c.Flags().StringVarP(&file, "file", "f", "", "where to write it; standard output by default")
	return c
}

func (s *shell) exportApp(ctx context.Context, rack *client.Client, app api.AppName, file string) error {
	info, err := rack.App(ctx, app)
	if err != nil {
		return err
	}
	release, err := exportedRelease(ctx, rack, info)
	if err != nil {
		return err
	}
	a := exported{App: exportedApp{
		Generation: "3", Name: string(app), Locked: info.Locked, Release: string(release.ID), Status: "running", Parameters: map[string]string{},
	}}
	if release.ID != "" {
		if a.Env, _, err = rack.Env(ctx, app, string(release.ID)); err != nil {
			return err
		}
	}
	write := func(w io.Writer) error {
		if release.Build == "" {
			return a.write(w, nil)
		}
		return a.write(w, func(w io.Writer) error { return rack.ExportBuild(ctx, app, string(release.Build), w) })
	}
	return s.writeTarget(file, write, map[string]any{"app": app, "release": release.ID, "build": release.Build})
}

// exportedRelease is the active release of an app, or the newest, or none.
func exportedRelease(ctx context.Context, rack *client.Client, info api.AppInfo) (api.ReleaseInfo, error) {
	if info.Release != "" {
		return rack.Release(ctx, info.Name, string(info.Release))
	}
	releases, err := rack.Releases(ctx, info.Name)
	if err != nil || len(releases) == 0 {
		return api.ReleaseInfo{}, err
	}
	return releases[0], nil
}

// write writes an archive, with a build unless that is nil.
func (a *exported) write(w io.Writer, build func(io.Writer) error) error {
	lines := map[string]string{}
	for name, value := range a.Env {
		if !strings.ContainsAny(value, "\r\n") {
			lines[name] = value
			continue
		}
		if a.App.Multiline == nil {
			a.App.Multiline = map[string]string{}
		}
		a.App.Multiline[name] = value
	}
	doc, err := json.Marshal(a.App)
	if err != nil {
		return fmt.Errorf("encode app: %w", err)
	}
	z := gzip.NewWriter(w)
	t := tar.NewWriter(z)
	if err := addEntry(t, "app.json", int64(len(doc)), strings.NewReader(string(doc))); err != nil {
		return err
	}
	if text := envText(lines); a.App.Release != "" {
		if err := addEntry(t, "env", int64(len(text)), strings.NewReader(text)); err != nil {
			return err
		}
	}
	if build != nil {
		if err := addBuild(t, build); err != nil {
			return err
		}
	}
	if err := t.Close(); err != nil {
		return err
	}
	return z.Close()
}

// addBuild adds a build through a file: its size stands before it.
func addBuild(t *tar.Writer, build func(io.Writer) error) error {
	f, err := os.CreateTemp("", "slipway-build-")
	if err != nil {
		return fmt.Errorf("keep the build: %w", err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if err := build(f); err != nil {
		return err
	}
	size, err := f.Seek(0, io.SeekCurrent)
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		return fmt.Errorf("keep the build: %w", err)
	}
	return addEntry(t, buildArchive, size, f)
}

func addEntry(t *tar.Writer, name string, size int64, r io.Reader) error {
	if err := t.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: size, Typeflag: tar.TypeReg}); err != nil {
		return err
	}
	_, err := io.Copy(t, r)
	return err
}

func (s *shell) importAppCommand() *cobra.Command {
	f, file := importFlags{confirmed: true}, ""
	c := s.verb(verb{
		use: "import [NAME]", short: "Make an app of an exported one", args: between(0, 1),
		long: "Make an app of what `slipway apps export` or `convox apps export` wrote, from a file or from standard input,\n" +
			"under its name or another: the environment and a release with the images, which is deployed. --dry-run says\n" +
			"what would be done. `slipway import convox` does the same, and asks first.",
		example: "  slipway apps import -f shop.tgz\n  slipway apps import store < shop.tgz",
		run: func(ctx context.Context, args []string) error {
			if err := s.nameApp(args); err != nil {
				return err
			}
			return s.importApp(ctx, file, f)
		},
	})
	c.Flags().StringVarP(&file, "file", "f", "", "where to read it; standard input by default")
	f.add(c)
	return c
}

// importApp imports an archive. What comes from standard input is kept meanwhile: it is read twice.
func (s *shell) importApp(ctx context.Context, file string, f importFlags) error {
	if file != "" {
		return s.importConvox(ctx, file, f)
	}
	if terminal(s.in) != nil {
		return usage("an app cannot be typed; give a file with -f")
	}
	dir, err := os.MkdirTemp("", "slipway-")
	if err != nil {
		return fmt.Errorf("keep the archive: %w", err)
	}
	defer os.RemoveAll(dir)
	file = filepath.Join(dir, "stdin")
	in, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("keep the archive: %w", err)
	}
	defer in.Close()
	if err := s.copyInput(ctx, in, math.MaxInt64); err != nil {
		return err
	}
	return s.importConvox(ctx, file, f)
}

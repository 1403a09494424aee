package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"slipway/api"
	"slipway/api/client"
	"slipway/manifest"
)

// manifestFile is the manifest of a directory.
type manifestFile struct {
	name string // below the directory
	text string
}

// readManifest reads the named manifest of a directory, or the first of the known names.
func readManifest(dir, name string) (manifestFile, error) {
	names := manifest.FileNames()
	if name != "" {
		names = []string{name}
	}
	for _, n := range names {
		read := func() ([]byte, error) { return readInside(dir, n) }
		if name != "" { // the user says where it is
			path := n
			if !filepath.IsAbs(n) {
				path = filepath.Join(dir, n)
			}
			read = func() ([]byte, error) { return os.ReadFile(path) }
		}
		text, err := read()
		if err == nil {
			return manifestFile{name: n, text: string(text)}, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return manifestFile{}, fmt.Errorf("read the manifest: %w", err)
		}
	}
	return manifestFile{}, api.Errorf(api.CodeNotFound, "no %s in %s; write one, or name it with -m", strings.Join(names, " or "), dir)
}

// check finds what is wrong with a manifest before anything is sent. What depends on the
// environment, and whether privileges are allowed, is for the rack to judge.
func (m manifestFile) check() error {
	if strings.Contains(m.text, "${") {
		return nil
	}
	if _, err := manifest.Load(m.text, manifest.Options{SkipRequired: true, AllowPrivileged: true}); err != nil {
		return fmt.Errorf("%s: %w", m.name, err)
	}
	return nil
}

// needed lists the files that a build needs even if .dockerignore names them.
func (m manifestFile) needed() []string {
	files := []string{m.name, "Dockerfile"}
	loaded, err := manifest.Load(m.text, manifest.Options{SkipRequired: true, AllowPrivileged: true})
	if err != nil {
		return files // it depends on the environment
	}
	for _, spec := range loaded.Specs() {
		if spec.Build != nil {
			file := filepath.Join(spec.Build.Path, spec.Build.Dockerfile)
			// BuildKit reads what a context ignores from the second or the third of these.
			files = append(files, file, file+ignoreFile, filepath.Join(spec.Build.Path, ignoreFile))
		}
	}
	return files
}

// builds reports whether a manifest has anything to build from source.
func (m manifestFile) builds() bool {
	loaded, err := manifest.Load(m.text, manifest.Options{SkipRequired: true, AllowPrivileged: true})
	if err != nil {
		return true
	}
	for _, spec := range loaded.Specs() {
		if spec.Build != nil {
			return true
		}
	}
	return false
}

// sendSource packs a directory and uploads it, unless the rack has it.
func (s *shell) sendSource(ctx context.Context, rack *client.Client, app api.AppName, dir string, m manifestFile) (string, error) {
	if !m.builds() {
		return "", nil
	}
	src, err := openSource(dir, m.needed()...)
	if err != nil {
		return "", err
	}
	var p packed
	err = s.step("Packaging source", func() (string, error) {
		p, err = src.digest(ctx)
		return fmt.Sprintf("%s, %s", count(p.files, "file"), api.Bytes(p.size)), err
	})
	if err != nil {
		return "", err
	}
	digest := p.digest
	err = s.step("Uploading source", func() (string, error) {
		if has, err := rack.HasSource(ctx, app, digest); err != nil || has {
			return "unchanged", err
		}
		r := src.reader(ctx, p)
		defer r.Close()
		// The files may have changed since: what was sent is what counts.
		digest, err = rack.UploadSource(ctx, app, r)
		return "", err
	})
	return digest, err
}

// gitTimeout bounds how long git may take to describe a directory.
const gitTimeout = 5 * time.Second

// describe names the commit of a directory: its hash, and a description if nothing in it was
// changed since. Both are "" outside of a repository.
func (s *shell) describe(ctx context.Context, dir string) (sha, description string) {
	ctx, cancel := context.WithTimeout(ctx, gitTimeout)
	defer cancel()
	git := func(args ...string) (string, error) {
		c := exec.CommandContext(ctx, "git", append([]string{"-C", dir}, args...)...)
		c.Env = s.environ()
		out, err := c.Output()
		return strings.TrimSpace(string(out)), err
	}
	sha, err := git("rev-parse", "HEAD")
	if err != nil {
		return "", ""
	}
	changed, err := git("status", "--porcelain")
	if err != nil || changed != "" {
		return sha, ""
	}
	subject, err := git("log", "-1", "--format=%s")
	if err != nil {
		return sha, ""
	}
	return sha, fmt.Sprintf("build %.10s %.200s", sha, subject)
}

// environ is the environment that other programs get.
func (s *shell) environ() []string {
	out := make([]string, 0, len(s.env))
	for name, value := range s.env {
		out = append(out, name+"="+value)
	}
	return out
}

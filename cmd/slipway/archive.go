package main

import (
	"archive/tar"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"slipway/api"
)

// exported is what `slipway apps export` or `convox apps export` wrote of an app: a compressed tar
// of app.json, env, build.tgz and, by Convox, a dump of each resource.
type exported struct {
	App exportedApp
	Env map[string]string
	// Build is what ran; its images are in Images, by the name of their file.
	Build  exportedBuild
	Images []string
	// Dumps names the resources whose data is there.
	Dumps []string
}

type exportedApp struct {
	Generation string            `json:"generation"`
	Name       string            `json:"name"`
	Locked     bool              `json:"locked"`
	Release    string            `json:"release"`
	Status     string            `json:"status"`
	Parameters map[string]string `json:"parameters"`
	// Multiline are the variables that have line breaks, which the file env cannot hold. Convox has
	// no such variables.
	Multiline map[string]string `json:"multiline,omitempty"`
	found     bool
}

type exportedBuild struct {
	ID          string `json:"id"`
	Description string `json:"description"`
	Manifest    string `json:"manifest"`
}

// buildArchive is the file of an archive that has the build.
const buildArchive = "build.tgz"

// documentMax bounds each document of an archive, in bytes: app, environment, build.
const documentMax = 4 << 20

// openArchive reads an archive, all but the images in it.
func openArchive(file string) (exported, error) {
	f, err := os.Open(file)
	if err != nil {
		return exported{}, fmt.Errorf("read the archive: %w", err)
	}
	defer f.Close()
	var a exported
	err = a.read(f)
	if err == nil && !a.App.found {
		err = errors.New("it has no app.json")
	}
	if err != nil {
		return a, api.Errorf(api.CodeInvalid, "%s is no archive of an app: %w", file, err)
	}
	return a, nil
}

func (a *exported) read(r io.Reader) error {
	err := eachFile(r, func(name string, r io.Reader) (err error) {
		switch {
		case name == "app.json":
			a.App.found = true
			return readDocument(name, r, &a.App)
		case name == "env":
			text, err := readBounded(name, r)
			if err != nil {
				return err
			}
			a.Env, err = parseEnv(string(text))
			return err
		case name == buildArchive:
			return a.readBuild(r)
		case path.Dir(name) == "resources":
			a.Dumps = append(a.Dumps, strings.TrimSuffix(path.Base(name), path.Ext(name)))
		}
		return nil
	})
	slices.Sort(a.Dumps)
	if a.Env == nil {
		a.Env = map[string]string{}
	}
	maps.Copy(a.Env, a.App.Multiline)
	return err
}

// readBuild reads the description in what `convox builds export` writes.
func (a *exported) readBuild(r io.Reader) error {
	return eachFile(r, func(name string, r io.Reader) error {
		if name != "build.json" {
			return nil
		}
		return readDocument(name, r, &a.Build)
	})
}

// eachFile calls see with the regular files of a compressed tar.
func eachFile(r io.Reader, see func(name string, r io.Reader) error) error {
	z, err := gzip.NewReader(r)
	if err != nil {
		return err
	}
	t := tar.NewReader(z)
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		if err := see(strings.TrimPrefix(path.Clean("/"+h.Name), "/"), t); err != nil {
			return err
		}
	}
}

func readDocument(name string, r io.Reader, into any) error {
	text, err := readBounded(name, r)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	return nil
}

func readBounded(name string, r io.Reader) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, documentMax+1))
	if err == nil && len(text) > documentMax {
		err = fmt.Errorf("%s is longer than %s", name, api.Bytes(documentMax))
	}
	return text, err
}

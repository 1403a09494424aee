package main

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"slipway/api"
)

// importSource makes a source of an archive: where the manifest has a Dockerfile, there is one that
// unpacks the image which was built from it, and sets what that image sets. The rack builds it like
// any other source, so that an import needs nothing of a rack that a deployment does not.
type importSource struct {
	archive exported
	specs   []api.ServiceSpec
	work    string   // for images
	root    *os.Root // of the source
}

// importedFrom is what one Dockerfile of an import unpacks: by target, the service whose image it is.
type importedFrom struct {
	file  string // of the Dockerfile, in the source
	dir   string // of the context
	stage map[string]api.ServiceSpec
}

// dockerfiles says which Dockerfiles services are built from.
func dockerfiles(specs []api.ServiceSpec) ([]importedFrom, error) {
	var all []importedFrom
	for _, spec := range specs {
		b := spec.Build
		if b == nil {
			continue
		}
		file := path.Join(b.Path, b.Dockerfile)
		i := slices.IndexFunc(all, func(f importedFrom) bool { return f.file == file })
		if i < 0 {
			i = len(all)
			all = append(all, importedFrom{file: file, dir: b.Path, stage: map[string]api.ServiceSpec{}})
		}
		other, taken := all[i].stage[b.Target]
		if taken && !slices.Equal(other.Build.Args, b.Args) {
			return nil, api.Errorf(api.CodeInvalid, "services %s and %s are built from %s with other arguments, which images cannot show; import the source: --source DIR", other.Name, spec.Name, file)
		}
		if !taken {
			all[i].stage[b.Target] = spec
		}
	}
	return all, nil
}

// write unpacks the images of an archive and writes the source, with the manifest as it is.
func (s *importSource) write(file, manifestName string) error {
	froms, err := dockerfiles(s.specs)
	if err != nil {
		return err
	}
	if s.archive, err = openArchive(file, s.keepImage); err != nil {
		return err
	}
	if err := s.root.WriteFile(manifestName, []byte(s.archive.Build.Manifest), 0o600); err != nil {
		return err
	}
	for _, from := range froms {
		if err := s.writeDockerfile(from); err != nil {
			return err
		}
	}
	return nil
}

// keepImage stores an image of the archive in a file.
func (s *importSource) keepImage(name string, r io.Reader) error {
	f, err := os.Create(filepath.Join(s.work, path.Base(name)))
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Close())
}

// writeDockerfile writes a Dockerfile and what it unpacks. The stage without a name is the last
// one, which is built unless another is asked for.
func (s *importSource) writeDockerfile(from importedFrom) error {
	if err := s.root.MkdirAll(from.dir, 0o700); err != nil {
		return err
	}
	if err := s.root.MkdirAll(path.Dir(from.file), 0o700); err != nil {
		return err
	}
	var text strings.Builder
	targets := slices.Sorted(maps.Keys(from.stage))
	slices.Reverse(targets) // "" is the last
	for _, target := range targets {
		service := from.stage[target].Name
		image, err := s.image(service)
		if err == nil {
			err = s.writeStage(&text, image, target, path.Join(from.dir, "rootfs-"+string(service)+".tar"))
		}
		if err != nil {
			return fmt.Errorf("image of %s: %w", service, err)
		}
	}
	return s.root.WriteFile(from.file, []byte(text.String()), 0o600)
}

// image opens the image of a service. A rack of generation 3 exports an OCI archive for each
// service, one of generation 2 all images in a single file, as `docker save` writes it.
func (s *importSource) image(service api.ServiceName) (v1.Image, error) {
	tag := string(service) + "." + s.archive.Build.ID
	for _, file := range s.archive.Images {
		file = filepath.Join(s.work, path.Base(file))
		opener := func() (io.ReadCloser, error) { return os.Open(file) }
		saved, err := tarball.LoadManifest(opener)
		if err != nil && filepath.Base(file) == tag+".tar" {
			return s.imageOfLayout(file)
		}
		for _, one := range saved {
			for _, repoTag := range one.RepoTags {
				if !strings.HasSuffix(repoTag, ":"+tag) {
					continue
				}
				ref, err := name.NewTag(repoTag)
				if err != nil {
					return nil, err
				}
				return tarball.Image(opener, &ref)
			}
		}
	}
	return nil, api.Errorf(api.CodeNotFound, "the archive has none named %s; import the source: --source DIR", tag)
}

// imageOfLayout unpacks an OCI archive and opens the image in it.
func (s *importSource) imageOfLayout(file string) (v1.Image, error) {
	dir := strings.TrimSuffix(file, ".tar")
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for t := tar.NewReader(f); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil && h.Typeflag == tar.TypeReg { // a link could lead out of the archive
			err = unpackOne(root, strings.TrimPrefix(path.Clean("/"+h.Name), "/"), h, t)
		}
		if err != nil {
			return nil, err
		}
	}
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return nil, err
	}
	m, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	if len(m.Manifests) != 1 {
		return nil, fmt.Errorf("%s has %d images", filepath.Base(file), len(m.Manifests))
	}
	return index.Image(m.Manifests[0].Digest)
}

// writeStage writes the files of an image, and the lines of a Dockerfile that make it again.
func (s *importSource) writeStage(text *strings.Builder, image v1.Image, target, rootfs string) error {
	config, err := image.ConfigFile()
	if err != nil {
		return err
	}
	lines, err := stage(config.Config, target, path.Base(rootfs))
	if err != nil {
		return err
	}
	text.WriteString(lines)
	f, err := s.root.Create(rootfs)
	if err != nil {
		return err
	}
	files := mutate.Extract(image)
	defer files.Close()
	_, err = io.Copy(f, files)
	return errors.Join(err, f.Close())
}

// stage is one stage of a Dockerfile: an image as its configuration says.
func stage(c v1.Config, target, rootfs string) (string, error) {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	if target == "" {
		line("FROM scratch")
	} else {
		line("FROM scratch AS %s", target)
	}
	line(`ADD ["%s", "/"]`, rootfs)
	for _, variable := range c.Env {
		key, value, _ := strings.Cut(variable, "=")
		line("ENV %s=%s", key, quoted(value))
	}
	for _, port := range slices.Sorted(maps.Keys(c.ExposedPorts)) {
		line("EXPOSE %s", port)
	}
	if len(c.Volumes) > 0 {
		line("VOLUME %s", words(slices.Sorted(maps.Keys(c.Volumes))))
	}
	for _, one := range []struct{ key, value string }{{"WORKDIR", c.WorkingDir}, {"USER", c.User}, {"STOPSIGNAL", c.StopSignal}} {
		if one.value != "" {
			line("%s %s", one.key, strings.ReplaceAll(one.value, "$", `\$`))
		}
	}
	if len(c.Entrypoint) > 0 {
		line("ENTRYPOINT %s", words(c.Entrypoint))
	}
	if len(c.Cmd) > 0 {
		line("CMD %s", words(c.Cmd))
	}
	settings := slices.Concat([]string{target, c.WorkingDir, c.User, c.StopSignal}, c.Env, slices.Collect(maps.Keys(c.ExposedPorts)))
	for _, value := range settings {
		if strings.ContainsAny(value, "\n\r") {
			return "", errors.New("a setting of it has a line break, which a Dockerfile cannot hold; import the source: --source DIR")
		}
	}
	return b.String(), nil
}

// quoted writes a value between double quotes, as Dockerfiles do.
func quoted(value string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "$", `\$`).Replace(value) + `"`
}

// words writes a list as Dockerfiles do.
func words(list []string) string {
	text, err := json.Marshal(list)
	if err != nil {
		panic(err) // texts always have a form in JSON
	}
	return string(text)
}

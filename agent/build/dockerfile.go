package build

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/parser"

	"slipway/api"
)

const (
	dockerfileDefault = "Dockerfile"
	dockerfileMax     = 2 << 20 // bytes
	developmentStage  = "development"
)

// plan is one image to build.
type plan struct {
	services []api.ServiceName
	// context is the directory that is sent to the engine.
	context    string
	dockerfile string // below context
	target     string
	args       map[string]string
}

// planBuild finds the files of a build stanza below source, which holds what Unpack made.
func planBuild(source string, service *api.ServiceSpec, job *Job) (*plan, error) {
	spec := *service.Build
	if spec.Path == "" {
		spec.Path = "."
	}
	if spec.Dockerfile == "" {
		spec.Dockerfile = dockerfileDefault
	}
	dir, err := within(source, spec.Path)
	if err != nil {
		return nil, api.Errorf(api.CodeInvalid, "service %s: build path %q: %w", service.Name, spec.Path, err)
	}
	file, err := within(dir, spec.Dockerfile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, api.Errorf(api.CodeInvalid, "service %s: no %s in the source; add one, or name it under build.manifest",
			service.Name, filepath.Join(spec.Path, spec.Dockerfile))
	}
	if err != nil {
		return nil, api.Errorf(api.CodeInvalid, "service %s: dockerfile %q: %w", service.Name, spec.Dockerfile, err)
	}
	p := &plan{context: dir, dockerfile: spec.Dockerfile, target: spec.Target}
	declared, stages, err := readDockerfile(file)
	if err != nil {
		return nil, api.Errorf(api.CodeInvalid, "service %s: %s: %w", service.Name, filepath.Join(spec.Path, spec.Dockerfile), err)
	}
	p.args = chooseArgs(declared, spec.Args, job.Build.Args, job.Build.Options.Args)
	if job.Build.Options.Development && stages[developmentStage] {
		p.target = developmentStage
	}
	return p, nil
}

// within joins a relative path to dir, follows links, and refuses what lies outside.
func within(dir, rel string) (string, error) {
	if !filepath.IsLocal(rel) {
		return "", errors.New("leads out of the source")
	}
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return "", err
	}
	file, err := filepath.EvalSymlinks(filepath.Join(dir, rel))
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return "", e.Err // without the builder's own paths
	}
	if err != nil {
		return "", err
	}
	if file != dir && !strings.HasPrefix(file, dir+string(filepath.Separator)) {
		return "", errors.New("leads out of the source by a link")
	}
	return file, nil
}

// readDockerfile returns the names of the arguments and of the stages that a Dockerfile
// declares. What it cannot parse is left to the engine, which explains it better.
func readDockerfile(file string) (args, stages map[string]bool, err error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, nil, errors.New("is not a file")
	}
	if info.Size() > dockerfileMax {
		return nil, nil, errors.New("is larger than 2 MiB")
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, nil, err
	}
	args, stages = map[string]bool{}, map[string]bool{}
	parsed, err := parser.Parse(bytes.NewReader(b))
	if err != nil {
		return args, stages, nil //nolint:nilerr // see above
	}
	for _, node := range parsed.AST.Children {
		var words []string
		for n := node.Next; n != nil; n = n.Next {
			words = append(words, n.Value)
		}
		switch {
		case strings.EqualFold(node.Value, "arg"):
			for _, w := range words {
				name, _, _ := strings.Cut(w, "=")
				args[name] = true
			}
		case strings.EqualFold(node.Value, "from") && len(words) == 3 && strings.EqualFold(words[1], "as"):
			stages[strings.ToLower(words[2])] = true
		}
	}
	return args, stages, nil
}

// chooseArgs returns values for the declared arguments: those given for this build win over
// those of the manifest ("NAME=value"), which win over the environment.
func chooseArgs(declared map[string]bool, manifest []string, env, given map[string]string) map[string]string {
	out := map[string]string{}
	set := func(name, value string) {
		if declared[name] {
			out[name] = value
		}
	}
	for name, value := range env {
		set(name, value)
	}
	for _, a := range manifest {
		if name, value, ok := strings.Cut(a, "="); ok {
			set(name, value)
		}
	}
	for name, value := range given {
		set(name, value)
	}
	return out
}

package control

import (
	"context"
	"maps"
	"regexp"
	"slices"
	"strings"

	"slipway/api"
	"slipway/api/pb"
	"slipway/manifest"
	"slipway/raftstore/state"
)

// envMax bounds the environment of an app, names and values together.
const envMax = 128 * api.KiB

// envNameMax bounds the name of a variable, in bytes.
const envNameMax = 255

var envName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]*$`)

// GetEnv returns the environment of a release; "" is the newest. An app without releases has
// an empty one.
func (s *Server) GetEnv(ctx context.Context, r *pb.ObjectRequest) (*pb.EnvReply, error) {
	v, a, err := s.readApp(ctx, r.GetApp())
	if err != nil {
		return nil, pb.Error(err)
	}
	if _, any := newestRelease(v, a.Name); !any && r.GetId() == "" {
		return &pb.EnvReply{}, nil
	}
	release, err := findRelease(v, a, r.GetId())
	if err != nil {
		return nil, pb.Error(err)
	}
	env, err := s.releaseEnv(release)
	if err != nil {
		return nil, pb.Error(err)
	}
	return &pb.EnvReply{Env: env, Release: string(release.ID)}, nil
}

// SetEnv makes a release from the newest one with a changed environment. A change that
// changes nothing makes none and answers with the newest.
func (s *Server) SetEnv(ctx context.Context, r *pb.SetEnvRequest) (*pb.Document, error) {
	s.forks.Lock()
	defer s.forks.Unlock()

	v, a, err := s.readApp(ctx, r.GetApp())
	if err != nil {
		return nil, pb.Error(err)
	}
	req := s.request(ctx, r.GetRequestId())
	id := req.ids.Release()
	if made, ok := v.Release(id); ok { // the call was tried again
		return doc(releaseInfo(v, a, made), nil)
	}
	base, exists := newestRelease(v, a.Name)
	if !exists {
		base = &api.Release{App: a.Name}
	}
	old, err := s.releaseEnv(base)
	if err != nil {
		return nil, pb.Error(err)
	}
	env, err := changedEnv(old, r)
	if err != nil {
		return nil, pb.Error(err)
	}
	if exists && maps.Equal(old, env) {
		return doc(releaseInfo(v, a, base), nil)
	}
	release, err := s.compile(release{
		id: id, app: a.Name, build: base.Build, manifest: base.Manifest, author: req.actor,
		description: envDescription(old, env), lenient: true,
	}, env)
	if err != nil {
		return nil, pb.Error(err)
	}
	if _, err := s.propose(ctx, req, "release", state.CreateRelease{Release: *release}); err != nil {
		return nil, pb.Error(err)
	}
	return s.GetRelease(ctx, &pb.ObjectRequest{App: r.GetApp(), Id: string(id)})
}

// changedEnv applies a request to an environment.
func changedEnv(old map[string]string, r *pb.SetEnvRequest) (map[string]string, error) {
	env := map[string]string{}
	if !r.GetReplace() {
		maps.Copy(env, old)
	}
	for _, name := range slices.Sorted(maps.Keys(r.GetSet())) {
		value := r.GetSet()[name]
		if len(name) > envNameMax {
			return nil, api.Errorf(api.CodeInvalid, "environment name %q… is %d bytes long, the limit is %d", name[:16], len(name), envNameMax)
		}
		if !envName.MatchString(name) {
			return nil, api.Errorf(api.CodeInvalid,
				"environment name %q invalid, must contain only letters, digits, _, - and ., and not start with a digit", name)
		}
		if strings.ContainsRune(value, 0) {
			return nil, api.Errorf(api.CodeInvalid, "environment variable %q: its value contains a NUL byte", name)
		}
		env[name] = value
	}
	for _, name := range r.GetUnset() {
		if _, ok := old[name]; !ok {
			return nil, api.NotFoundSee("environment variable", name, slices.Sorted(maps.Keys(old)), "slipway env -a "+r.GetApp())
		}
		delete(env, name)
	}
	var size api.Bytes
	for name, value := range env {
		size += api.Bytes(len(name) + len(value))
	}
	if size > envMax {
		return nil, api.Errorf(api.CodeExhausted, "the environment is %s large, the limit is %s", size, envMax)
	}
	return env, nil
}

// envDescription names what changed: "env add:FOO change:BAR remove:BAZ".
func envDescription(old, env map[string]string) string {
	var parts []string
	for _, d := range diffValues(old, env, false) {
		parts = append(parts, d.Change+":"+d.Name)
	}
	return strings.TrimSpace("env " + strings.Join(parts, " "))
}

// release is what a new release is made of.
type release struct {
	id          api.ReleaseID
	app         api.AppName
	build       api.BuildID // "" before the first build; the manifest is empty then
	manifest    string
	author      string
	description string
	// lenient allows required variables to be missing; a promote will not.
	lenient bool
}

// compile makes the record of a release: the manifest is loaded with the environment, and
// everything that may be secret is sealed.
func (s *Server) compile(r release, env map[string]string) (*api.Release, error) {
	secrets := api.ReleaseSecrets{Env: env}
	out := &api.Release{
		ID: r.id, App: r.app, Build: r.build, Author: r.author, Description: r.description,
		Manifest: r.manifest, EnvNames: slices.Sorted(maps.Keys(env)),
	}
	if r.build != "" {
		m, err := manifest.Load(r.manifest, manifest.Options{Env: env, SkipRequired: r.lenient, AllowPrivileged: s.cfg.AllowPrivileged})
		if err != nil {
			return nil, err
		}
		out.Services, secrets = m.Specs(), m.Secrets(env)
	}
	if err := s.secrets.SealRelease(out, secrets); err != nil {
		return nil, err
	}
	return out, nil
}

// releaseEnv returns the environment of a release.
func (s *Server) releaseEnv(r *api.Release) (map[string]string, error) {
	secrets, err := s.secrets.Release(r)
	return secrets.Env, err
}

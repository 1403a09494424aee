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

// SetEnv makes a release from the newest one with a changed environment, or another build. A change that
// changes nothing makes none and answers with the newest. A release that somebody else makes at the
// same time is not lost: this one is made from it then, or refused where the caller said from which.
func (s *Server) SetEnv(ctx context.Context, r *pb.SetEnvRequest) (*pb.Document, error) {
	req := s.request(ctx, r.GetRequestId())
	id := req.ids.Release()
	var info api.ReleaseInfo
	err := s.again(ctx, func(try string) (overtaken bool, err error) {
		info, overtaken, err = s.setEnv(ctx, r, req, id, "release/"+try)
		return overtaken, err
	})
	return doc(info, err)
}

// setEnv is one try of SetEnv. step is the name of its command.
func (s *Server) setEnv(ctx context.Context, r *pb.SetEnvRequest, req request, id api.ReleaseID, step string) (info api.ReleaseInfo, overtaken bool, err error) {
	v, a, err := s.readApp(ctx, r.GetApp())
	if err != nil {
		return info, false, err
	}
	if made, ok := v.Release(id); ok { // the call was tried again
		return releaseInfo(v, a, made), false, nil
	}
	base, err := baseOf(v, a, r.GetIfRelease())
	if err != nil {
		return info, false, err
	}
	old, err := s.releaseEnv(base)
	if err != nil {
		return info, false, err
	}
	env, err := changedEnv(old, r)
	if err != nil {
		return info, false, err
	}
	content := release{
		id: id, app: a.Name, build: base.Build, manifest: base.Manifest, author: req.actor, description: envDescription(old, env), lenient: true,
	}
	if err := content.take(v, a, r.GetBuild()); err != nil {
		return info, false, err
	}
	if base.ID != "" && maps.Equal(old, env) && content.build == base.Build {
		return releaseInfo(v, a, base), false, nil
	}
	made, err := s.compile(content, env)
	if err != nil {
		return info, false, err
	}
	if _, err := s.propose(ctx, req, step, state.CreateRelease{Release: *made, Base: &base.ID}); err != nil {
		return info, s.forked(ctx, err, a.Name, base.ID) && r.GetIfRelease() == "", err
	}
	if v, a, err = s.readApp(ctx, r.GetApp()); err != nil {
		return info, false, err
	}
	stored, err := findRelease(v, a, string(id))
	if err != nil {
		return info, false, err
	}
	return releaseInfo(v, a, stored), false, nil
}

// noRelease is what a caller names who wants to make the first release of an app.
const noRelease = "none"

// baseOf returns the newest release of an app, one without an ID where there is none. wanted is
// the one that it has to be: "" for whichever, noRelease for none.
func baseOf(v *state.View, a *api.App, wanted string) (*api.Release, error) {
	newest, exists := newestRelease(v, a.Name)
	if !exists {
		newest = &api.Release{App: a.Name}
	}
	if wanted == "" || wanted == noRelease && !exists {
		return newest, nil
	}
	if wanted != noRelease {
		named, err := findRelease(v, a, wanted)
		if err != nil {
			return nil, err
		}
		if named.ID == newest.ID {
			return newest, nil
		}
	}
	return nil, api.Errorf(api.CodeConflict, "the newest release of app %q is %s (v%d) and not %s: somebody changed the app meanwhile; nothing was set; see: slipway releases -a %s",
		a.Name, newest.ID, newest.Number, wanted, a.Name)
}

// forked reports whether a release was refused because base is not the newest of its app any more.
func (s *Server) forked(ctx context.Context, refused error, app api.AppName, base api.ReleaseID) bool {
	if api.CodeOf(refused) != api.CodeConflict {
		return false
	}
	v, err := s.read(ctx)
	if err != nil {
		return false
	}
	newest, ok := newestRelease(v, app)
	return ok && newest.ID != base
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

// take makes the release one of another build; "" keeps the one it has.
func (r *release) take(v *state.View, a *api.App, id string) error {
	if id == "" || id == string(r.build) {
		return nil
	}
	b, err := findBuild(v, a, id)
	if err != nil {
		return err
	}
	if b.Status != api.BuildComplete {
		return api.Errorf(api.CodeConflict, "build %s is %s; a release is made of one that is complete: slipway builds -a %s", b.ID, b.Status, a.Name)
	}
	r.build, r.manifest = b.ID, b.Manifest
	r.description = "build:" + id + strings.TrimPrefix(r.description, "env")
	return nil
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

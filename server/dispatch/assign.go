package dispatch

import (
	"fmt"
	"maps"

	"slipway/api"
	"slipway/raftstore/state"
)

// secrets opens what is sealed in the state.
type secrets interface {
	Release(r *api.Release) (api.ReleaseSecrets, error)
	Build(b *api.Build) (api.BuildSecrets, error)
	Command(p *api.Process) ([]string, error)
	Registry(r *state.Registry) (api.RegistryLogin, error)
}

// assignment derives what one process needs.
func assignment(v *state.View, p *api.Process, open secrets) (api.Assignment, error) {
	app, known := v.App(p.App)
	a := api.Assignment{
		Purge: known && app.Deleting, Process: p.ID, App: p.App, Service: p.Service, Kind: p.Kind, Slot: p.Slot, Release: p.Release,
		Attempt: p.Attempt, Desired: p.Desired, Ask: p.Ask, Grant: p.Grant, Run: p.Run,
	}
	if p.Kind == api.KindBuild {
		return buildAssignment(v, p, a, open)
	}
	release, ok := v.Release(p.Release)
	if !ok {
		return a, api.NotFound("release", string(p.Release), nil)
	}
	spec, ok := v.Spec(p.Release, p.Service)
	if !ok {
		return a, api.NotFound("service", string(p.Service), nil)
	}
	build, ok := v.Build(release.Build)
	if !ok {
		return a, api.NotFound("build", string(release.Build), nil)
	}
	a.Spec, a.Image = *spec, build.Images[p.Service]
	if service, ok := v.Service(p.Key()); ok && p.Kind == api.KindService {
		a.Spec.Scale = service.Override.Apply(a.Spec.Scale)
	}
	secret, err := open.Release(release)
	if err != nil {
		return a, err
	}
	mine := secret.Services[p.Service]
	a.Env, a.Command = environment(v, p, release, build, spec, mine.Env), mine.Command
	if p.Kind == api.KindRun || p.Kind == api.KindTimer {
		if a.Command, err = open.Command(p); err != nil {
			return a, err
		}
		a.Spec.Health, a.Spec.Liveness, a.Spec.Startup = api.Health{Disabled: true}, nil, nil
	}
	return a, nil
}

// environment joins what the rack tells every process with what the app declares; the app
// wins.
func environment(v *state.View, p *api.Process, r *api.Release, b *api.Build, spec *api.ServiceSpec, own map[string]string) map[string]string {
	env := map[string]string{
		"APP": string(p.App), "RACK": v.Rack().Name, "RELEASE": string(r.ID), "SERVICE": string(p.Service),
		"BUILD": string(b.ID), "BUILD_DESCRIPTION": b.Description, "BUILD_GIT_SHA": b.GitSHA,
		"PROCESS": string(p.ID),
	}
	if spec.Port.Number != 0 {
		env["PORT"] = fmt.Sprint(spec.Port.Number)
	}
	maps.Copy(env, hostPortVariables(p.Grant))
	for name, value := range own {
		env[name] = value
	}
	return env
}

// hostPortVariables tell a process by which ports of the node it is reached:
// SLIPWAY_HOST_PORT_<its own port>. Where TCP and UDP of one port differ, that is TCP's; UDP's is
// always in SLIPWAY_HOST_PORT_<its own port>_UDP as well.
func hostPortVariables(g *api.Grant) map[string]string {
	if g == nil {
		return nil
	}
	env := map[string]string{}
	for _, p := range g.HostPorts {
		name, host := fmt.Sprintf("SLIPWAY_HOST_PORT_%d", p.Port), fmt.Sprint(p.Host)
		if p.Protocol == api.UDP {
			env[name+"_UDP"] = host
		}
		if env[name] == "" || p.Protocol == api.TCP {
			env[name] = host
		}
	}
	return env
}

// buildAssignment derives what a build process needs.
func buildAssignment(v *state.View, p *api.Process, a api.Assignment, open secrets) (api.Assignment, error) {
	build, ok := v.Build(p.Build)
	if !ok {
		return a, api.NotFound("build", string(p.Build), nil)
	}
	secrets, err := open.Build(build)
	if err != nil {
		return a, err
	}
	options := build.Options
	options.Args = secrets.Args
	args := maps.Clone(secrets.Env)
	maps.Copy(args, secrets.Args)
	a.Build = &api.BuildAssignment{ID: build.ID, Source: build.Source, Services: build.Services, Args: args, Options: options}
	for r := range v.Registries() {
		login, err := open.Registry(r)
		if err != nil {
			return a, err
		}
		a.Build.Registries = append(a.Build.Registries, login)
	}
	return a, nil
}

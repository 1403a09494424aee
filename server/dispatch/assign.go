package dispatch

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"net"
	"slices"

	"slipway/api"
	"slipway/api/pb"
	"slipway/raftstore/state"
)

// secrets opens what is sealed in the state.
type secrets interface {
	Release(r *api.Release) (api.ReleaseSecrets, error)
	Build(b *api.Build) (api.BuildSecrets, error)
	Command(p *api.Process) ([]string, error)
}

// signature changes whenever the assignment set of a node changes. It costs one pass over the
// live processes of the node and opens no secret.
func signature(v *state.View, node api.NodeID) uint64 {
	h := fnv.New64a()
	for p := range v.ProcessesOn(node) {
		fmt.Fprintf(h, "%s %d\n", p.ID, p.Desired)
	}
	return h.Sum64()
}

// assignments derives the assignment set of a node. A process whose records are missing or
// cannot be opened is left out and named in the error, the others are still returned.
func assignments(v *state.View, node api.NodeID, open secrets) (*pb.AssignmentSet, error) {
	set := &pb.AssignmentSet{Version: v.Index()}
	var failed error
	for p := range v.ProcessesOn(node) {
		a, err := assignment(v, p, open)
		if err != nil {
			failed = fmt.Errorf("assignment of process %s: %w", p.ID, err)
			continue
		}
		set.Assignment = append(set.Assignment, pb.Marshal(a))
	}
	return set, failed
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
	return a, nil
}

// names derives the addresses that a node's DNS answers with: healthy processes by
// "service.app".
func names(v *state.View) *pb.Names {
	out := map[string]*pb.Addresses{}
	for p := range v.LiveProcesses() {
		if p.Kind != api.KindService || p.Desired != api.DesiredRun || p.Observed.Health != api.HealthHealthy || p.Observed.Addr == "" {
			continue
		}
		name := string(p.Service) + "." + string(p.App)
		if out[name] == nil {
			out[name] = &pb.Addresses{}
		}
		out[name].Address = append(out[name].Address, p.Observed.Addr)
		if spec, ok := v.Spec(p.Release, p.Service); ok && spec.Port.Number != 0 { // for SRV
			out[name].Address = append(out[name].Address, net.JoinHostPort(p.Observed.Addr, fmt.Sprint(spec.Port.Number)))
		}
	}
	for _, a := range out {
		slices.Sort(a.Address)
	}
	return &pb.Names{Names: out}
}

// digest identifies a document by content.
func digest(doc any) uint64 {
	h := fnv.New64a()
	// An encoder cannot fail on a hash, and pb messages of strings always have a JSON form.
	_ = json.NewEncoder(h).Encode(doc)
	return h.Sum64()
}

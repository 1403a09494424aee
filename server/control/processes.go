package control

import (
	"context"
	"fmt"
	"strings"
	"time"

	"slipway/api"
	"slipway/api/pb"
	"slipway/manifest"
	"slipway/raftstore/state"
)

// The limits of a one-off's life.
const (
	runTimeoutDefault = time.Hour
	runTimeoutMax     = 7 * 24 * time.Hour
)

// commandMax bounds the command of a one-off, in bytes.
const commandMax = 64 << 10

// ListProcesses lists processes: of an app or of all apps that the caller may see.
func (s *Server) ListProcesses(ctx context.Context, r *pb.ListProcessesRequest) (*pb.Documents, error) {
	v, err := s.read(ctx)
	if err != nil {
		return nil, pb.Error(err)
	}
	processes := v.Processes()
	if r.GetApp() != "" {
		a, err := s.findApp(ctx, v, r.GetApp())
		if err != nil {
			return nil, pb.Error(err)
		}
		if _, _, err := findService(v, a, r.GetService()); err != nil && r.GetService() != "" {
			return nil, pb.Error(err)
		}
		processes = v.ProcessesOfApp(a.Name)
	}
	out, commands := []api.ProcessInfo{}, s.commands(ctx, v)
	for p := range processes {
		if !wantedProcess(p, r) || !s.cfg.Callers.Visible(ctx, p.App) {
			continue
		}
		info := processInfo(v, p)
		info.Command = commands(p)
		out = append(out, info)
	}
	return docs(out, nil)
}

func wantedProcess(p *api.Process, r *pb.ListProcessesRequest) bool {
	return (r.GetAll() || p.Live()) &&
		(r.GetService() == "" || string(p.Service) == r.GetService()) &&
		(r.GetRelease() == "" || string(p.Release) == r.GetRelease())
}

// GetProcess describes one process, live or ended.
func (s *Server) GetProcess(ctx context.Context, r *pb.ObjectRequest) (*pb.Document, error) {
	v, a, err := s.readApp(ctx, r.GetApp())
	if err != nil {
		return nil, pb.Error(err)
	}
	p, err := findProcess(v, a, r.GetId())
	if err != nil {
		return nil, pb.Error(err)
	}
	info := processInfo(v, p)
	info.Command = s.commands(ctx, v)(p)
	return doc(info, nil)
}

// StopProcess takes a process out of service; a copy of a service is replaced.
func (s *Server) StopProcess(ctx context.Context, r *pb.ObjectRequest) (*pb.Empty, error) {
	v, a, err := s.readApp(ctx, r.GetApp())
	if err != nil {
		return nil, pb.Error(err)
	}
	p, err := findProcess(v, a, r.GetId())
	if err != nil {
		return nil, pb.Error(err)
	}
	req := s.request(ctx, r.GetRequestId())
	_, err = s.propose(ctx, req, "stop", state.StopProcess{Process: p.ID, Reason: "stopped by " + req.actor})
	return done(err)
}

// findProcess returns a process of an app.
func findProcess(v *state.View, a *api.App, id string) (*api.Process, error) {
	if p, ok := v.Process(api.ProcessID(id)); ok && p.App == a.Name {
		return p, nil
	}
	var known []string
	for p := range v.ProcessesOfApp(a.Name) {
		known = append(known, string(p.ID))
	}
	return nil, api.NotFoundSee("process", id, known, "slipway ps -a "+string(a.Name))
}

// Run creates a one-off. It belongs to the rack from then on: a client that goes away does
// not take it along, unless nobody is attached to it for a minute.
func (s *Server) Run(ctx context.Context, r *pb.RunRequest) (*pb.Document, error) {
	v, a, err := s.readApp(ctx, r.GetApp())
	if err != nil {
		return nil, pb.Error(err)
	}
	if a.Deleting {
		return nil, pb.Error(api.Errorf(api.CodeConflict, "app %q is being deleted", a.Name))
	}
	req := s.request(ctx, r.GetRequestId())
	p, err := s.newRun(v, a, r, req)
	if err != nil {
		return nil, pb.Error(err)
	}
	if _, err := s.propose(ctx, req, "process", state.CreateProcess{Process: *p}); err != nil {
		return nil, pb.Error(err)
	}
	return s.GetProcess(ctx, &pb.ObjectRequest{App: r.GetApp(), Id: string(p.ID)})
}

// newRun checks a request and makes the record of a one-off.
func (s *Server) newRun(v *state.View, a *api.App, r *pb.RunRequest, req request) (*api.Process, error) {
	release, ok := v.Release(a.Release)
	if !ok && r.GetRelease() == "" {
		return nil, api.Errorf(api.CodeConflict, "app %q has no active release; name one with --release, or run: slipway deploy -a %s", a.Name, a.Name)
	}
	if r.GetRelease() != "" {
		var err error
		if release, err = findRelease(v, a, r.GetRelease()); err != nil {
			return nil, err
		}
		if release.Build == "" {
			return nil, api.Errorf(api.CodeConflict, "release %s has no build; run: slipway build -a %s", release.ID, a.Name)
		}
	}
	spec, err := releaseService(release, r.GetService())
	if err != nil {
		return nil, err
	}
	timeout := time.Duration(r.GetTimeoutSeconds()) * time.Second
	switch {
	case r.GetTimeoutSeconds() == 0:
		timeout = runTimeoutDefault
	case r.GetTimeoutSeconds() < 0 || r.GetTimeoutSeconds() > int64(runTimeoutMax.Seconds()):
		return nil, api.Errorf(api.CodeInvalid, "a timeout of %s is not within 1s and %s", timeout, runTimeoutMax)
	}
	if size := len(strings.Join(r.GetCommand(), " ")); size > commandMax {
		return nil, api.Errorf(api.CodeExhausted, "the command is %d bytes long, the limit is %d", size, commandMax)
	}
	p := &api.Process{
		ID: req.ids.Process(), App: a.Name, Service: spec.Name, Kind: api.KindRun, Release: release.ID, Ask: spec.Scale.Ask,
		Cause: "run by " + req.actor,
		Run: &api.RunSpec{
			TTY: r.GetTty(), Rows: int(r.GetRows()), Cols: int(r.GetCols()),
			Attached: !r.GetDetach(), Timeout: timeout, Author: req.actor,
		},
	}
	return p, s.secrets.SealCommand(p, r.GetCommand())
}

func processInfo(v *state.View, p *api.Process) api.ProcessInfo {
	o := &p.Observed
	info := api.ProcessInfo{
		ID: p.ID, App: p.App, Service: p.Service, Kind: p.Kind, Status: processStatus(p), Health: o.Health,
		Ready: p.Ready, Node: string(p.Node), Release: p.Release, Created: p.Created,
		Started: o.Started, Ended: o.Finished, Addr: o.Addr, Message: o.Message,
	}
	if n, ok := v.Node(p.Node); ok && n.Name != "" {
		info.Node = n.Name
	}
	if o.State == api.StateExited {
		code := o.ExitCode
		info.Exit = &code
	}
	if o.State == api.StatePending && info.Message == "" {
		info.Message = waits(v, p)
	}
	return info
}

// processStatus is the word for the state of a process.
func processStatus(p *api.Process) string {
	o := &p.Observed
	switch {
	case o.State == api.StateExited && p.Desired != api.DesiredRun:
		return "stopped"
	case o.State == api.StateExited && p.Kind != api.KindService && o.ExitCode == 0:
		return "complete"
	case o.State == api.StateExited && p.Kind != api.KindService:
		return "failed"
	case o.State == api.StateExited:
		return "crashed"
	case o.State == api.StateRunning && p.Desired == api.DesiredDrain:
		return "draining"
	case o.State == api.StateRunning && o.Health == api.HealthUnhealthy:
		return "unhealthy"
	}
	return o.State.String()
}

// commands returns a function that tells what a process runs, without values of the
// environment: the manifest's own words, or what the author of a one-off typed. Who may not
// enter processes sees only the program of a one-off: what follows may be a secret.
func (s *Server) commands(ctx context.Context, v *state.View) func(*api.Process) string {
	known := map[api.ReleaseID]map[api.ServiceName]string{}
	return func(p *api.Process) string {
		switch p.Kind {
		case api.KindBuild:
			return fmt.Sprintf("build %s", p.Build)
		case api.KindRun:
			words, err := s.secrets.Command(p)
			if err != nil {
				return "" // a lost key must not make the list unreadable
			}
			if len(words) > 1 && !s.cfg.Callers.Enters(ctx) {
				words = []string{words[0], "..."}
			}
			return strings.Join(words, " ")
		}
		if _, ok := known[p.Release]; !ok {
			known[p.Release] = sources(v, p.Release)
		}
		return known[p.Release][p.Service]
	}
}

// sources returns the commands of a release as they stand in its manifest.
func sources(v *state.View, id api.ReleaseID) map[api.ServiceName]string {
	out := map[api.ServiceName]string{}
	r, ok := v.Release(id)
	if !ok {
		return out
	}
	m, err := manifest.Load(r.Manifest, manifest.Options{SkipRequired: true, AllowPrivileged: true})
	if err != nil {
		return out // it needs values that are not shown here
	}
	for i := range m.Services {
		out[m.Services[i].Spec.Name] = m.Services[i].Source
	}
	return out
}

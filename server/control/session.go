package control

import (
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc"

	"slipway/api"
	"slipway/api/pb"
	"slipway/raftstore/state"
)

// The kinds of session.
const (
	kindExec    = "exec"
	kindAttach  = "attach"
	kindLogs    = "logs"
	kindCopyIn  = "copy_in"
	kindCopyOut = "copy_out"
	kindProxy   = "proxy"
)

// exitWait bounds the wait for the exit code of a process whose stream has ended.
const exitWait = 10 * time.Second

// sessionStream is the client's end of a session.
type sessionStream = grpc.BidiStreamingServer[pb.Frame, pb.Frame]

// Session connects a client with a process, or with the logs of an app.
func (s *Server) Session(stream sessionStream) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	asked := first.GetOpen()
	if asked == nil {
		return pb.Error(api.Errorf(api.CodeInvalid, "the first frame of a session must open it"))
	}
	// Only these fields are the client's to choose; the rest is for servers and agents.
	open := &pb.Open{
		Kind: asked.GetKind(), App: asked.GetApp(), Process: asked.GetProcess(), Service: asked.GetService(),
		Command: asked.GetCommand(), Entrypoint: asked.GetEntrypoint(), Tty: asked.GetTty(), Rows: asked.GetRows(), Cols: asked.GetCols(),
		Path: asked.GetPath(), Query: asked.GetQuery(), Stdin: asked.GetStdin(), Port: asked.GetPort(),
	}
	switch open.Kind {
	case kindLogs:
		return pb.Error(s.logSession(stream, open))
	case kindAttach:
		return pb.Error(s.attach(stream, open))
	case kindExec, kindCopyIn, kindCopyOut, kindProxy:
		return pb.Error(s.enter(stream, open))
	}
	return pb.Error(api.Errorf(api.CodeInvalid, "session kind %q is not known", open.Kind))
}

// enter runs a command in a running process, copies files into or out of it, or connects to a port
// of it.
func (s *Server) enter(stream sessionStream, open *pb.Open) error {
	v, a, err := s.readApp(stream.Context(), open.App)
	if err != nil {
		return err
	}
	if err := checkOpen(open); err != nil {
		return err
	}
	p, err := s.chooseProcess(v, a, open.Process, open.Service)
	if err != nil {
		return err
	}
	open.Process, open.Service = string(p.ID), string(p.Service)
	ended, err := s.pump(stream, p.Node, open)
	if err == nil && !ended {
		return api.Errorf(api.CodeUnavailable, "node %s ended the session of process %s; what became of it is not known", p.Node, p.ID)
	}
	return err
}

// checkOpen reports what a session lacks.
func checkOpen(open *pb.Open) error {
	switch open.Kind {
	case kindExec:
		if len(open.Command) == 0 {
			return api.Errorf(api.CodeInvalid, "no command is given")
		}
	case kindProxy:
		if open.Port < 1 || open.Port > 65_535 {
			return api.Errorf(api.CodeInvalid, "port %d is not one of 1 to 65535", open.Port)
		}
	default:
		if open.Path == "" {
			return api.Errorf(api.CodeInvalid, "no path is given")
		}
	}
	return nil
}

// chooseProcess returns the named process, or one of the named service: a ready one if there
// is any. A name that is both is a process.
func (s *Server) chooseProcess(v *state.View, a *api.App, process, service string) (*api.Process, error) {
	if process == "" && service == "" {
		return nil, api.Errorf(api.CodeInvalid, "neither a process nor a service is named")
	}
	if process != "" {
		p, err := findProcess(v, a, process)
		if err != nil && service == "" {
			return nil, err
		}
		if err == nil && p.Observed.State != api.StateRunning {
			return nil, api.Errorf(api.CodeConflict, "process %s is not running: %s", p.ID, processStatus(p))
		}
		if err == nil {
			return p, nil
		}
	}
	if _, _, err := findService(v, a, service); err != nil {
		return nil, err
	}
	var ready, running []*api.Process
	for p := range v.LiveOf(api.ServiceKey{App: a.Name, Service: api.ServiceName(service)}) {
		switch {
		case p.Kind != api.KindService || p.Observed.State != api.StateRunning:
		case p.Ready && p.Desired == api.DesiredRun:
			ready = append(ready, p)
		default:
			running = append(running, p)
		}
	}
	if len(ready) == 0 {
		ready = running
	}
	if len(ready) == 0 {
		return nil, api.Errorf(api.CodeConflict, "service %q has no running process; see why: slipway why %s -a %s", service, service, a.Name)
	}
	return ready[s.cfg.Mint()%uint64(len(ready))], nil
}

// attach connects a client with the standard streams of a one-off, from its beginning to its
// exit code.
func (s *Server) attach(stream sessionStream, open *pb.Open) error {
	ctx := stream.Context()
	v, a, err := s.readApp(ctx, open.App)
	if err != nil {
		return err
	}
	p, err := findProcess(v, a, open.Process)
	if err != nil {
		return err
	}
	if p.Kind != api.KindRun {
		return api.Errorf(api.CodeInvalid, "process %s is no one-off; enter it with: slipway exec %s -a %s -- sh", p.ID, p.ID, a.Name)
	}
	if p, err = s.waitProcess(ctx, v, p.ID, func(p *api.Process) bool { return p.Observed.State >= api.StateRunning }); err != nil {
		return err
	}
	open.Service = string(p.Service)
	if p.Live() {
		ended, err := s.pump(stream, p.Node, open)
		gone := api.CodeOf(err) == api.CodeNotFound // it ended before the agent looked for it
		if ended || err != nil && !gone {
			return err
		}
		if !gone {
			return s.sendExit(stream, p.ID)
		}
	}
	// It ended before anybody was attached: what it wrote is in its log.
	if p.Node != "" {
		q := api.LogQuery{App: p.App, Process: p.ID, Previous: true}
		if err := s.history(ctx, q, []api.NodeID{p.Node}, linesToOutput(stream)); err != nil {
			return err
		}
	}
	return s.sendExit(stream, p.ID)
}

// sendExit waits for the end of a process and sends its exit code.
func (s *Server) sendExit(stream sessionStream, id api.ProcessID) error {
	ctx, cancel := context.WithTimeout(stream.Context(), exitWait)
	defer cancel()
	p, err := s.waitProcess(ctx, s.cfg.Store.View(), id, func(p *api.Process) bool { return !p.Live() })
	if err != nil {
		return api.Errorf(api.CodeUnavailable, "the end of process %s is not known yet: %w", id, err)
	}
	if p.Observed.State != api.StateExited {
		return api.Errorf(api.CodeConflict, "process %s %s: %s", id, p.Observed.State, p.Observed.Message)
	}
	return stream.Send(exitFrame(p.Observed.ExitCode))
}

// waitProcess waits until a process is as wanted.
func (s *Server) waitProcess(ctx context.Context, v *state.View, id api.ProcessID, wanted func(*api.Process) bool) (*api.Process, error) {
	var p *api.Process
	err := s.follow(ctx, v, func(v *state.View) (bool, error) {
		var ok bool
		if p, ok = v.Process(id); !ok {
			return false, api.Errorf(api.CodeNotFound, "process %s was removed", id)
		}
		return !wanted(p), nil
	})
	return p, err
}

// pump carries frames between a client and an agent until the agent ends the stream. ended
// tells whether the client got a last frame, an exit or a failure; an agent that does not
// know the process is an error of code not_found, and nothing was sent then.
func (s *Server) pump(client sessionStream, node api.NodeID, open *pb.Open) (ended bool, err error) {
	ctx, cancel := context.WithCancel(client.Context())
	defer cancel()
	agent, err := s.cfg.Agents.OpenStream(ctx, node, open)
	if err != nil {
		return false, err
	}
	// The end of the call ends the receiver: a gRPC stream offers no other way, so that there
	// is nothing to wait for here.
	go upstream(client, agent)
	for sent := false; ; sent = true {
		f, err := agent.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return false, nil
		case err != nil:
			return false, api.Errorf(api.CodeUnavailable, "the session with node %s broke: %w", node, pb.FromError(err))
		case f.GetFailure() != nil && !sent:
			return false, &api.Error{Code: api.Code(f.GetFailure().GetCode()), Message: f.GetFailure().GetMessage()}
		}
		if err := client.Send(f); err != nil {
			return false, err
		}
		if f.GetExit() != nil || f.GetFailure() != nil {
			return true, nil
		}
	}
}

// upstream carries what a client may send: input and window sizes.
func upstream(client sessionStream, agent Stream) {
	for {
		f, err := client.Recv()
		if err != nil {
			return
		}
		switch f.GetKind().(type) {
		case *pb.Frame_Stdin, *pb.Frame_StdinClose, *pb.Frame_Resize:
			if agent.Send(f) != nil {
				return
			}
		}
	}
}

func exitFrame(code int) *pb.Frame {
	return &pb.Frame{Kind: &pb.Frame_Exit{Exit: &pb.Exit{Code: int32(code)}}}
}

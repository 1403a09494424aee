package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"slipway/api"
	"slipway/api/pb"
	"slipway/raftstore"
	"slipway/raftstore/state"
	"slipway/server/control"
)

// join brings another node, with so much memory.
func (a *fakeAgent) join(id api.NodeID, memory api.Bytes) {
	n := api.Node{ID: id, Name: "node" + string(id[1:]), Addr: "127.0.0.1", BootID: "1", Version: "test", Capacity: api.Amount{CPU: 4000, Memory: memory, Disk: 100 * api.GiB}}
	a.propose(context.Background(), state.RegisterNode{Node: n})
}

// fail makes a node silent.
func (a *fakeAgent) fail(id api.NodeID) {
	a.propose(context.Background(), state.SetNodeStatus{Node: id, Status: api.NodeDown, Reason: "silent for 30 s"})
}

// fakeAgent is the agent of nodes that run nothing: processes are healthy at once, unless their service
// is called crash. While the agent holds, services called slow and builds with the argument HOLD
// go no further. One-offs end when somebody attaches, with the words of their command:
// "echo WORDS", "exit N", "cat", "hang", "vanish", "size".
type fakeAgent struct {
	store   *raftstore.Store
	secrets *control.Secrets

	mu    sync.Mutex
	files map[string][]byte // what was copied in, by directory
	codes sync.Map          // api.ProcessID → exit code of a one-off
	holds atomic.Bool
	away  atomic.Bool // no stream can be opened
	// How many commands hang, and how many logs are followed.
	hung, readers atomic.Int32
}

// hold makes the agent hold, or lets it go on.
func (a *fakeAgent) hold(holds bool) {
	a.holds.Store(holds)
	a.propose(context.Background(), state.AckRoutes{Node: "n1", Version: a.store.View().RoutesVersion()}) // wakes it
}

// run reports what the processes of the nodes do.
func (a *fakeAgent) run(ctx context.Context) {
	v := a.store.View()
	for {
		for n := range v.Nodes() {
			statuses := map[api.ProcessID]api.ProcessStatus{}
			for p := range v.ProcessesOn(n.ID) {
				if next, moved := a.next(v, p); moved {
					statuses[p.ID] = next
				}
			}
			if len(statuses) > 0 && n.Status == api.NodeReady {
				a.propose(ctx, state.UpdateProcesses{Node: n.ID, Statuses: statuses})
			}
			if n.Router && n.RoutesAcked < v.RoutesVersion() {
				a.propose(ctx, state.AckRoutes{Node: n.ID, Version: v.RoutesVersion()})
			}
		}
		var err error
		if v, err = a.store.Next(ctx, v.Index()); err != nil {
			return
		}
	}
}

func (a *fakeAgent) propose(ctx context.Context, cmd state.Command) {
	_, _ = a.store.Propose(ctx, state.Entry{At: time.Now(), Actor: "node/n1", Command: cmd}) // the next view tells
}

// next is what a process does next.
func (a *fakeAgent) next(v *state.View, p *api.Process) (api.ProcessStatus, bool) {
	o, now := p.Observed, time.Now()
	if p.Desired == api.DesiredStop {
		o.State, o.ExitCode, o.Finished = api.StateExited, 0, now
		return o, true
	}
	if code, ended := a.codes.Load(p.ID); ended {
		o.State, o.ExitCode, o.Finished = api.StateExited, code.(int), now
		return o, true
	}
	if o.State == api.StateRunning {
		return o, false
	}
	if o.Addr = "10.0.0.2"; o.Started.IsZero() {
		o.Started = now
	}
	switch {
	case a.holds.Load() && (p.Service == "slow" || p.Kind == api.KindBuild && a.argument(v, p, "HOLD")):
		moved := o.State != api.StateStarting
		o.State = api.StateStarting
		return o, moved
	case p.Kind == api.KindBuild:
		return a.built(v, p, o), true
	case p.Service == "crash":
		o.State, o.ExitCode, o.Finished, o.Health = api.StateExited, 3, now, api.HealthUnknown
		o.Message, o.Lines = "exited with code 3", api.TextsOf([]string{"boot", "panic: no database\x1b[31m"})
		o.Sockets = api.TextsOf([]string{"tcp 127.0.0.1:8080"})
		o.Probe = &api.ProbeResult{Kind: "health", Target: "GET http://10.0.0.2:3000/", Error: "connection refused", At: now, Failures: 2}
		return o, true
	}
	o.State, o.Health, o.Healthy = api.StateRunning, api.HealthHealthy, now
	return o, true
}

// argument reports whether a build was given an argument.
func (a *fakeAgent) argument(v *state.View, p *api.Process, name string) bool {
	b, ok := v.Build(p.Build)
	if !ok {
		return false
	}
	secrets, err := a.secrets.Build(b)
	return err == nil && secrets.Args[name] != ""
}

// built ends a build; the build argument FAIL makes it fail.
func (a *fakeAgent) built(v *state.View, p *api.Process, o api.ProcessStatus) api.ProcessStatus {
	b, ok := v.Build(p.Build)
	o.State, o.Finished = api.StateExited, time.Now()
	if !ok || a.argument(v, p, "FAIL") {
		o.ExitCode, o.Message = 1, "step 2/2 RUN make: exit code 2"
		return o
	}
	o.Images = map[api.ServiceName]api.Image{}
	for _, s := range b.Services {
		o.Images[s.Name] = api.Image{Repository: string(b.App), Digest: "sha256:" + strings.Repeat("0", 64)}
	}
	return o
}

// OpenStream answers as an agent would.
func (a *fakeAgent) OpenStream(ctx context.Context, node api.NodeID, open *pb.Open) (control.Stream, error) {
	if a.away.Load() {
		return nil, api.Errorf(api.CodeUnavailable, "node %s has no session with this server", node)
	}
	s := &fakeStream{ctx: ctx, down: make(chan *pb.Frame), up: make(chan *pb.Frame)}
	go func() {
		defer close(s.down)
		switch open.Kind {
		case "logs":
			a.logs(s, open)
		case "exec":
			if open.Command[0] == "hang" {
				a.hung.Add(1)
				defer a.hung.Add(-1)
			}
			if code := s.command(open.Command, open); code >= 0 {
				s.exit(code)
			}
		case "attach":
			a.attach(s, open)
		case "copy_in":
			tar := s.input()
			a.mu.Lock()
			a.files[open.Path] = tar
			a.mu.Unlock()
			s.exit(0)
		case "copy_out":
			a.mu.Lock()
			tar := a.files[open.Path[:strings.LastIndex(open.Path, "/")]]
			a.mu.Unlock()
			s.send(&pb.Frame{Kind: &pb.Frame_Stdout{Stdout: tar}})
			s.exit(0)
		}
	}()
	return s, nil
}

// logs sends two lines of every process that was ever on the node.
func (a *fakeAgent) logs(s *fakeStream, open *pb.Open) {
	q, err := pb.Unmarshal[api.LogQuery](open.Query)
	if err != nil {
		return
	}
	if q.Follow {
		a.readers.Add(1)
		defer a.readers.Add(-1)
	}
	v := a.store.View()
	told := map[api.ProcessID]bool{}
	for {
		for p := range v.ProcessesOfApp(q.App) {
			wanted := (q.Process == "" && p.Kind == api.KindService || q.Process == p.ID) && (q.Service == "" || q.Service == p.Service)
			if !wanted || told[p.ID] || p.Observed.Started.IsZero() {
				continue
			}
			told[p.ID] = true
			if !s.send(&pb.Frame{Kind: &pb.Frame_Lines{Lines: pb.Marshal(lines(p, q))}}) {
				return
			}
		}
		p, ok := v.Process(q.Process)
		if !q.Follow || told[q.Process] && (!ok || !p.Live()) {
			s.exit(0)
			return
		}
		if v, err = a.store.Next(s.ctx, v.Index()); err != nil {
			return
		}
	}
}

func lines(p *api.Process, q api.LogQuery) []api.LogLine {
	texts := []string{"listening on 3000", "GET / \x1b[32m200\x1b[0m\a"}
	if p.Kind == api.KindBuild {
		texts = []string{"#1 [1/2] FROM base", "#2 [2/2] RUN make"}
	}
	out := []api.LogLine{}
	for i, text := range texts {
		l := api.LogLine{
			At: p.Observed.Started.Add(time.Duration(i)), App: p.App, Service: p.Service, Process: p.ID,
			Stream: "stdout", Text: text, Seq: uint64(i + 1),
		}
		if strings.Contains(text, q.Filter) && !l.At.Before(q.Since) && l.Seq > q.After[l.Log()].Seq {
			out = append(out, l)
		}
	}
	return out
}

// attach runs the command of a one-off.
func (a *fakeAgent) attach(s *fakeStream, open *pb.Open) {
	p, ok := a.store.View().Process(api.ProcessID(open.Process))
	if !ok {
		return
	}
	words, err := a.secrets.Command(p)
	if err != nil {
		return
	}
	code := s.command(words, &pb.Open{Tty: p.Run.TTY, Rows: uint32(p.Run.Rows), Cols: uint32(p.Run.Cols)})
	if code < 0 {
		return
	}
	a.codes.Store(p.ID, code)
	s.exit(code)
}

// fakeStream is both ends of a stream.
type fakeStream struct {
	ctx      context.Context
	down, up chan *pb.Frame
}

// Send implements control.Stream.
func (s *fakeStream) Send(f *pb.Frame) error {
	select {
	case s.up <- f:
		return nil
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
}

// Recv implements control.Stream.
func (s *fakeStream) Recv() (*pb.Frame, error) {
	select {
	case f, ok := <-s.down:
		if !ok {
			return nil, io.EOF
		}
		return f, nil
	case <-s.ctx.Done():
		return nil, s.ctx.Err()
	}
}

func (s *fakeStream) send(f *pb.Frame) bool {
	select {
	case s.down <- f:
		return true
	case <-s.ctx.Done():
		return false
	}
}

func (s *fakeStream) exit(code int) {
	s.send(&pb.Frame{Kind: &pb.Frame_Exit{Exit: &pb.Exit{Code: int32(code)}}})
}

// input reads all input.
func (s *fakeStream) input() []byte {
	var all bytes.Buffer
	for {
		select {
		case f := <-s.up:
			if f.GetStdinClose() {
				return all.Bytes()
			}
			all.Write(f.GetStdin())
		case <-s.ctx.Done():
			return nil
		}
	}
}

// command does what the words say and returns an exit code; below 0 there is none.
func (s *fakeStream) command(words []string, open *pb.Open) int {
	if len(words) == 0 {
		return 0
	}
	out := func(text string) { s.send(&pb.Frame{Kind: &pb.Frame_Stdout{Stdout: []byte(text)}}) }
	switch words[0] {
	case "echo":
		out(strings.Join(words[1:], " ") + "\n")
	case "cat":
		out(string(s.input()))
	case "hang":
		out("waiting\n")
		<-s.ctx.Done()
		return -1
	case "vanish":
		return -1
	case "size":
		s.sizes(open)
	case "exit":
		s.send(&pb.Frame{Kind: &pb.Frame_Stderr{Stderr: []byte("leaving\n")}})
		code, _ := strconv.Atoi(words[1])
		return code
	default:
		out(fmt.Sprintf("%s: not found\n", words[0]))
		return 127
	}
	return 0
}

// sizes tells the size of the terminal, at first and when it changes, until the input is "q".
func (s *fakeStream) sizes(open *pb.Open) {
	out := func(format string, args ...any) {
		s.send(&pb.Frame{Kind: &pb.Frame_Stdout{Stdout: []byte(fmt.Sprintf(format, args...))}})
	}
	out("terminal %v %dx%d\r\n", open.GetTty(), open.GetRows(), open.GetCols())
	for {
		select {
		case f := <-s.up:
			if size := f.GetResize(); size != nil {
				out("now %dx%d\r\n", size.GetRows(), size.GetCols())
			}
			if len(f.GetStdin()) > 0 {
				out("key %q\r\n", f.GetStdin())
			}
			if string(f.GetStdin()) == "q" || f.GetStdinClose() {
				return
			}
		case <-s.ctx.Done():
			return
		}
	}
}

package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"time"

	"slipway/api"
	"slipway/api/pb"
	"slipway/raftstore/state"
)

// retryAfter is the pause before a node is asked again that did not answer.
const retryAfter = 200 * time.Millisecond

// sendLines takes lines for a client.
type sendLines func([]api.LogLine) error

// logSession serves the logs of an app.
func (s *Server) logSession(stream sessionStream, open *pb.Open) error {
	ctx := stream.Context()
	q := api.LogQuery{}
	if len(open.Query) > 0 {
		var err error
		if q, err = pb.Unmarshal[api.LogQuery](open.Query); err != nil {
			return err
		}
	}
	v, a, err := s.readApp(ctx, open.App)
	if err != nil {
		return err
	}
	q.App = a.Name
	if q.Process != "" {
		if _, err := findProcess(v, a, string(q.Process)); err != nil {
			return err
		}
	}
	if q.Service != "" {
		if _, _, err := findService(v, a, string(q.Service)); err != nil {
			return err
		}
	}
	send := linesToClient(stream)
	if q.Follow {
		return s.followLogs(ctx, logFollow{query: q, send: send})
	}
	if err := s.history(ctx, q, logNodes(v, q), send); err != nil {
		return err
	}
	return stream.Send(exitFrame(0))
}

// frameSender is the sending half of a stream of frames.
type frameSender interface{ Send(f *pb.Frame) error }

func linesToClient(to frameSender) sendLines {
	return func(lines []api.LogLine) error {
		return to.Send(&pb.Frame{Kind: &pb.Frame_Lines{Lines: pb.Marshal(lines)}})
	}
}

// linesToOutput turns lines back into what the process wrote.
func linesToOutput(to frameSender) sendLines {
	return func(lines []api.LogLine) error {
		for _, l := range lines {
			text := []byte(l.Text + "\n")
			f := &pb.Frame{Kind: &pb.Frame_Stdout{Stdout: text}}
			switch l.Stream {
			case "system":
				continue
			case "stderr":
				f = &pb.Frame{Kind: &pb.Frame_Stderr{Stderr: text}}
			}
			if err := to.Send(f); err != nil {
				return err
			}
		}
		return nil
	}
}

// logNodes returns the nodes that may hold lines for a query, in order.
func logNodes(v *state.View, q api.LogQuery) []api.NodeID {
	seen := map[api.NodeID]bool{}
	for p := range v.ProcessesOfApp(q.App) {
		if p.Node != "" && (q.Service == "" || q.Service == p.Service) && (q.Process == "" || q.Process == p.ID) {
			seen[p.Node] = true
		}
	}
	nodes := make([]api.NodeID, 0, len(seen))
	for n := range seen {
		nodes = append(nodes, n)
	}
	slices.Sort(nodes)
	return nodes
}

// logStream is the log of one node.
type logStream struct {
	node   api.NodeID
	stream Stream
	lines  []api.LogLine // received, not yet sent
}

func (s *Server) openLog(ctx context.Context, node api.NodeID, q api.LogQuery) (*logStream, error) {
	stream, err := s.cfg.Agents.OpenStream(ctx, node, &pb.Open{
		Kind: kindLogs, App: string(q.App), Process: string(q.Process), Service: string(q.Service), Query: pb.Marshal(q),
	})
	if err != nil {
		return nil, err
	}
	return &logStream{node: node, stream: stream}, nil
}

// next receives until there are lines; io.EOF after the last.
func (l *logStream) next() error {
	for len(l.lines) == 0 {
		f, err := l.stream.Recv()
		switch {
		case err != nil:
			return err
		case f.GetExit() != nil:
			return io.EOF
		case f.GetFailure() != nil:
			return &api.Error{Code: api.Code(f.GetFailure().GetCode()), Message: f.GetFailure().GetMessage()}
		case f.GetLines() != nil:
			if l.lines, err = pb.Unmarshal[[]api.LogLine](f.GetLines()); err != nil {
				return err
			}
		}
	}
	return nil
}

// history sends what nodes hold for a query, merged by time, one batch per node in memory. A
// node that does not answer leaves a line that says so.
func (s *Server) history(ctx context.Context, q api.LogQuery, nodes []api.NodeID, send sendLines) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var open []*logStream
	for _, node := range nodes {
		l, err := s.openLog(ctx, node, q)
		if err == nil {
			err = l.next()
		}
		switch {
		case err == nil:
			open = append(open, l)
		case errors.Is(err, io.EOF):
		case ctx.Err() != nil:
			return ctx.Err()
		default:
			if err := send(s.missing(q.App, node, err)); err != nil {
				return err
			}
		}
	}
	for len(open) > 0 {
		first := slices.MinFunc(open, func(a, b *logStream) int { return a.lines[0].At.Compare(b.lines[0].At) })
		batch := first.lines
		if len(open) > 1 {
			batch = batch[:1]
		}
		if err := send(batch); err != nil {
			return err
		}
		if first.lines = first.lines[len(batch):]; len(first.lines) > 0 {
			continue
		}
		if err := first.next(); err != nil {
			open = slices.DeleteFunc(open, func(l *logStream) bool { return l == first })
			if !errors.Is(err, io.EOF) {
				if err := send(s.missing(q.App, first.node, err)); err != nil {
					return err
				}
			}
		}
	}
	return ctx.Err()
}

// missing is the line that stands for what cannot be read.
func (s *Server) missing(app api.AppName, node api.NodeID, err error) []api.LogLine {
	return []api.LogLine{{
		At: s.cfg.Now(), App: app, Stream: "system",
		Text: fmt.Sprintf("the logs of node %s cannot be read now: %v", node, pb.FromError(err)),
	}}
}

// buildLog sends the log of a build.
func (s *Server) buildLog(ctx context.Context, q api.LogQuery, build api.BuildID, send func(*pb.Frame) error) error {
	lines := linesToClient(sender(send))
	if !q.Follow {
		return s.history(ctx, q, logNodes(s.cfg.Store.View(), q), lines)
	}
	return s.followLogs(ctx, logFollow{query: q, send: lines, ended: func(v *state.View) bool {
		b, ok := v.Build(build)
		return !ok || b.Status.Ended()
	}})
}

// sender makes a frameSender of a function.
type sender func(*pb.Frame) error

// Send implements frameSender.
func (f sender) Send(m *pb.Frame) error { return f(m) }

// logFollow is one reader that stays.
type logFollow struct {
	query api.LogQuery
	send  sendLines
	// ended tells that nothing writes any more; nil means that there is always more to come.
	ended func(*state.View) bool
}

// batch is what one node's reader hands over; done marks its last.
type batch struct {
	node  api.NodeID
	lines []api.LogLine
	err   error
	done  bool
}

// followLogs sends lines as they come, from every node that has processes of the query: nodes
// that get one later are added, those that break off are asked again from where they stopped.
// Once nothing writes any more, what is left is read to its end.
func (s *Server) followLogs(ctx context.Context, f logFollow) error {
	reading, cancel := context.WithCancel(ctx)
	var readers sync.WaitGroup
	defer readers.Wait()
	defer cancel()

	views, batches := make(chan *state.View), make(chan batch)
	v := s.cfg.Store.View()
	readers.Go(func() { s.watch(reading, v.Index(), views) })

	t := newTail(f)
	tick := time.NewTicker(retryAfter)
	defer tick.Stop()
	for {
		if f.ended != nil && f.ended(v) {
			cancel()
			return s.rest(ctx, t, logNodes(v, f.query))
		}
		for _, node := range t.toOpen(v) {
			t.open[node] = true
			q := t.from(node)
			readers.Go(func() { s.readLog(reading, node, q, batches) })
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case next, ok := <-views:
			if !ok {
				return api.Errorf(api.CodeUnavailable, "the server is stopping")
			}
			v = next
		case b := <-batches:
			if err := t.take(s, b); err != nil {
				return err
			}
		case <-tick.C:
			t.retry()
		}
	}
}

// rest sends what nodes hold beyond what was sent already.
func (s *Server) rest(ctx context.Context, t *tail, nodes []api.NodeID) error {
	for _, node := range nodes {
		q := t.from(node)
		q.Follow = false
		if err := s.history(ctx, q, []api.NodeID{node}, t.follow.send); err != nil {
			return err
		}
	}
	return nil
}

// watch hands over every new view, until ctx ends or the store does.
func (s *Server) watch(ctx context.Context, after uint64, views chan<- *state.View) {
	defer close(views)
	for {
		v, err := s.cfg.Store.Next(ctx, after)
		if err != nil {
			return
		}
		after = v.Index()
		select {
		case views <- v:
		case <-ctx.Done():
			return
		}
	}
}

// readLog hands over the lines of one node until its stream ends.
func (s *Server) readLog(ctx context.Context, node api.NodeID, q api.LogQuery, to chan<- batch) {
	hand := func(b batch) bool {
		select {
		case to <- b:
			return true
		case <-ctx.Done():
			return false
		}
	}
	l, err := s.openLog(ctx, node, q)
	for err == nil {
		if err = l.next(); err == nil {
			if !hand(batch{node: node, lines: l.lines}) {
				return
			}
			l.lines = nil
		}
	}
	hand(batch{node: node, err: err, done: true})
}

// tail is the memory of a reader that stays, by node.
type tail struct {
	follow logFollow
	last   map[api.NodeID]map[string]api.LogMark // of the last line of each log
	open   map[api.NodeID]bool                   // being read
	wait   map[api.NodeID]bool                   // broke off; asked again at the next tick
	over   map[api.NodeID]bool                   // has told everything
	warned map[api.NodeID]bool                   // the client knows that it broke off
}

func newTail(f logFollow) *tail {
	return &tail{
		follow: f, last: map[api.NodeID]map[string]api.LogMark{}, open: map[api.NodeID]bool{}, wait: map[api.NodeID]bool{},
		over: map[api.NodeID]bool{}, warned: map[api.NodeID]bool{},
	}
}

// from is the query for the lines of a node that were not sent yet.
func (t *tail) from(node api.NodeID) api.LogQuery {
	q := t.follow.query
	q.After = maps.Clone(q.After) // what the client knows
	if q.After == nil {
		q.After = map[string]api.LogMark{}
	}
	maps.Copy(q.After, t.last[node])
	return q
}

// toOpen returns the nodes that should be read and are not.
func (t *tail) toOpen(v *state.View) []api.NodeID {
	return slices.DeleteFunc(logNodes(v, t.follow.query), func(n api.NodeID) bool {
		return t.open[n] || t.wait[n] || t.over[n]
	})
}

// take handles what a reader handed over.
func (t *tail) take(s *Server, b batch) error {
	if len(b.lines) > 0 {
		t.mark(b)
		delete(t.warned, b.node)
		return t.follow.send(b.lines)
	}
	delete(t.open, b.node)
	if errors.Is(b.err, io.EOF) && t.follow.query.Process != "" {
		t.over[b.node] = true
		return nil
	}
	t.wait[b.node] = true
	if t.warned[b.node] || errors.Is(b.err, io.EOF) {
		return nil
	}
	t.warned[b.node] = true
	return t.follow.send(s.missing(t.follow.query.App, b.node, b.err))
}

// mark notes how far each log was read: the logs of a node are merged, but not every line of
// one is there before a younger line of another has been sent.
func (t *tail) mark(b batch) {
	if t.last[b.node] == nil {
		t.last[b.node] = map[string]api.LogMark{}
	}
	for i := range b.lines {
		if l := &b.lines[i]; l.Dropped == 0 {
			t.last[b.node][l.Log()] = api.LogMark{At: l.At, Seq: l.Seq}
		}
	}
}

// retry asks nodes again that broke off.
func (t *tail) retry() { clear(t.wait) }

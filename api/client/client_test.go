package client

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"slipway/api"
	"slipway/api/pb"
)

// server is a server of a rack of which only the answers are known.
type server struct {
	pb.UnimplementedControlServer
	addr    string
	session func(pb.Control_SessionServer) error
	create  func(context.Context, *pb.AppRequest) (*pb.Document, error)
}

// Session implements pb.ControlServer.
func (s *server) Session(stream pb.Control_SessionServer) error { return s.session(stream) }

// CreateApp implements pb.ControlServer.
func (s *server) CreateApp(ctx context.Context, r *pb.AppRequest) (*pb.Document, error) {
	return s.create(ctx, r)
}

// serve listens on loopback until the test ends.
func (s *server) serve(t *testing.T) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = l.Addr().String()
	g := grpc.NewServer()
	pb.RegisterControlServer(g, s)
	ended := make(chan error, 1)
	go func() { ended <- g.Serve(l) }()
	t.Cleanup(func() {
		g.Stop()
		<-ended
	})
}

// dial connects without TLS.
func dial(t *testing.T, addr string) *Client {
	t.Helper()
	l, err := NewConn([]string{addr}, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	c := &Client{conns: l, rpc: pb.NewControlClient(l)}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// A session has a code only if the far end said so; every other end of it is an error.
func TestSessionEnds(t *testing.T) {
	out := &pb.Frame{Kind: &pb.Frame_Stdout{Stdout: []byte("hello\n")}}
	exit := func(code int32) *pb.Frame { return &pb.Frame{Kind: &pb.Frame_Exit{Exit: &pb.Exit{Code: code}}} }
	for name, c := range map[string]struct {
		frames []*pb.Frame
		end    error
		code   int
		fails  api.Code
	}{
		"exit 0":               {frames: []*pb.Frame{out, exit(0)}},
		"exit 3":               {frames: []*pb.Frame{out, exit(3)}, code: 3},
		"exit, then an error":  {frames: []*pb.Frame{exit(4)}, end: status.Error(codes.Internal, "late"), code: 4},
		"no exit":              {frames: []*pb.Frame{out}, fails: api.CodeUnavailable},
		"nothing":              {fails: api.CodeUnavailable},
		"an error":             {frames: []*pb.Frame{out}, end: status.Error(codes.Unavailable, "node n1 is gone"), fails: api.CodeUnavailable},
		"a denial":             {end: status.Error(codes.PermissionDenied, "no"), fails: api.CodeDenied},
		"a failure":            {frames: []*pb.Frame{{Kind: &pb.Frame_Failure{Failure: &pb.Failure{Code: "conflict", Message: "it stopped"}}}}, fails: api.CodeConflict},
		"a frame of no kind":   {frames: []*pb.Frame{{}, out}, fails: api.CodeUnavailable},
		"an unknown condition": {end: errors.New("who knows"), fails: api.CodeInternal},
	} {
		s := &server{session: func(stream pb.Control_SessionServer) error {
			if _, err := stream.Recv(); err != nil {
				return err
			}
			for _, f := range c.frames {
				if err := stream.Send(f); err != nil {
					return err
				}
			}
			return c.end
		}}
		s.serve(t)
		var stdout bytes.Buffer
		code, err := dial(t, s.addr).Exec(t.Context(), "hello", Exec{Service: "web", Command: []string{"ls"}}, Streams{In: strings.NewReader("in"), Out: &stdout})
		if code != c.code || api.CodeOf(err) != c.fails {
			t.Errorf("%s: code %d, error %v", name, code, err)
		}
		if len(c.frames) > 0 && c.frames[0] == out && stdout.String() != "hello\n" {
			t.Errorf("%s: output %q", name, stdout.String())
		}
	}
}

// A connection that breaks in the middle is an error, and so is input that cannot be read.
func TestSessionBreaks(t *testing.T) {
	reached := make(chan struct{})
	s := &server{session: func(stream pb.Control_SessionServer) error {
		close(reached)
		<-stream.Context().Done()
		return stream.Context().Err()
	}}
	s.serve(t)
	client, far := net.Pipe()
	l, err := NewConn([]string{"rack.test:1"},
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
			conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", s.addr)
			if err != nil {
				return nil, err
			}
			go func() { _, _ = io.Copy(conn, far); conn.Close() }()
			go func() { _, _ = io.Copy(far, conn); far.Close() }()
			return client, nil
		}))
	if err != nil {
		t.Fatal(err)
	}
	c := &Client{conns: l, rpc: pb.NewControlClient(l)}
	defer c.Close()
	go func() {
		<-reached
		far.Close()
	}()
	code, err := c.Exec(t.Context(), "hello", Exec{Service: "web", Command: []string{"ls"}}, Streams{})
	if api.CodeOf(err) != api.CodeUnavailable || code != 0 || !strings.Contains(err.Error(), "the connection to the rack at rack.test:1 broke") {
		t.Errorf("code %d, error %v", code, err)
	}

	again := &server{session: func(stream pb.Control_SessionServer) error {
		<-stream.Context().Done()
		return stream.Context().Err()
	}}
	again.serve(t)
	_, err = dial(t, again.addr).Exec(t.Context(), "hello", Exec{Service: "web", Command: []string{"cat"}}, Streams{In: broken{}})
	if err == nil || !strings.Contains(err.Error(), "read input: the disk is gone") {
		t.Errorf("input that cannot be read: %v", err)
	}
}

type broken struct{}

// Read implements io.Reader.
func (broken) Read([]byte) (int, error) { return 0, errors.New("the disk is gone") }

// A log that ends without its last frame was cut off.
func TestLogsEnd(t *testing.T) {
	for name, whole := range map[string]bool{"whole": true, "cut off": false} {
		s := &server{session: func(stream pb.Control_SessionServer) error {
			if whole {
				return stream.Send(&pb.Frame{Kind: &pb.Frame_Exit{Exit: &pb.Exit{}}})
			}
			return nil
		}}
		s.serve(t)
		err := dial(t, s.addr).Logs(t.Context(), api.LogQuery{App: "hello"}, func([]api.LogLine) error { return nil })
		if (err == nil) != whole {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A call follows the leader, with the same request ID, and not for ever.
func TestFollowsTheLeader(t *testing.T) {
	var mu sync.Mutex
	var seen []string
	record := func(who string, r *pb.AppRequest) {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, who+" "+r.GetRequestId())
	}
	redirect := func(ctx context.Context, to string) error {
		if err := grpc.SetTrailer(ctx, metadata.Pairs(pb.LeaderKey, to)); err != nil {
			return err
		}
		return status.Error(codes.Aborted, "this server does not lead")
	}
	lead := &server{create: func(_ context.Context, r *pb.AppRequest) (*pb.Document, error) {
		record("leader", r)
		return pb.Doc(api.AppInfo{Name: api.AppName(r.GetApp())}), nil
	}}
	lead.serve(t)
	other := &server{}
	other.create = func(ctx context.Context, r *pb.AppRequest) (*pb.Document, error) {
		record("follower", r)
		return nil, redirect(ctx, lead.addr)
	}
	other.serve(t)
	c := dial(t, other.addr)
	for range 2 {
		if app, err := c.CreateApp(t.Context(), "hello"); err != nil || app.Name != "hello" {
			t.Fatalf("%v %v", app, err)
		}
	}
	if len(seen) != 3 || !strings.HasPrefix(seen[0], "follower ") || strings.TrimPrefix(seen[0], "follower") != strings.TrimPrefix(seen[1], "leader") || !strings.HasPrefix(seen[2], "leader ") {
		t.Errorf("calls: %q", seen)
	}

	calls := 0
	lost := &server{}
	lost.create = func(ctx context.Context, _ *pb.AppRequest) (*pb.Document, error) {
		calls++
		return nil, redirect(ctx, lost.addr)
	}
	lost.serve(t)
	if _, err := dial(t, lost.addr).CreateApp(t.Context(), "hello"); api.CodeOf(err) != api.CodeNotLeader || calls != redirectsMax+1 {
		t.Errorf("%d calls, %v", calls, err)
	}
}

// What is wrong with a connection is said in words that help.
func TestExplain(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := l.Addr().String()
	l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := dial(t, gone).CreateApp(ctx, "hello"); api.CodeOf(err) != api.CodeUnavailable ||
		err.Error() != "the rack at "+gone+" does not answer: dial tcp "+gone+": connect: connection refused; is it running, and is the address right?" {
		t.Errorf("%v", err)
	}
	plain := &server{}
	plain.serve(t)
	c, err := Dial(ctx, Context{Addr: plain.addr, Token: "slip_secret"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.CreateApp(ctx, "hello"); api.CodeOf(err) != api.CodeUnavailable || !strings.Contains(err.Error(), "slipway login "+plain.addr+" --ca FILE") {
		t.Errorf("a server without TLS: %v", err)
	}
	for _, addr := range []string{"", "rack", "rack:1:2", strings.Repeat("x", 10000)} {
		if _, err := Dial(ctx, Context{Addr: addr}); api.CodeOf(err) != api.CodeInvalid || len(err.Error()) > 200 {
			t.Errorf("address %.20q: %v", addr, err)
		}
	}
	if _, err := Dial(ctx, Context{Addr: "rack:1", CA: "no certificate"}); api.CodeOf(err) != api.CodeInvalid {
		t.Errorf("CA: %v", err)
	}
	own := status.Error(codes.Unavailable, "node n1 has no session with this server")
	if got := explain("rack:1", own); got != own {
		t.Errorf("what a rack said became %v", got)
	}
	if explain("rack:1", io.EOF) != io.EOF || explain("rack:1", nil) != nil {
		t.Error("the end of a stream became an error")
	}
}

package client

import (
	"context"
	"errors"
	"io"
	"sync"

	"google.golang.org/grpc"

	"slipway/api"
	"slipway/api/pb"
)

// Size is that of a terminal, in characters.
type Size struct{ Rows, Cols uint16 }

// Streams are the local ends of a session; nil ones are not connected.
type Streams struct {
	// In is read until it ends or the session does. A read that blocks is left behind, so that
	// In should be one that the program does not need afterwards.
	In       io.Reader
	Out, Err io.Writer
	// Resizes brings new sizes of the terminal.
	Resizes <-chan Size
}

// Exec is a command in a running process.
type Exec struct {
	// Process or Service says where; a service is any ready process of it. When both are
	// given, a process of that name comes first.
	Process api.ProcessID
	Service api.ServiceName
	Command []string
	// Entrypoint runs the command through the entrypoint of the image, as a one-off runs.
	Entrypoint bool
	TTY        bool
	Size       Size
}

// Exec runs a command in a running process and returns its exit code.
func (c *Client) Exec(ctx context.Context, app api.AppName, e Exec, s Streams) (int, error) {
	return c.session(ctx, &pb.Open{
		Kind: "exec", App: string(app), Process: string(e.Process), Service: string(e.Service),
		Command: e.Command, Entrypoint: e.Entrypoint, Tty: e.TTY, Rows: uint32(e.Size.Rows), Cols: uint32(e.Size.Cols), Stdin: s.In != nil,
	}, s)
}

// Attach connects to the standard streams of a one-off and returns its exit code.
func (c *Client) Attach(ctx context.Context, app api.AppName, id api.ProcessID, s Streams) (int, error) {
	return c.session(ctx, &pb.Open{Kind: "attach", App: string(app), Process: string(id), Stdin: s.In != nil}, s)
}

// Place is a process, or a path in one; a service is any ready process of it.
type Place struct {
	Process api.ProcessID
	Service api.ServiceName
	Path    string
}

// CopyIn unpacks a tar into the directory that a place names.
func (c *Client) CopyIn(ctx context.Context, app api.AppName, to Place, tar io.Reader) error {
	return c.copy(ctx, &pb.Open{Kind: "copy_in", Stdin: true}, app, to, Streams{In: tar})
}

// CopyOut writes the file or directory that a place names as a tar.
func (c *Client) CopyOut(ctx context.Context, app api.AppName, from Place, tar io.Writer) error {
	return c.copy(ctx, &pb.Open{Kind: "copy_out"}, app, from, Streams{Out: tar})
}

// Proxy connects with a TCP port of a process, as programs in its container reach it. It returns when
// both ends have closed the connection, or the process has.
func (c *Client) Proxy(ctx context.Context, app api.AppName, to Place, port uint16, in io.Reader, out io.Writer) error {
	_, err := c.session(ctx, &pb.Open{
		Kind: "proxy", App: string(app), Process: string(to.Process), Service: string(to.Service), Port: uint32(port), Stdin: true,
	}, Streams{In: in, Out: out})
	return err
}

func (c *Client) copy(ctx context.Context, open *pb.Open, app api.AppName, p Place, s Streams) error {
	open.App, open.Process, open.Service, open.Path = string(app), string(p.Process), string(p.Service), p.Path
	code, err := c.session(ctx, open, s)
	if err == nil && code != 0 {
		return api.Errorf(api.CodeInternal, "copy of %s ended with code %d", p.Path, code)
	}
	return err
}

// Logs calls see with the lines of a query, in order of time. With Follow, it lasts until ctx
// ends or see returns an error.
func (c *Client) Logs(ctx context.Context, q api.LogQuery, see func([]api.LogLine) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.open(ctx, &pb.Open{
		Kind: "logs", App: string(q.App), Process: string(q.Process), Service: string(q.Service), Query: pb.Marshal(q),
	})
	if err != nil {
		return err
	}
	return eachLines(stream, see)
}

// frames receives frames.
type frames interface{ Recv() (*pb.Frame, error) }

// eachLines calls see with the lines of a stream until its end.
func eachLines(stream frames, see func([]api.LogLine) error) error {
	for {
		f, err := stream.Recv()
		if f.GetExit() != nil {
			return nil
		}
		if errors.Is(err, io.EOF) {
			return api.Errorf(api.CodeUnavailable, "the rack ended the stream before its end")
		}
		if err != nil {
			return pb.FromError(err)
		}
		if f.GetFailure() != nil {
			return failure(f)
		}
		if f.GetLines() == nil {
			continue
		}
		lines, err := pb.Unmarshal[[]api.LogLine](f.GetLines())
		if err != nil {
			return err
		}
		if err := see(lines); err != nil {
			return err
		}
	}
}

func failure(f *pb.Frame) error {
	return &api.Error{Code: api.Code(f.GetFailure().GetCode()), Message: f.GetFailure().GetMessage()}
}

type sessionStream = grpc.BidiStreamingClient[pb.Frame, pb.Frame]

func (c *Client) open(ctx context.Context, open *pb.Open) (sessionStream, error) {
	stream, err := c.rpc.Session(ctx)
	if err != nil {
		return nil, pb.FromError(err)
	}
	// After a failed Send, the reason comes with Recv.
	if err := stream.Send(&pb.Frame{Kind: &pb.Frame_Open{Open: open}}); err != nil && !errors.Is(err, io.EOF) {
		return nil, pb.FromError(err)
	}
	return stream, nil
}

// session carries bytes both ways until the far end exits.
func (c *Client) session(ctx context.Context, open *pb.Open, s Streams) (int, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.open(ctx, open)
	if err != nil {
		return 0, err
	}
	up := &upstream{stream: stream}
	input := make(chan error, 1)
	if s.In != nil {
		go func() { input <- up.input(s.In) }() // left behind when In blocks; see Streams
	}
	if s.Resizes != nil {
		go up.resizes(ctx, s.Resizes) // ends with ctx
	}
	return receive(stream, s, input, cancel)
}

// receive writes what comes until the exit. An input that cannot be read ends the session.
func receive(stream frames, s Streams, input <-chan error, cancel func()) (int, error) {
	failed := make(chan error, 1)
	done := make(chan struct{})
	defer close(done)
	go func() {
		select {
		case err := <-input:
			if err != nil {
				failed <- err
				cancel()
			}
		case <-done:
		}
	}()
	for {
		f, err := stream.Recv()
		if err != nil {
			select {
			case cause := <-failed:
				return 0, cause
			default:
			}
			if errors.Is(err, io.EOF) {
				return 0, api.Errorf(api.CodeUnavailable, "the rack ended the session")
			}
			return 0, pb.FromError(err)
		}
		switch k := f.GetKind().(type) {
		case *pb.Frame_Stdout:
			err = write(s.Out, k.Stdout)
		case *pb.Frame_Stderr:
			err = write(s.Err, k.Stderr)
		case *pb.Frame_Exit:
			return int(k.Exit.GetCode()), nil
		case *pb.Frame_Failure:
			return 0, failure(f)
		}
		if err != nil {
			return 0, wrap("write output", err)
		}
	}
}

func write(w io.Writer, b []byte) error {
	if w == nil {
		return nil
	}
	_, err := w.Write(b)
	return err
}

// upstream sends frames; gRPC allows one sender at a time.
type upstream struct {
	mu     sync.Mutex
	stream sessionStream
}

func (u *upstream) send(f *pb.Frame) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.stream.Send(f)
}

// input sends what r delivers, then its end. Only a failure to read is an error: when the far
// end takes no more, the exit says why.
func (u *upstream) input(r io.Reader) error {
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			if u.send(&pb.Frame{Kind: &pb.Frame_Stdin{Stdin: buf[:n]}}) != nil {
				return nil
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			_ = u.send(&pb.Frame{Kind: &pb.Frame_StdinClose{StdinClose: true}})
			return nil
		case err != nil:
			return wrap("read input", err)
		}
	}
}

func (u *upstream) resizes(ctx context.Context, sizes <-chan Size) {
	for {
		select {
		case <-ctx.Done():
			return
		case size, ok := <-sizes:
			if !ok {
				return
			}
			_ = u.send(&pb.Frame{Kind: &pb.Frame_Resize{Resize: &pb.Resize{Rows: uint32(size.Rows), Cols: uint32(size.Cols)}}})
		}
	}
}

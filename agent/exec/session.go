package exec

import (
	"context"
	"io"
	"slices"
	"sync"

	"slipway/api"
	"slipway/api/pb"
	"slipway/runtime"
)

// chunk bounds one frame of output, in bytes.
const chunk = 64 << 10

// Engine is what sessions need of the container engine.
type Engine interface {
	Exec(ctx context.Context, id api.ProcessID, spec runtime.ExecSpec) (int, error)
	Attach(ctx context.Context, id api.ProcessID, streams runtime.Streams) error
	Inspect(ctx context.Context, id api.ProcessID) (runtime.Container, error)
	Image(ctx context.Context, ref string) (runtime.ImageInfo, error)
}

// Stream carries frames both ways.
type Stream interface {
	Send(*pb.Frame) error
	Recv() (*pb.Frame, error)
}

// Serve handles one session of kind exec, attach, copy_in, copy_out or proxy until it ends. Errors
// are for the other end to read; attach ends without an exit frame, for the exit code of a process
// is in its status, and all others end with one.
func Serve(ctx context.Context, engine Engine, open *pb.Open, stream Stream) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c := newClient(stream, open)
	defer c.stdin.Close() // what still comes in is for nobody
	go c.receive(cancel)
	id := api.ProcessID(open.Process)
	switch open.Kind {
	case "exec":
		command, err := commandOf(ctx, engine, id, open)
		if err != nil {
			return err
		}
		code, err := engine.Exec(ctx, id, runtime.ExecSpec{
			Args: command, TTY: open.Tty, Size: c.size, Streams: c.streams(open),
		})
		if err != nil {
			return err
		}
		return c.exit(code)
	case "attach":
		return engine.Attach(ctx, id, c.streams(open))
	case "proxy":
		return c.proxy(ctx, engine, id, open.Port)
	case "copy_in", "copy_out":
		root, err := rootOf(ctx, engine, id)
		if err != nil {
			return err
		}
		defer root.Close()
		if open.Kind == "copy_in" {
			err = copyIn(root, open.Path, c.stdin)
		} else {
			err = copyOut(root, open.Path, c.stdout())
		}
		if err != nil {
			return err
		}
		return c.exit(0)
	}
	return api.Errorf(api.CodeInvalid, "session kind %q is not known to this agent", open.Kind)
}

// commandOf is what an exec runs.
func commandOf(ctx context.Context, engine Engine, id api.ProcessID, open *pb.Open) ([]string, error) {
	if !open.Entrypoint {
		return open.Command, nil
	}
	container, err := engine.Inspect(ctx, id)
	if err != nil {
		return nil, err
	}
	image, err := engine.Image(ctx, container.Image)
	if err != nil {
		return nil, err
	}
	return slices.Concat(image.Entrypoint, open.Command), nil
}

// pidOf returns the pid of a process's main process on this machine, as long as it runs.
func pidOf(ctx context.Context, engine Engine, id api.ProcessID) (int, error) {
	c, err := engine.Inspect(ctx, id)
	if err != nil {
		return 0, err
	}
	if c.State != runtime.ContainerRunning {
		return 0, api.Errorf(api.CodeConflict, "process %s is not running", id)
	}
	return c.Pid, nil
}

// client is the other end of a session.
type client struct {
	mu     sync.Mutex // guards stream.Send
	stream Stream

	stdin *io.PipeReader
	input *io.PipeWriter
	sizes chan runtime.Size // newest wins; capacity 1
	size  runtime.Size
}

func newClient(stream Stream, open *pb.Open) *client {
	c := &client{stream: stream, sizes: make(chan runtime.Size, 1), size: runtime.Size{Rows: uint16(open.Rows), Cols: uint16(open.Cols)}}
	c.stdin, c.input = io.Pipe()
	return c
}

// streams are what a process is connected to.
func (c *client) streams(open *pb.Open) runtime.Streams {
	s := runtime.Streams{Stdout: c.stdout(), Stderr: c.output(func(b []byte) *pb.Frame {
		return &pb.Frame{Kind: &pb.Frame_Stderr{Stderr: b}}
	}), Resize: c.sizes}
	if open.Stdin || open.Tty {
		s.Stdin = c.stdin
	}
	return s
}

func (c *client) stdout() io.Writer {
	return c.output(func(b []byte) *pb.Frame { return &pb.Frame{Kind: &pb.Frame_Stdout{Stdout: b}} })
}

// receive takes frames until the client goes away, which ends the session.
func (c *client) receive(gone context.CancelFunc) {
	defer gone()
	defer c.input.CloseWithError(io.ErrUnexpectedEOF) // unless it was closed well
	for {
		f, err := c.stream.Recv()
		if err != nil {
			return
		}
		switch k := f.Kind.(type) {
		case *pb.Frame_Stdin:
			if _, err := c.input.Write(k.Stdin); err != nil {
				continue // the process does not read any more
			}
		case *pb.Frame_StdinClose:
			c.input.Close()
		case *pb.Frame_Resize:
			select {
			case <-c.sizes:
			default:
			}
			c.sizes <- runtime.Size{Rows: uint16(k.Resize.Rows), Cols: uint16(k.Resize.Cols)}
		}
	}
}

func (c *client) send(f *pb.Frame) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stream.Send(f)
}

func (c *client) exit(code int) error {
	return c.send(&pb.Frame{Kind: &pb.Frame_Exit{Exit: &pb.Exit{Code: int32(code)}}})
}

// output is a writer that sends frames.
func (c *client) output(frame func([]byte) *pb.Frame) io.Writer {
	return writer(func(p []byte) (int, error) {
		for n := 0; n < len(p); {
			end := min(len(p), n+chunk)
			if err := c.send(frame(p[n:end])); err != nil {
				return n, err
			}
			n = end
		}
		return len(p), nil
	})
}

type writer func([]byte) (int, error)

// Write implements io.Writer.
func (w writer) Write(p []byte) (int, error) { return w(p) }

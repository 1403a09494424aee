package fake

import (
	"cmp"
	"context"
	"errors"
	"io"
	"sync"
	"syscall"
	"time"

	"slipway/api"
	"slipway/runtime"
	"slipway/runtime/logfmt"
)

// pipeMax is what a pipe holds, as in Linux.
const pipeMax = 64 << 10

// pipe is a bounded pipe: a writer blocks while it is full, a reader while it is empty.
type pipe struct {
	mu     sync.Mutex
	wake   *sync.Cond
	buf    []byte
	closed bool
}

func newPipe() *pipe {
	p := &pipe{}
	p.wake = sync.NewCond(&p.mu)
	return p
}

// Write blocks while the pipe is full; a closed pipe swallows.
func (p *pipe) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	written := 0
	for written < len(b) {
		for len(p.buf) >= pipeMax && !p.closed {
			p.wake.Wait()
		}
		if p.closed {
			return len(b), nil
		}
		n := min(len(b)-written, pipeMax-len(p.buf))
		p.buf = append(p.buf, b[written:written+n]...)
		written += n
		p.wake.Broadcast()
	}
	return written, nil
}

// Read returns io.EOF once the pipe is closed and empty.
func (p *pipe) Read(b []byte) (int, error) { return p.readUntil(context.Background(), b) }

// readUntil is Read that gives up when ctx ends.
func (p *pipe) readUntil(ctx context.Context, b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.buf) == 0 && !p.closed {
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		p.wake.Wait()
	}
	if len(p.buf) == 0 {
		return 0, io.EOF
	}
	n := copy(b, p.buf)
	p.buf = p.buf[n:]
	p.wake.Broadcast()
	return n, nil
}

func (p *pipe) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.wake.Broadcast()
}

// Attach connects to the main process.
func (e *Engine) Attach(ctx context.Context, id api.ProcessID, s runtime.Streams) error {
	c, err := e.claim(id)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer e.release(c)
	defer cancel()
	go feed(ctx, c.stdin, s.Stdin)
	go resize(ctx, c.sizes, s.Resize)
	stop := context.AfterFunc(ctx, func() {
		for _, p := range []*pipe{c.stdout, c.stderr} {
			p.mu.Lock()
			p.wake.Broadcast()
			p.mu.Unlock()
		}
	})
	defer stop()
	var wg sync.WaitGroup
	var outErr, errErr error
	wg.Go(func() { outErr = c.deliver(ctx, logfmt.Stdout, c.stdout, s.Stdout) })
	wg.Go(func() { errErr = c.deliver(ctx, logfmt.Stderr, c.stderr, s.Stderr) })
	wg.Wait()
	return cmp.Or(outErr, errErr)
}

// claim makes the caller the only one that is attached to a container.
func (e *Engine) claim(id api.ProcessID) (*container, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c, err := e.containerLocked(id)
	switch {
	case err != nil:
		return nil, err
	case c.stdout == nil:
		return nil, api.Errorf(api.CodeConflict, "container %s was not made to be attached to", id)
	case c.attached:
		return nil, api.Errorf(api.CodeConflict, "somebody is attached to container %s already", id)
	case c.ended():
		return nil, api.Errorf(api.CodeNotFound, "the process of container %s has ended", id)
	}
	c.attached = true
	return c, nil
}

func (e *Engine) release(c *container) {
	e.mu.Lock()
	c.attached = false
	over := c.ended()
	e.mu.Unlock()
	if over {
		c.closeOutput()
	}
}

// feed copies input until the caller's reader ends or ctx does, which it notices with the next
// Read. Without a reader the input is empty.
func feed(ctx context.Context, to *pipe, from io.Reader) {
	if from == nil {
		to.close()
		return
	}
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if ctx.Err() != nil {
			return
		}
		_, _ = to.Write(buf[:n]) // never fails
		if err != nil {
			to.close()
			return
		}
	}
}

// resize hands on new sizes of the terminal; the newest counts.
func resize(ctx context.Context, to chan runtime.Size, from <-chan runtime.Size) {
	for from != nil {
		select {
		case <-ctx.Done():
			return
		case s, ok := <-from:
			if !ok {
				return
			}
			select {
			case <-to:
			default:
			}
			to <- s
		}
	}
}

// deliver copies one stream to the caller and to the log.
func (c *container) deliver(ctx context.Context, stream logfmt.Stream, from *pipe, to io.Writer) error {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.readUntil(ctx, buf)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if c.log != nil {
			c.log.Write(stream, time.Now(), buf[:n])
		}
		if to != nil {
			if _, err := to.Write(buf[:n]); err != nil {
				to = nil // the reader is gone, the log is not
			}
		}
	}
}

// closeOutput ends the log; what nobody was attached to read goes there first. Calls after the
// first do nothing.
func (c *container) closeOutput() {
	c.closing.Do(func() {
		if c.stdout != nil {
			c.stdin.close()
			c.keepRest(logfmt.Stdout, c.stdout)
			c.keepRest(logfmt.Stderr, c.stderr)
		}
		if c.log != nil {
			c.log.Close(true)
		}
	})
}

func (c *container) keepRest(stream logfmt.Stream, p *pipe) {
	p.close()
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.log != nil && len(p.buf) > 0 {
		c.log.Write(stream, time.Now(), p.buf)
	}
	p.buf = nil
}

// Exec runs the image's program once more, with the given arguments.
func (e *Engine) Exec(ctx context.Context, id api.ProcessID, x runtime.ExecSpec) (int, error) {
	c, err := e.enter(id, &x)
	if err != nil {
		return 0, err
	}
	stdin := newPipe()
	streams := Process{Stdin: stdin, Stdout: x.Streams.Stdout, Stderr: x.Streams.Stderr}
	feeding, fed := context.WithCancel(ctx)
	defer fed()
	go feed(feeding, stdin, x.Streams.Stdin)
	if streams.Stdout == nil {
		streams.Stdout = io.Discard
	}
	if streams.Stderr == nil {
		streams.Stderr = io.Discard
	}
	if x.TTY {
		sizes := make(chan runtime.Size, 1)
		sizes <- x.Size
		streams.Stderr, streams.Sizes = streams.Stdout, sizes
		go resize(feeding, sizes, x.Streams.Resize)
	}
	command := runtime.Command{Args: x.Args, Env: runtime.MergeEnv(c.command.Env, x.Env), WorkDir: cmp.Or(x.WorkDir, c.command.WorkDir)}
	p := newProcess(command, streams, stdin)
	stopCaller := context.AfterFunc(ctx, func() { p.kill(syscall.SIGKILL) })
	defer stopCaller()
	stopMain := context.AfterFunc(c.proc.ctx, func() { p.kill(syscall.SIGKILL) })
	defer stopMain()
	code := p.run(c.image.Program)
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	return code, nil
}

// enter finds the running container of a further process, and checks what is asked.
func (e *Engine) enter(id api.ProcessID, x *runtime.ExecSpec) (*container, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c, err := e.containerLocked(id)
	switch {
	case err != nil:
		return nil, err
	case c.state != runtime.ContainerRunning:
		return nil, api.Errorf(api.CodeConflict, "container %s is %s, not running", id, c.state)
	}
	return c, x.Check()
}

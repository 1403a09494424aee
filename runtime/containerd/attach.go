package containerd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/opencontainers/runtime-spec/specs-go"

	"slipway/api"
	"slipway/runtime"
	"slipway/runtime/logfmt"
)

// attachment is the near end of the streams of an attachable container.
type attachment struct {
	io   *cio.DirectIO
	busy bool
	over bool           // the process has ended and its output was kept
	log  *logfmt.Writer // nil without a log
	once sync.Once
}

// close gives the pipes back.
func (a *attachment) close() {
	a.once.Do(func() {
		a.io.Cancel()
		// Pipes that the other end has closed already are no failure.
		_ = a.io.Close()
		if a.log != nil {
			a.log.Close(true)
		}
	})
}

// attachable makes the pipes of a container and opens the near ends.
func (e *Engine) attachable(s *runtime.Spec) (cio.Creator, error) {
	a := &attachment{}
	if s.Log.Dir != "" {
		a.log, _ = logfmt.NewWriter(s.Log.Dir, int64(s.Log.Max)) // writes as soon as it can
	}
	return func(id string) (cio.IO, error) {
		fifos, err := cio.NewFIFOSetInDir(filepath.Join(e.cfg.Dir, "pipes"), id, s.TTY)
		if err != nil {
			return nil, fmt.Errorf("pipes of container %s: %w", id, err)
		}
		a.io, err = cio.NewDirectIO(context.Background(), fifos)
		if err != nil {
			return nil, fmt.Errorf("pipes of container %s: %w", id, err)
		}
		e.mu.Lock()
		e.attached[s.ID] = a
		e.mu.Unlock()
		return a.io, nil
	}, nil
}

// drainTime bounds the wait for output that nobody has read when its process ends.
const drainTime = 2 * time.Second

// drain keeps what a process that nobody was attached to has left in its pipes.
func (e *Engine) drain(id api.ProcessID) {
	e.mu.Lock()
	a := e.attached[id]
	if a == nil || a.busy {
		e.mu.Unlock()
		return
	}
	a.busy, a.over = true, true
	e.mu.Unlock()
	stop := time.AfterFunc(drainTime, a.close)
	defer stop.Stop()
	var wg sync.WaitGroup
	wg.Go(func() { a.copy(logfmt.Stdout, nil, a.io.Stdout) })
	if a.io.Stderr != nil {
		wg.Go(func() { a.copy(logfmt.Stderr, nil, a.io.Stderr) })
	}
	wg.Wait()
	a.close()
}

// detach closes the streams of a container that is going.
func (e *Engine) detach(id api.ProcessID) {
	e.drain(id)
	e.mu.Lock()
	a := e.attached[id]
	delete(e.attached, id)
	e.mu.Unlock()
	if a != nil {
		a.close()
	}
}

// attachment returns the near end, opened again if a former agent held it.
func (e *Engine) attachment(ctx context.Context, id api.ProcessID) (*attachment, error) {
	e.mu.Lock()
	a := e.attached[id]
	e.mu.Unlock()
	if a != nil {
		return a, nil
	}
	ct, err := e.client.LoadContainer(ctx, string(id))
	if err != nil {
		return nil, fmt.Errorf("container %s: %w", id, classify(err))
	}
	labels, err := ct.Labels(ctx)
	if err != nil {
		return nil, fmt.Errorf("container %s: %w", id, classify(err))
	}
	a = &attachment{}
	_, err = ct.Task(ctx, func(fifos *cio.FIFOSet) (cio.IO, error) {
		var err error
		a.io, err = cio.NewDirectIO(context.Background(), fifos)
		return a.io, err
	})
	if err != nil {
		return nil, fmt.Errorf("pipes of container %s: %w", id, classify(err))
	}
	if dir := labels[labelLog]; dir != "" {
		a.log, _ = logfmt.NewWriter(dir, 0) // writes as soon as it can
	}
	e.mu.Lock()
	e.attached[id] = a
	e.mu.Unlock()
	return a, nil
}

// Attach connects to the main process.
func (e *Engine) Attach(ctx context.Context, id api.ProcessID, streams runtime.Streams) error {
	a, err := e.attachment(ctx, id)
	if err != nil {
		return err
	}
	e.mu.Lock()
	if a.over {
		e.mu.Unlock()
		return api.Errorf(api.CodeNotFound, "the process of container %s has ended", id)
	}
	if a.busy {
		e.mu.Unlock()
		return api.Errorf(api.CodeConflict, "somebody is attached to container %s already", id)
	}
	a.busy = true
	e.mu.Unlock()
	task, err := e.task(ctx, id)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go resize(ctx, task, streams.Resize)
	if streams.Stdin != nil {
		go func() {
			// A process that does not read its input any more ends the copy.
			_, _ = io.Copy(a.io.Stdin, streams.Stdin)
			_ = a.io.Stdin.Close()
			_ = task.CloseIO(ctx, client.WithStdinCloser)
		}()
	}
	var wg sync.WaitGroup
	wg.Go(func() { a.copy(logfmt.Stdout, streams.Stdout, a.io.Stdout) })
	if a.io.Stderr != nil {
		wg.Go(func() { a.copy(logfmt.Stderr, streams.Stderr, a.io.Stderr) })
	}
	ended := make(chan struct{})
	go func() {
		wg.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		a.close()
		<-ended
		return context.Cause(ctx)
	}
}

// copy delivers output and keeps it in the log.
func (a *attachment) copy(s logfmt.Stream, to io.Writer, from io.Reader) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if a.log != nil {
				a.log.Write(s, time.Now(), buf[:n])
			}
			if to != nil {
				if _, failed := to.Write(buf[:n]); failed != nil {
					to = nil // the reader is gone, the log is not
				}
			}
		}
		if err != nil {
			return
		}
	}
}

// resize follows the terminal's size.
func resize(ctx context.Context, p interface {
	Resize(ctx context.Context, w, h uint32) error
}, sizes <-chan runtime.Size) {
	for sizes != nil {
		select {
		case <-ctx.Done():
			return
		case s, ok := <-sizes:
			if !ok {
				return
			}
			// A process that has ended cannot be resized, and need not be.
			_ = p.Resize(ctx, uint32(s.Cols), uint32(s.Rows))
		}
	}
}

// Exec runs a further process until it ends.
func (e *Engine) Exec(ctx context.Context, id api.ProcessID, x runtime.ExecSpec) (int, error) {
	ct, err := e.client.LoadContainer(ctx, string(id))
	if err != nil {
		return 0, fmt.Errorf("container %s: %w", id, classify(err))
	}
	task, err := ct.Task(ctx, nil)
	if err != nil {
		return 0, fmt.Errorf("task of container %s: %w", id, classify(err))
	}
	spec, err := ct.Spec(ctx)
	if err != nil {
		return 0, fmt.Errorf("spec of container %s: %w", id, classify(err))
	}
	p := *spec.Process
	p.Args, p.Terminal, p.ConsoleSize = x.Args, x.TTY, nil
	p.Env = append(append([]string(nil), p.Env...), x.Env...)
	if x.TTY {
		p.ConsoleSize = &specs.Box{Width: uint(x.Size.Cols), Height: uint(x.Size.Rows)}
		p.Env = append(p.Env, "TERM=xterm")
	}
	if x.WorkDir != "" {
		p.Cwd = x.WorkDir
	}
	opts := []cio.Opt{cio.WithStreams(x.Streams.Stdin, x.Streams.Stdout, x.Streams.Stderr), cio.WithFIFODir(filepath.Join(e.cfg.Dir, "pipes"))}
	if x.TTY {
		opts = append(opts, cio.WithTerminal)
	}
	name := fmt.Sprintf("x%d", time.Now().UnixNano())
	eof := make(chan struct{})
	if in := x.Streams.Stdin; in != nil {
		opts[0] = cio.WithStreams(&lastReader{Reader: in, eof: eof}, x.Streams.Stdout, x.Streams.Stderr)
	}
	proc, err := task.Exec(ctx, name, &p, cio.NewCreator(opts...))
	if err != nil {
		return 0, fmt.Errorf("exec in container %s: %w", id, classify(err))
	}
	return e.follow(ctx, id, proc, x, eof)
}

// lastReader closes eof when its reader has ended.
type lastReader struct {
	io.Reader
	eof  chan struct{}
	once sync.Once
}

// Read implements io.Reader.
func (r *lastReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if err != nil {
		r.once.Do(func() { close(r.eof) })
	}
	return n, err
}

// follow runs a process that was made by Exec to its end, whatever happens to the caller.
func (e *Engine) follow(ctx context.Context, id api.ProcessID, proc client.Process, x runtime.ExecSpec, eof <-chan struct{}) (int, error) {
	detached := context.WithoutCancel(ctx)
	defer func() {
		if _, err := proc.Delete(detached, client.WithProcessKill); ignoreNotFound(err) != nil {
			e.cfg.Log.Warn("exec not removed", "process", id, "err", err)
		}
	}()
	exit, err := proc.Wait(detached)
	if err != nil {
		return 0, fmt.Errorf("exec in container %s: %w", id, classify(err))
	}
	if err := proc.Start(ctx); err != nil {
		return 0, startError(id, err)
	}
	running, stop := context.WithCancel(ctx)
	defer stop()
	go resize(running, proc, x.Streams.Resize)
	go func() {
		select {
		case <-eof:
			// One that has ended already needs no end of its input.
			_ = proc.CloseIO(running, client.WithStdinCloser)
		case <-running.Done():
		}
	}()
	select {
	case status := <-exit:
		proc.IO().Wait()
		code, _, err := status.Result()
		if err != nil {
			return 0, fmt.Errorf("exec in container %s: %w", id, classify(err))
		}
		return int(code), nil
	case <-ctx.Done():
		err := proc.Kill(detached, syscall.SIGKILL)
		if err == nil {
			<-exit
		}
		return 0, errors.Join(context.Cause(ctx), ignoreNotFound(err))
	}
}

// RemoveDir removes the files of the engine, when nothing uses them any more.
func (e *Engine) RemoveDir() error { return os.RemoveAll(e.cfg.Dir) }

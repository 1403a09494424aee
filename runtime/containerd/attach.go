package containerd

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	tasks "github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/api/types/task"
	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/errdefs/pkg/errgrpc"

	"slipway/api"
	"slipway/runtime"
	"slipway/runtime/logfmt"
)

// attachment is the near end of the streams of an attachable container. It is open from Create
// to Remove, so that output waits in the pipes while nobody reads it.
type attachment struct {
	io   *cio.DirectIO
	log  *logfmt.Writer // nil without a log
	busy bool           // somebody is attached, or drains
	over bool           // the process has ended and its output was kept
	once sync.Once
}

// close gives the pipes back, at the end of the process.
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

// letGo closes the near ends and leaves the pipes where they are, which ends the copies.
func (a *attachment) letGo() {
	a.io.Cancel()
	for _, end := range []io.Closer{a.io.Stdin, a.io.Stdout, a.io.Stderr} {
		if end != nil {
			_ = end.Close() // closed already is no failure
		}
	}
}

// attachable makes the pipes of a container and opens the near ends.
func (e *Engine) attachable(s *runtime.Spec) cio.Creator {
	return func(id string) (cio.IO, error) {
		fifos, err := cio.NewFIFOSetInDir(e.pipes(), id, s.TTY)
		if err != nil {
			return nil, fmt.Errorf("pipes of container %s: %w", id, err)
		}
		near, err := cio.NewDirectIO(context.Background(), fifos)
		if err != nil {
			return nil, fmt.Errorf("pipes of container %s: %w", id, err)
		}
		a := &attachment{io: near}
		if s.Log.Dir != "" {
			a.log, _ = logfmt.NewWriter(s.Log.Dir, int64(s.Log.Max)) // writes as soon as it can
		}
		e.mu.Lock()
		e.attached[s.ID] = a
		e.mu.Unlock()
		return a.io, nil
	}
}

// pipes is the directory of the pipes of attachable containers and further processes.
func (e *Engine) pipes() string { return filepath.Join(e.cfg.Dir, "pipes") }

// reopen opens the near ends of pipes that exist.
func reopen(c cio.Config) (*cio.DirectIO, error) {
	return cio.NewDirectIO(context.Background(), cio.NewFIFOSet(c, func() error { return os.RemoveAll(filepath.Dir(c.Stdout)) }))
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
	a.copyAll(runtime.Streams{})
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
	p, err := e.process(ctx, id)
	if err != nil {
		return nil, err
	}
	ct, err := e.client.ContainerService().Get(ctx, string(id))
	if err != nil {
		return nil, fmt.Errorf("container %s: %w", id, classify(err))
	}
	switch {
	case p.Status == task.Status_STOPPED:
		return nil, ended(id)
	case filepath.Dir(filepath.Dir(p.Stdout)) != e.pipes():
		return nil, api.Errorf(api.CodeConflict, "container %s was not made to be attached to", id)
	}
	near, err := reopen(cio.Config{Stdin: p.Stdin, Stdout: p.Stdout, Stderr: p.Stderr, Terminal: p.Terminal})
	if err != nil {
		return nil, fmt.Errorf("pipes of container %s: %w", id, err)
	}
	a = &attachment{io: near}
	if dir := ct.Labels[labelLog]; dir != "" {
		a.log, _ = logfmt.NewWriter(dir, 0) // writes as soon as it can
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if other := e.attached[id]; other != nil {
		a.letGo()
		return other, nil
	}
	e.attached[id] = a
	return a, nil
}

// adoptPipes holds the pipes of attachable containers that a former agent made: what is in them
// would be gone when their processes end.
func (e *Engine) adoptPipes(ctx context.Context) error {
	r, err := e.client.TaskService().List(ctx, &tasks.ListTasksRequest{})
	if err != nil {
		return fmt.Errorf("list tasks: %w", classify(errgrpc.ToNative(err)))
	}
	for _, p := range r.Tasks {
		if filepath.Dir(filepath.Dir(p.Stdout)) != e.pipes() {
			continue
		}
		if _, err := e.attachment(ctx, api.ProcessID(p.ID)); err != nil && api.CodeOf(err) != api.CodeNotFound {
			e.cfg.Log.Warn("pipes not adopted", "process", p.ID, "err", err)
		}
	}
	return nil
}

func ended(id api.ProcessID) error {
	return api.Errorf(api.CodeNotFound, "the process of container %s has ended", id)
}

// Attach connects to the main process.
func (e *Engine) Attach(ctx context.Context, id api.ProcessID, streams runtime.Streams) error {
	a, err := e.attachment(ctx, id)
	if err != nil {
		return err
	}
	e.mu.Lock()
	over, busy := a.over, a.busy
	a.busy = true
	e.mu.Unlock()
	switch {
	case over:
		return ended(id)
	case busy:
		return api.Errorf(api.CodeConflict, "somebody is attached to container %s already", id)
	}
	t, err := e.task(ctx, id)
	if err != nil {
		e.mu.Lock()
		a.busy = false
		e.mu.Unlock()
		return err
	}
	here, leave := context.WithCancel(ctx)
	defer leave()
	go resize(here, t, streams.Resize)
	go feed(here, t, a.io.Stdin, streams.Stdin)
	done := make(chan struct{})
	go func() {
		a.copyAll(streams)
		close(done)
	}()
	select {
	case <-done:
		e.mu.Lock()
		a.over = true
		e.mu.Unlock()
		a.close()
		return nil
	case <-ctx.Done():
		e.leave(id, a, done)
		return context.Cause(ctx)
	}
}

// leave makes room for the next attachment. The pipes are open all the time.
func (e *Engine) leave(id api.ProcessID, a *attachment, copied <-chan struct{}) {
	near, err := reopen(a.io.Config())
	a.letGo()
	<-copied
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.attached[id] != a { // removed meanwhile
		if err == nil {
			_ = near.Close() // nobody reads it any more
		}
		return
	}
	if err != nil { // the next one tries again
		delete(e.attached, id)
		return
	}
	e.attached[id] = &attachment{io: near, log: a.log}
}

// feed copies input until the caller's reader ends, or the caller has gone, which it notices
// with the next Read. Without a reader the input is empty.
func feed(ctx context.Context, t client.Task, to io.WriteCloser, from io.Reader) {
	buf := make([]byte, 32<<10)
	for from != nil {
		n, err := from.Read(buf)
		if ctx.Err() != nil {
			return
		}
		if _, failed := to.Write(buf[:n]); failed != nil {
			return // the process does not read any more
		}
		if err != nil {
			break
		}
	}
	// One that has ended needs no end of its input.
	_ = to.Close()
	_ = t.CloseIO(ctx, client.WithStdinCloser)
}

// copyAll delivers the output, until the process has closed it.
func (a *attachment) copyAll(streams runtime.Streams) {
	var wg sync.WaitGroup
	wg.Go(func() { a.copy(logfmt.Stdout, streams.Stdout, a.io.Stdout) })
	if a.io.Stderr != nil {
		wg.Go(func() { a.copy(logfmt.Stderr, streams.Stderr, a.io.Stderr) })
	}
	wg.Wait()
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

// task loads the task of a container, for what needs more than one call.
func (e *Engine) task(ctx context.Context, id api.ProcessID) (client.Task, error) {
	ct, err := e.client.LoadContainer(ctx, string(id))
	if err != nil {
		return nil, fmt.Errorf("container %s: %w", id, classify(err))
	}
	t, err := ct.Task(ctx, nil)
	if err != nil {
		return nil, fmt.Errorf("task of container %s: %w", id, classify(err))
	}
	return t, nil
}

// resizer is a process with a terminal.
type resizer interface {
	Resize(ctx context.Context, w, h uint32) error
}

// resize follows the terminal's size.
func resize(ctx context.Context, p resizer, sizes <-chan runtime.Size) {
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

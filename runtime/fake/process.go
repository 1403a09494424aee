package fake

import (
	"context"
	"io"
	"syscall"
	"time"

	"slipway/runtime"
	"slipway/runtime/logfmt"
)

// Program stands for an executable. It returns the exit code, and must return soon after ctx
// ends, which is SIGKILL.
type Program func(ctx context.Context, p *Process) int

// Process is what a program sees of the world.
type Process struct {
	Args   []string
	Env    []string // NAME=value
	Dir    string   // the working directory
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
	// Signals carries every signal but SIGKILL. A program that reads none of them ignores
	// them all.
	Signals <-chan syscall.Signal
	// Sizes carries the size of the terminal, and each new one; nil without a terminal.
	Sizes <-chan runtime.Size
}

// process is a running program.
type process struct {
	Process
	signals chan syscall.Signal
	ctx     context.Context // ends with SIGKILL; the program's own, not a caller's
	end     context.CancelFunc
	pipes   []*pipe // what the program may be waiting for
}

// signalsMax is how many signals wait for a program that does not read them; more are dropped,
// as the kernel does.
const signalsMax = 16

func newProcess(c runtime.Command, s Process, pipes ...*pipe) *process {
	p := &process{Process: s, signals: make(chan syscall.Signal, signalsMax), pipes: pipes}
	p.Args, p.Env, p.Dir, p.Signals = c.Args, c.Env, c.WorkDir, p.signals
	p.ctx, p.end = context.WithCancel(context.Background())
	return p
}

// run runs the program to its end.
func (p *process) run(program Program) int {
	if program == nil {
		program = UntilTerm
	}
	defer p.end()
	code := program(p.ctx, &p.Process)
	if p.ctx.Err() != nil {
		return 128 + int(syscall.SIGKILL)
	}
	return code
}

func (p *process) kill(sig syscall.Signal) {
	if sig == syscall.SIGKILL {
		p.end()
		for _, pipe := range p.pipes {
			pipe.close()
		}
		return
	}
	select {
	case p.signals <- sig:
	default:
	}
}

// UntilTerm runs until SIGTERM and exits with 0.
func UntilTerm(ctx context.Context, p *Process) int {
	for {
		select {
		case <-ctx.Done():
			return 0
		case sig := <-p.Signals:
			if sig == syscall.SIGTERM {
				return 0
			}
		}
	}
}

// ExitAfter returns a program that exits with code after d, or with 143 on SIGTERM.
func ExitAfter(d time.Duration, code int) Program {
	return func(ctx context.Context, p *Process) int {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-ctx.Done():
		case <-p.Signals:
			return 128 + int(syscall.SIGTERM)
		case <-timer.C:
		}
		return code
	}
}

// streamsOf connects the main process of a container to its log or pipes.
func streamsOf(c *container) Process {
	p := Process{Stdin: emptyReader{}, Stdout: io.Discard, Stderr: io.Discard}
	switch {
	case c.stdout != nil:
		p = Process{Stdin: c.stdin, Stdout: c.stdout, Stderr: c.stderr}
	case c.log != nil:
		p = Process{Stdin: emptyReader{}, Stdout: logWriter{c.log, logfmt.Stdout}, Stderr: logWriter{c.log, logfmt.Stderr}}
	}
	if c.spec.TTY { // a terminal has one output
		p.Stderr, p.Sizes = p.Stdout, c.sizes
	}
	return p
}

type emptyReader struct{}

func (emptyReader) Read([]byte) (int, error) { return 0, io.EOF }

type logWriter struct {
	log    *logfmt.Writer
	stream logfmt.Stream
}

func (w logWriter) Write(p []byte) (int, error) {
	w.log.Write(w.stream, time.Now(), p)
	return len(p), nil
}

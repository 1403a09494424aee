package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/term"

	"slipway/api/client"
)

// console is the local end of a session.
type console struct {
	tty  bool
	size client.Size
}

// console looks whether both ends of the local side are a terminal.
func (s *shell) console() console {
	in, out := terminal(s.in), terminal(s.out)
	if in == nil || out == nil {
		return console{}
	}
	return console{tty: true, size: terminalSize(out)}
}

func terminalSize(f *os.File) client.Size {
	cols, rows, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return client.Size{Rows: 24, Cols: 80}
	}
	return client.Size{Rows: uint16(rows), Cols: uint16(cols)}
}

// converse runs a session with the local streams. With a terminal it is raw meanwhile, so that
// every key, Ctrl-C as well, goes to the process. The result is the exit code of the process.
func (s *shell) converse(ctx context.Context, c console, session func(context.Context, client.Streams) (int, error)) error {
	streams := client.Streams{In: s.in, Out: s.out, Err: s.err}
	if c.tty {
		in := terminal(s.in)
		old, err := term.MakeRaw(int(in.Fd()))
		if err != nil {
			return fmt.Errorf("prepare the terminal: %w", err)
		}
		defer func() { _ = term.Restore(int(in.Fd()), old) }() // nothing else can be done about it
		resizes, stop := watchSize(terminal(s.out))
		defer stop()
		streams.Resizes = resizes
	}
	code, err := session(ctx, streams)
	if err != nil {
		return err
	}
	if code != 0 {
		return &exitError{code: code}
	}
	return nil
}

// watchSize tells new sizes of a terminal until stop.
func watchSize(f *os.File) (<-chan client.Size, func()) {
	signals, sizes, done := make(chan os.Signal, 1), make(chan client.Size, 1), make(chan struct{})
	ended := make(chan struct{})
	signal.Notify(signals, syscall.SIGWINCH)
	go func() {
		defer close(ended)
		for {
			select {
			case <-done:
				return
			case <-signals:
			}
			select {
			case sizes <- terminalSize(f):
			case <-done:
				return
			}
		}
	}()
	return sizes, func() {
		signal.Stop(signals)
		close(done)
		<-ended
	}
}

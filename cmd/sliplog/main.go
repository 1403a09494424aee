package main

import (
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"

	"slipway/runtime/logfmt"
)

// The descriptors that containerd's shim hands over.
const (
	fdStdout = 3
	fdStderr = 4
	fdReady  = 5
)

// setPipeSize is F_SETPIPE_SZ of fcntl(2); a larger pipe lets an application write ahead.
const (
	setPipeSize = 1031
	pipeSize    = 1 << 20
)

func main() {
	signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGPIPE)
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "sliplog:", err)
		os.Exit(1)
	}
}

// run writes both streams until they end. It fails only before it has said that it is ready.
func run(args []string) error {
	dir, max, err := parse(args)
	if err != nil {
		return err
	}
	// The kernel shall take almost anything else first: an application whose logger is gone
	// dies of SIGPIPE. Without the right to ask for it, it stays as it is.
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("-900"), 0o644)

	w, _ := logfmt.NewWriter(dir, max) // a disk that is full now may not be later
	var streams sync.WaitGroup
	for fd, s := range map[uintptr]logfmt.Stream{fdStdout: logfmt.Stdout, fdStderr: logfmt.Stderr} {
		_, _, _ = syscall.Syscall(syscall.SYS_FCNTL, fd, setPipeSize, pipeSize)
		streams.Go(func() { drain(w, s, os.NewFile(fd, s.String())) })
	}
	if err := os.NewFile(fdReady, "ready").Close(); err != nil {
		return fmt.Errorf("say ready on descriptor %d: %w", fdReady, err)
	}
	streams.Wait()
	w.Close(true)
	return nil
}

// drain copies a stream to the log to its end. A defect in the writer must not end the
// application, so what follows a panic is read and discarded.
func drain(w *logfmt.Writer, s logfmt.Stream, f *os.File) {
	defer func() {
		if v := recover(); v != nil {
			fmt.Fprintln(os.Stderr, "sliplog: panic:", v)
			_, _ = io.Copy(io.Discard, f)
		}
	}()
	w.Drain(s, f)
}

// parse reads the argument pairs.
func parse(args []string) (dir string, max int64, err error) {
	if len(args)%2 != 0 {
		return "", 0, fmt.Errorf("arguments are pairs of a name and a value, got %d", len(args))
	}
	for i := 0; i < len(args); i += 2 {
		switch args[i] {
		case "dir":
			dir = args[i+1]
		case "max":
			if max, err = strconv.ParseInt(args[i+1], 10, 64); err != nil {
				return "", 0, fmt.Errorf("max %q is not a number of bytes", args[i+1])
			}
		}
	}
	if dir == "" {
		return "", 0, fmt.Errorf("no dir given; usage: sliplog dir <path> [max <bytes>]")
	}
	return dir, max, nil
}

// Command run is the guest as a program of its own.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"

	"slipway/runtime/runtimetest/guest"
)

func main() {
	dir, err := os.Getwd()
	if err != nil {
		dir = err.Error()
	}
	os.Exit(guest.Run(context.Background(), &guest.World{
		Args: os.Args[1:], Env: os.Environ(), Dir: dir, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		Signals: signals(), Sizes: sizes(), Hog: hog,
	}))
}

func signals() <-chan syscall.Signal {
	from, to := make(chan os.Signal, 16), make(chan syscall.Signal)
	signal.Notify(from, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGUSR1)
	go func() {
		for s := range from {
			to <- s.(syscall.Signal) // what else would os send
		}
	}()
	return to
}

func sizes() <-chan [2]int {
	from, to := make(chan os.Signal, 16), make(chan [2]int)
	signal.Notify(from, syscall.SIGWINCH)
	go func() {
		var last [2]int
		for {
			if w, err := unix.IoctlGetWinsize(1, unix.TIOCGWINSZ); err == nil {
				if now := [2]int{int(w.Row), int(w.Col)}; now != last {
					last = now
					to <- now
				}
			}
			<-from
		}
	}()
	return to
}

// hog touches a page of every new block.
func hog() {
	var blocks [][]byte
	for {
		b := make([]byte, 1<<20)
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		blocks = append(blocks, b)
	}
}

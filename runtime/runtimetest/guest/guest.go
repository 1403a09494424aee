// Package guest is the program that the suite in runtimetest runs inside containers. An engine
// in memory calls Run, a real one runs the command in package run: the same words do the same
// in both.
//
// The arguments are words that are carried out one after the other; some take a value. It exits
// with 0 after the last one.
package guest

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// World is what a guest sees around it.
type World struct {
	Args   []string // without the program's name
	Env    []string // NAME=value
	Dir    string
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
	// Signals carries every signal but SIGKILL, Sizes the size of the terminal and each new
	// one as rows and columns.
	Signals <-chan syscall.Signal
	Sizes   <-chan [2]int
	// Hog takes memory until it is killed; nil where there is none to take.
	Hog func()
}

// unknown is the exit code for a word that is not known or that lacks its value.
const unknown = 64

// Run carries out the words. ctx ends with SIGKILL.
//
//	out T, err T  write a line          args     write all arguments and end
//	env N         write a variable      dir      write the working directory
//	cat           copy input to output  flood N  write N numbered lines
//	read          copy one line         size     write the next size of the terminal
//	wait          until SIGTERM         stay     until SIGKILL; SIGUSR1 takes memory in both
//	sleep D       for a duration        exit N   with a code
//	hog           take memory
func Run(ctx context.Context, w *World) int {
	for i := 0; i < len(w.Args); i++ {
		word, value := w.Args[i], ""
		if slices.Contains([]string{"out", "err", "env", "flood", "sleep", "exit"}, word) {
			if i++; i == len(w.Args) {
				return unknown
			}
			value = w.Args[i]
		}
		switch word {
		case "args":
			fmt.Fprintln(w.Stdout, strings.Join(w.Args, "|"))
			return 0
		case "exit":
			code, _ := strconv.Atoi(value)
			return code
		case "wait", "stay":
			w.wait(ctx, word == "stay")
		case "hog":
			w.Hog()
		case "sleep":
			d, _ := time.ParseDuration(value)
			select {
			case <-ctx.Done():
			case <-time.After(d):
			}
		case "flood":
			n, _ := strconv.Atoi(value)
			for i := 0; i < n && ctx.Err() == nil; i++ {
				fmt.Fprintf(w.Stdout, "line %07d\n", i)
			}
		default:
			if !w.write(word, value) {
				return unknown
			}
		}
		if ctx.Err() != nil {
			return 0
		}
	}
	return 0
}

// write carries out the words that write something.
func (w *World) write(word, value string) bool {
	switch word {
	case "out":
		fmt.Fprintln(w.Stdout, value)
	case "err":
		fmt.Fprintln(w.Stderr, value)
	case "env":
		i := slices.IndexFunc(w.Env, func(kv string) bool { return strings.HasPrefix(kv, value+"=") })
		if i < 0 {
			fmt.Fprintln(w.Stdout, "unset")
			return true
		}
		fmt.Fprintln(w.Stdout, strings.TrimPrefix(w.Env[i], value+"="))
	case "dir":
		fmt.Fprintln(w.Stdout, w.Dir)
	case "cat":
		_, _ = io.Copy(w.Stdout, w.Stdin) // who went away will not be missed
	case "read":
		for b := []byte{0}; b[0] != '\n'; {
			if _, err := w.Stdin.Read(b); err != nil {
				return true
			}
			_, _ = w.Stdout.Write(b)
		}
	case "size":
		s := <-w.Sizes
		fmt.Fprintf(w.Stdout, "%d rows %d cols\n", s[0], s[1])
	default:
		return false
	}
	return true
}

func (w *World) wait(ctx context.Context, stay bool) {
	for {
		select {
		case <-ctx.Done():
			return
		case sig := <-w.Signals:
			switch {
			case sig == syscall.SIGUSR1 && w.Hog != nil:
				w.Hog()
			case sig == syscall.SIGTERM && !stay:
				fmt.Fprintln(w.Stdout, "terminated")
				return
			}
		}
	}
}

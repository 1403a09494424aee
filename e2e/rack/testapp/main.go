// Command testapp is the web service that the end-to-end tests deploy. It behaves as its
// environment says; with arguments it is a small tool for an image that has no others.
package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/coder/websocket"
)

func main() {
	if len(os.Args) > 1 {
		os.Exit(tool(os.Args[1], os.Args[2:]))
	}
	version, port := os.Getenv("VERSION"), os.Getenv("PORT")
	fmt.Println("starting", version)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	switch os.Getenv("MODE") {
	case "crash":
		fmt.Fprintln(os.Stderr, "cannot go on: no database")
		os.Exit(3)
	case "deaf":
		time.Sleep(time.Hour)
	case "wrongport":
		port = "9999"
	case "stubborn":
		signal.Ignore(syscall.SIGTERM)
		ctx = context.Background()
	case "greedy":
		eat()
	}
	server := &http.Server{Addr: ":" + port, Handler: handler(version)}
	go func() {
		<-ctx.Done()
		grace, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		server.Shutdown(grace)
	}()
	if err := server.ListenAndServe(); err != http.ErrServerClosed {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	time.Sleep(50 * time.Millisecond)
}

// handler answers with the version, and does to itself what it is asked for.
func handler(version string) http.Handler {
	mode, started := os.Getenv("MODE"), time.Now()
	var sick atomic.Bool
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprintf(w, "%s %s %d\n", version, r.Method, n)
	})
	check := func(w http.ResponseWriter, _ *http.Request) {
		if mode == "unhealthy" || sick.Load() || mode == "fade" && time.Since(started) > 2*time.Second {
			http.Error(w, "not today", http.StatusInternalServerError)
		}
	}
	mux.HandleFunc("/check", check)
	mux.HandleFunc("/live", check)
	mux.HandleFunc("/sick", func(http.ResponseWriter, *http.Request) { sick.Store(true) })
	mux.HandleFunc("/end", func(_ http.ResponseWriter, r *http.Request) {
		code, _ := strconv.Atoi(r.URL.Query().Get("code"))
		os.Exit(code)
	})
	mux.HandleFunc("/eat", func(http.ResponseWriter, *http.Request) { eat() })
	mux.HandleFunc("/say", func(_ http.ResponseWriter, r *http.Request) { fmt.Println(r.URL.Query().Get("text")) })
	mux.HandleFunc("/fill", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, fill("/data/fill")) })
	mux.HandleFunc("/empty", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, os.Remove("/data/fill")) })
	mux.HandleFunc("/echo", echo)
	return mux
}

// eat takes memory until the kernel ends the process.
func eat() {
	var all [][]byte
	for {
		b := make([]byte, 1<<20)
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		all = append(all, b)
	}
}

// fill writes to a file until the disk is full.
func fill(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	for b := make([]byte, 64<<10); ; {
		if _, err := f.Write(b); err != nil {
			return err
		}
	}
}

// tool runs one of the small tools and returns the exit code.
func tool(name string, args []string) int {
	arg := ""
	if len(args) > 0 {
		arg = args[0]
	}
	n, _ := strconv.Atoi(arg)
	var err error
	switch name {
	case "count":
		count(n)
	case "exit":
		return n
	case "env":
		fmt.Println(os.Getenv(arg))
	case "copy": // standard input to standard output
		_, err = io.Copy(os.Stdout, os.Stdin)
	case "read":
		var b []byte
		if b, err = os.ReadFile(arg); err == nil {
			os.Stdout.Write(b)
		}
	case "fill":
		err = fill(arg)
	case "sleep", "late": // which says so
		time.Sleep(time.Duration(n) * time.Second)
		if name == "late" {
			fmt.Println(name)
		}
	case "get":
		err = get(arg)
	case "wait": // for a signal
		fmt.Println("waiting")
		c := make(chan os.Signal, 1)
		signal.Notify(c, syscall.SIGTERM)
		<-c
	default:
		err = fmt.Errorf("no tool %q", name)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// get writes what a URL answers.
func get(url string) error {
	resp, err := http.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(os.Stdout, resp.Body)
	return err
}

// count writes numbered lines, some milliseconds apart now and then.
func count(n int) {
	for i := range n {
		fmt.Println("count", i)
		if i%20 == 0 {
			time.Sleep(2 * time.Millisecond)
		}
	}
}

// echo sends back what comes, on a websocket.
func echo(w http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
	if err != nil {
		return
	}
	defer c.CloseNow()
	for {
		kind, b, err := c.Read(r.Context())
		if err != nil || c.Write(r.Context(), kind, b) != nil {
			return
		}
	}
}

// Command testapp is the web service that the end-to-end tests deploy. It behaves as its
// environment says.
package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/coder/websocket"
)

func main() {
	if len(os.Args) == 3 && os.Args[1] == "count" {
		count(os.Args[2])
		return
	}
	version, port := os.Getenv("VERSION"), os.Getenv("PORT")
	fmt.Println("starting", version)
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprintf(w, "%s %s %d\n", version, r.Method, n)
	})
	mux.HandleFunc("/check", func(w http.ResponseWriter, _ *http.Request) {
		if os.Getenv("MODE") == "unhealthy" {
			http.Error(w, "not today", http.StatusInternalServerError)
		}
	})
	mux.HandleFunc("/echo", echo)
	switch os.Getenv("MODE") {
	case "crash":
		fmt.Fprintln(os.Stderr, "cannot go on: no database")
		os.Exit(3)
	case "deaf":
		time.Sleep(time.Hour)
	case "wrongport":
		port = "9999"
	}
	server := &http.Server{Addr: ":" + port, Handler: mux}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
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

// count writes numbered lines, some milliseconds apart now and then.
func count(to string) {
	n, err := strconv.Atoi(to)
	if err != nil {
		os.Exit(2)
	}
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

package router

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"slipway/api"
)

// refusing returns an address that refuses connections: its port is taken, so that no other test
// gets it, but nobody listens.
func refusing(t *testing.T) string {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	addr, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("127.0.0.1:%d", addr.(*unix.SockaddrInet4).Port)
}

// TestManyRefused leads to many processes that are gone and one that is not: the first request
// already has to find it.
func TestManyRefused(t *testing.T) {
	t.Parallel()
	live := backend(t, func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) })
	for i := range 10 {
		addrs := []string{live}
		for range 7 {
			addrs = append(addrs, refusing(t))
		}
		g := newRig(t)
		g.apply(lead(addrs...))
		if resp, body := g.do("POST", "/", strings.NewReader("echo")); resp.StatusCode != 200 || body != "echo" {
			t.Errorf("router %d: %s %q, want 200", i, resp.Status, body)
		}
	}
}

// TestRetryInNewTable applies a table while a connection is being refused: the next try goes to
// the target that the new table names.
func TestRetryInNewTable(t *testing.T) {
	t.Parallel()
	old, fresh := "127.0.0.1:1", "127.0.0.1:2"
	g := newRig(t)
	g.apply(lead(old))
	f := &flight{router: g.router, route: g.router.table.Load().find("app.test"), w: httptest.NewRecorder(), r: httptest.NewRequest("GET", "/", nil)}
	if !f.board("app.test") {
		t.Fatal("no target in the first table")
	}
	var tried []string
	f.send("app.test", func(bool) *failure {
		tried = append(tried, f.target.id.addr)
		if len(tried) > 1 {
			return nil
		}
		g.apply(lead(fresh))
		return &failure{err: errors.New("refused"), dial: true, again: true}
	})
	f.leave()
	if len(tried) != 2 || tried[1] != fresh {
		t.Errorf("tried %v, want %s and then %s", tried, old, fresh)
	}
}

// TestRetryAdmits moves the host to a service that does not admit the client, between two tries.
func TestRetryAdmits(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	g.apply(lead("127.0.0.1:1"))
	w := httptest.NewRecorder()
	f := &flight{router: g.router, route: g.router.table.Load().find("app.test"), w: w, r: httptest.NewRequest("GET", "/", nil)}
	if !f.board("app.test") {
		t.Fatal("no target in the first table")
	}
	tries := 0
	f.send("app.test", func(bool) *failure {
		if tries++; tries > 1 {
			return nil
		}
		closed := lead("127.0.0.1:2")
		closed.Key = api.ServiceKey{App: "other", Service: "web"}
		closed.Whitelist = []string{"10.0.0.0/8"}
		g.apply(closed)
		return &failure{err: errors.New("refused"), dial: true, again: true}
	})
	f.leave()
	if tries != 1 || w.Code != http.StatusBadGateway {
		t.Errorf("%d tries, status %d: want one try and 502", tries, w.Code)
	}
}

// TestExpectContinue sends a body that is not kept after asking for it: the client is told once
// to go on, and the process's own word about it stays with the router.
func TestExpectContinue(t *testing.T) {
	t.Parallel()
	const size = replayBodyMax + 1000
	addr := rawBackend(t, func(c net.Conn, br *bufio.Reader) {
		r, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
		n, _ := io.Copy(io.Discard, r.Body)
		body := fmt.Sprint(n)
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	})
	g := newRig(t)
	g.apply(lead(addr))
	for range 30 {
		reply := g.raw(fmt.Sprintf("POST / HTTP/1.1\r\nHost: app.test\r\nExpect: 100-continue\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s",
			size, strings.Repeat("x", size)))
		if n := strings.Count(reply, "HTTP/1.1 100 "); n != 1 || !strings.HasPrefix(reply, "HTTP/1.1 100 ") || !strings.HasSuffix(reply, fmt.Sprint(size)) {
			t.Fatalf("%d times told to go on: %q", n, reply)
		}
	}
}

// TestConnWithoutSocket asks about a connection that has no socket to look at.
func TestConnWithoutSocket(t *testing.T) {
	t.Parallel()
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	if !newConn(a).alive() {
		t.Error("a connection that cannot be looked at was given up")
	}
}

// TestServiceMetrics counts what is in flight and what the router refused, by service.
func TestServiceMetrics(t *testing.T) {
	t.Parallel()
	entered, block := make(chan struct{}), make(chan struct{})
	addr := backend(t, func(http.ResponseWriter, *http.Request) { close(entered); <-block })
	g := newRig(t)
	g.apply(lead(addr))
	done := make(chan struct{})
	go func() { defer close(done); g.get("/") }()
	<-entered
	expect := func(lines ...string) {
		t.Helper()
		eventually(t, "metrics", func() (bool, string) {
			b, err := g.client.Metrics(t.Context())
			for _, line := range lines {
				if err != nil || !strings.Contains(string(b), line+"\n") {
					return false, fmt.Sprintf("without %s: %v", line, err)
				}
			}
			return true, ""
		})
	}
	labels := `{app="app",service="web"}`
	expect("slipway_router_in_flight"+labels+" 1", `slipway_router_process_in_flight{process="`+string(process(addr))+`"} 1`)
	close(block)
	<-done
	g.apply(lead())
	g.get("/")
	expect("slipway_router_in_flight"+labels+" 0", "slipway_router_errors_total"+labels+" 1",
		`slipway_router_requests_total{app="app",code="200",service="web"} 1`,
		`slipway_router_requests_total{app="app",code="503",service="web"} 1`, "slipway_router_table_version 2")
}

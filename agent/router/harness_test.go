package router

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"slipway/api"
)

const deadline = 20 * time.Second

// rig is a router under test with its client.
type rig struct {
	t       testing.TB
	router  *Router
	client  *Client
	cfg     Config
	stop    func() error
	version uint64
}

func newRig(t testing.TB, edit ...func(*Config)) *rig {
	t.Helper()
	cfg := Config{
		HTTPAddr:      "127.0.0.1:0",
		ControlSocket: filepath.Join(t.TempDir(), "router.sock"),
		ShutdownLimit: 5 * time.Second,
	}
	for _, f := range edit {
		f(&cfg)
	}
	g := &rig{t: t, cfg: cfg}
	g.start()
	t.Cleanup(func() {
		if err := g.stop(); err != nil {
			t.Errorf("router ended with: %v", err)
		}
	})
	return g
}

func (g *rig) start() {
	g.t.Helper()
	r, err := New(g.cfg)
	if err != nil {
		g.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	ended := false
	g.router, g.client = r, Dial(g.cfg.ControlSocket)
	g.stop = func() error {
		cancel()
		if ended {
			return nil
		}
		ended = true
		select {
		case err := <-done:
			return err
		case <-time.After(deadline):
			return fmt.Errorf("router still runs")
		}
	}
}

// apply puts routes in force under the next version.
func (g *rig) apply(routes ...api.Route) api.RouterStatus {
	g.t.Helper()
	g.version++
	st, err := g.client.Apply(g.t.Context(), api.RouteTable{Version: g.version, Routes: routes})
	if err != nil {
		g.t.Fatal(err)
	}
	return st
}

// lead leads app.test to the given addresses.
func lead(addrs ...string) api.Route {
	rt := api.Route{
		Key:     api.ServiceKey{App: "app", Service: "web"},
		Hosts:   []string{"app.test"},
		Scheme:  api.SchemeHTTP,
		Timeout: 10 * time.Second,
		Drain:   10 * time.Second,
	}
	for _, a := range addrs {
		rt.Targets = append(rt.Targets, api.Target{Process: process(a), Addr: a})
	}
	return rt
}

// process names the process that listens on an address.
func process(addr string) api.ProcessID {
	_, port, _ := net.SplitHostPort(addr)
	return api.ProcessID("p" + port)
}

// backend starts an HTTP server and returns its address.
func backend(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// rawBackend answers every connection with f.
func rawBackend(t *testing.T, f func(net.Conn, *bufio.Reader)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				f(c, bufio.NewReader(c))
			}()
		}
	}()
	return l.Addr().String()
}

// answers is a raw backend that reads one head per answer and replies with it, verbatim.
func answers(t *testing.T, replies ...string) string {
	return rawBackend(t, func(c net.Conn, br *bufio.Reader) {
		for _, reply := range replies {
			if _, err := http.ReadRequest(br); err != nil {
				return
			}
			io.WriteString(c, reply)
		}
	})
}

// get requests a path of app.test.
func (g *rig) get(path string) (*http.Response, string) {
	g.t.Helper()
	return g.do("GET", path, nil)
}

func (g *rig) do(method, path string, body io.Reader, edit ...func(*http.Request)) (*http.Response, string) {
	g.t.Helper()
	req, err := http.NewRequest(method, "http://"+g.router.HTTPAddr()+path, body)
	if err != nil {
		g.t.Fatal(err)
	}
	req.Host = "app.test"
	for _, f := range edit {
		f(req)
	}
	resp, err := noRedirect.Do(req)
	if err != nil {
		g.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		g.t.Fatalf("%s %s: body: %v", method, path, err)
	}
	return resp, string(b)
}

var noRedirect = &http.Client{
	Transport:     &http.Transport{DisableKeepAlives: true, DisableCompression: true},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	Timeout:       deadline,
}

// raw sends bytes to the router and returns all that it answers until it closes.
func (g *rig) raw(request string) string {
	g.t.Helper()
	c, err := net.Dial("tcp", g.router.HTTPAddr())
	if err != nil {
		g.t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(deadline))
	if _, err := io.WriteString(c, request); err != nil {
		g.t.Fatal(err)
	}
	b, _ := io.ReadAll(c)
	return string(b)
}

// eventually waits for a condition, which describes what it saw.
func eventually(t *testing.T, what string, cond func() (bool, string)) {
	t.Helper()
	end := time.Now().Add(deadline)
	for {
		ok, seen := cond()
		if ok {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s: still %s", what, seen)
		}
		time.Sleep(time.Millisecond) // polls
	}
}

func statusLine(reply string) string {
	line, _, _ := strings.Cut(reply, "\r\n")
	return line
}

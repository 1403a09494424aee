package router

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// strict are bounds that a test can wait for.
func strict(c *Config) {
	c.bounds = bounds{headerRead: 300 * time.Millisecond, clientIdle: 300 * time.Millisecond, stall: 300 * time.Millisecond, clients: 1000}
}

// TestBodiesEndOnce sends bodies that a lenient reader would see end elsewhere. The process must
// get the one true body or a connection that breaks off, and never what follows as a request.
func TestBodiesEndOnce(t *testing.T) {
	t.Parallel()
	const next = "GET /smuggled HTTP/1.1\r\nHost: app.test\r\n\r\n"
	const post = "POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n"
	for name, c := range map[string]struct{ request, body string }{
		"bare LF after a size":       {post + "3\nabc\r\n0\r\n\r\n" + next, ""},
		"bare LF after an extension": {post + "3;x=\nabc\r\n0\r\n\r\n" + next, ""},
		"bare LF after a chunk":      {post + "3\r\nabc\n0\r\n\r\n" + next, ""},
		"negative size":              {post + "-3\r\nabc\r\n0\r\n\r\n" + next, ""},
		"size with 0x":               {post + "0x3\r\nabc\r\n0\r\n\r\n" + next, ""},
		"overflowing size":           {post + "10000000000000003\r\nabc\r\n0\r\n\r\n" + next, ""},
		"empty size":                 {post + "\r\nabc\r\n0\r\n\r\n" + next, ""},
		"huge extension":             {post + "3;x=" + strings.Repeat("y", 1<<20) + "\r\nabc\r\n0\r\n\r\n" + next, ""},
		"many extensions":            {post + strings.Repeat("1;xxxxxxxxxxxxxxxxxxxx\r\na\r\n", 5000) + "0\r\n\r\n" + next, ""},
		"HTTP/1.0":                   {strings.Replace(post, "1.1", "1.0", 1) + "3\r\nabc\r\n0\r\n\r\n" + next, ""},
		"HTTP/1.0, kept": {"POST / HTTP/1.0\r\nHost: app.test\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n" +
			next, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newRig(t)
			g.apply(lead(backend(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/" {
					t.Errorf("the process got %s %s", r.Method, r.URL)
				}
				if b, err := io.ReadAll(r.Body); err == nil && string(b) != c.body {
					t.Errorf("the process got the body %.40q, complete", b)
				}
			})))
			if reply := g.raw(c.request); strings.Count(reply, "HTTP/1.1 200") > 1 {
				t.Errorf("answered %q", reply)
			}
		})
	}
}

// TestLenientLines: line ends and folded lines that RFC 9112 lets a server accept reach the
// process in one unambiguous form.
func TestLenientLines(t *testing.T) {
	t.Parallel()
	heads := make(chan string, 1)
	addr := rawBackend(t, func(c net.Conn, br *bufio.Reader) {
		var head []byte
		for {
			line, err := br.ReadBytes('\n')
			if head = append(head, line...); err != nil || len(line) <= 2 {
				break
			}
		}
		heads <- string(head)
		io.WriteString(c, "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
	})
	g := newRig(t)
	g.apply(lead(addr))
	for _, request := range []string{
		"GET /x HTTP/1.1\nHost: app.test\nX-A: 1\nConnection: close\n\n",
		"GET /x HTTP/1.1\r\nHost: app.test\r\nX-A:\r\n 1\r\nConnection: close\r\n\r\n",
		"GET http://app.test/x HTTP/1.1\r\nHost: evil.test\r\nX-A: 1\r\nConnection: close\r\n\r\n",
	} {
		if reply := g.raw(request); !strings.HasPrefix(reply, "HTTP/1.1 204") {
			t.Errorf("%q: answered %q", request, reply)
			continue
		}
		head := <-heads
		bare := strings.Count(head, "\n") - strings.Count(head, "\r\n")
		if !strings.HasPrefix(head, "GET /x HTTP/1.1\r\nHost: app.test\r\n") || !strings.Contains(head, "\r\nX-A: 1\r\n") ||
			bare != 0 || strings.Contains(head, "evil") {
			t.Errorf("%q reached the process as %q", request, head)
		}
	}
}

// TestNamesOfTLS: the name of the TLS connection decides what may be asked for on it.
func TestNamesOfTLS(t *testing.T) {
	t.Parallel()
	g := newTLSRig(t)
	app, other := lead(backend(t, mirror)), lead(backend(t, mirror))
	app.Hosts = append(app.Hosts, "alias.test")
	other.Key.App, other.Hosts = "other", []string{"other.test"}
	g.apply(app, other)
	for _, c := range []struct {
		name, host string
		status     int
	}{
		{"app.test", "app.test", 200},
		{"app.test", "APP.test.:443", 200},
		{"app.test", "alias.test", 200},
		{"app.test", "other.test", 421},
		{"unknown.test", "app.test", 421},
		{"app.test", "unknown.test", 404},
		{"app.test", "app.test%00", 400},
		{"", "app.test", 200},
	} {
		conn, err := tls.Dial("tcp", g.router.HTTPSAddr(), &tls.Config{InsecureSkipVerify: true, ServerName: c.name})
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(deadline))
		fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", c.host)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil || resp.StatusCode != c.status {
			t.Errorf("%q on a connection for %q: %v %v, want %d", c.host, c.name, resp, err, c.status)
		}
		conn.Close()
	}
	// Some clients send an address, which crypto/tls does not.
	tab := g.router.table.Load()
	for name, same := range map[string]bool{"127.0.0.1": true, "10.0.0.1": true, "other.test": false, "no/name": false} {
		if got := g.router.sameRoute(tab, name, "app.test", tab.find("app.test")); got != same {
			t.Errorf("app.test on a connection for %q: %v", name, got)
		}
	}
}

// TestSlowHeads opens connections that never finish their first request, in every way there is.
// They are closed in time, cost little, and others are served meanwhile.
func TestSlowHeads(t *testing.T) { // alone, for it measures memory
	g := newTLSRig(t, strict)
	g.apply(lead(backend(t, mirror)))
	const each = 60
	var before, during runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var closing sync.WaitGroup
	begin := time.Now()
	for name, start := range map[string]string{
		"nothing": "", "a line": "GET / HTTP/1.1\r\n", "a head": "GET / HTTP/1.1\r\nHost: app.test\r\nX-A: 1\r\n",
		"a preface": "PRI * HTTP/2.0\r\n\r\n",
	} {
		for i := range 2 * each {
			addr := g.router.HTTPAddr()
			if i%2 == 1 {
				addr = g.router.HTTPSAddr() // where it is no handshake either
			}
			c, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			io.WriteString(c, start)
			c.SetDeadline(time.Now().Add(deadline))
			closing.Go(func() {
				for { // a byte now and then wins no time
					if _, err := io.WriteString(c, "x"); err != nil {
						return
					}
					c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
					if _, err := io.Copy(io.Discard, c); err == nil {
						return
					} else if ne, ok := err.(net.Error); !ok || !ne.Timeout() {
						return
					}
					if time.Since(begin) > deadline {
						t.Errorf("%s: the connection is still open", name)
						return
					}
				}
			})
		}
	}
	runtime.ReadMemStats(&during)
	if resp, _ := g.get("/"); resp.StatusCode != 200 {
		t.Errorf("another client: %s", resp.Status)
	}
	if n := int64(during.HeapAlloc+during.StackInuse) - int64(before.HeapAlloc+before.StackInuse); n > 8*each*(64<<10) {
		t.Errorf("%d connections cost %d KiB", 8*each, n>>10)
	}
	closing.Wait()
	eventually(t, "connections", func() (bool, string) { n := g.router.clients.Load(); return n == 0, fmt.Sprint(n) })
}

// TestManyClients opens more connections than the router takes: the others wait until the first
// ones run out of time.
func TestManyClients(t *testing.T) {
	t.Parallel()
	g := newRig(t, strict, func(c *Config) { c.bounds.clients = 20 })
	g.apply(lead(backend(t, mirror)))
	for range 60 {
		c, err := net.Dial("tcp", g.router.HTTPAddr())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	eventually(t, "a full router", func() (bool, string) { n := g.router.clients.Load(); return n >= 19, fmt.Sprint(n) })
	if n := g.router.clients.Load(); n > 20 {
		t.Errorf("%d connections are open, the bound is 20", n)
	}
	if resp, _ := g.get("/"); resp.StatusCode != 200 {
		t.Errorf("behind 60 others: %s", resp.Status)
	}
}

// TestSlowReaders ask for much and take nothing, over HTTP/1 and HTTP/2: the process is let go of.
func TestSlowReaders(t *testing.T) {
	t.Parallel()
	g := newTLSRig(t, strict)
	g.apply(lead(backend(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", r.URL.Path)
		for range 1024 {
			if _, err := w.Write(make([]byte, 64<<10)); err != nil {
				return
			}
		}
	})))
	plain, err := net.Dial("tcp", g.router.HTTPAddr())
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	io.WriteString(plain, "GET / HTTP/1.1\r\nHost: app.test\r\n\r\n")
	h2 := dialH2(t, g.router.HTTPAddr())
	h2.request("/large")
	released := func() (bool, string) {
		b, err := g.client.Metrics(t.Context())
		seen := metricLine(string(b), `slipway_router_in_flight{app="app",service="web"}`)
		return err == nil && seen == "0", fmt.Sprintf("%s in flight, %v", seen, err)
	}
	eventually(t, "both to arrive", func() (bool, string) {
		b, err := g.client.Metrics(t.Context())
		seen := metricLine(string(b), `slipway_router_in_flight{app="app",service="web"}`)
		done := metricLine(string(b), `slipway_router_request_seconds_count{app="app",service="web"}`)
		return seen == "2" || done != "0", fmt.Sprintf("%s in flight, %s done, %v", seen, done, err)
	})
	eventually(t, "slow readers to be cut", released)
	// One that reads, however seldom it is written to, keeps its stream.
	quiet := dialH2(t, g.router.HTTPAddr())
	g.apply(lead(backend(t, func(w http.ResponseWriter, _ *http.Request) {
		for range 3 {
			io.WriteString(w, "tick")
			w.(http.Flusher).Flush()
			time.Sleep(2 * g.cfg.bounds.stall) // longer than a stalled stream may live
		}
	})))
	quiet.request("/events")
	if got := quiet.body(); got != "tickticktick" {
		t.Errorf("a slow process over HTTP/2: %q", got)
	}
}

// h2Conn speaks HTTP/2 frame by frame, with prior knowledge.
type h2Conn struct {
	t      *testing.T
	framer *http2.Framer
	conn   net.Conn
}

func dialH2(t *testing.T, addr string) *h2Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(deadline))
	io.WriteString(c, http2.ClientPreface)
	h := &h2Conn{t, http2.NewFramer(c, c), c}
	if err := h.framer.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	return h
}

// request asks for a path in stream 1 and grants it no more than the initial window.
func (h *h2Conn) request(path string) {
	h.t.Helper()
	var block bytes.Buffer
	e := hpack.NewEncoder(&block)
	for _, f := range [][2]string{{":method", "GET"}, {":scheme", "http"}, {":authority", "app.test"}, {":path", path}} {
		e.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
	}
	if err := h.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true}); err != nil {
		h.t.Fatal(err)
	}
}

// body reads frames until the stream ends.
func (h *h2Conn) body() string {
	h.t.Helper()
	var b []byte
	for {
		f, err := h.framer.ReadFrame()
		if err != nil {
			h.t.Fatalf("after %q: %v", b, err)
		}
		switch f := f.(type) {
		case *http2.DataFrame:
			if b = append(b, f.Data()...); f.StreamEnded() {
				return string(b)
			}
		case *http2.RSTStreamFrame:
			return string(b) + " reset: " + f.ErrCode.String()
		}
	}
}

// metricLine returns the value of a series in Prometheus text.
func metricLine(text, series string) string {
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, series+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// TestEndlessResponses come from processes that never finish a part of their response. Each ends
// within the route's timeout or its bound.
func TestEndlessResponses(t *testing.T) {
	t.Parallel()
	const head = "HTTP/1.1 200 OK\r\n"
	for name, c := range map[string]struct{ start, more string }{
		"head":      {head, "X-A: 1\r\n"},
		"line":      {head + "X-A: ", "xxxxxxxxxxxxxxxx"},
		"interim":   {"", "HTTP/1.1 100 Continue\r\n\r\n"},
		"extension": {head + "Transfer-Encoding: chunked\r\n\r\n3;", "xxxxxxxxxxxxxxxx"},
		"trailer":   {head + "Transfer-Encoding: chunked\r\n\r\n0\r\n", "X-A: 1\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var sent atomic.Int64
			ended := make(chan struct{})
			addr := rawBackend(t, func(conn net.Conn, br *bufio.Reader) {
				defer close(ended)
				if _, err := http.ReadRequest(br); err != nil {
					return
				}
				for b := []byte(c.start); ; b = bytes.Repeat([]byte(c.more), 64) {
					n, err := conn.Write(b)
					if sent.Add(int64(n)); err != nil {
						return
					}
				}
			})
			g := newRig(t)
			rt := lead(addr)
			rt.Timeout = 500 * time.Millisecond
			g.apply(rt)
			reply := g.raw("POST / HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
			if strings.HasSuffix(reply, "0\r\n\r\n") {
				t.Errorf("the response was called complete: %.200q", reply)
			}
			select {
			case <-ended:
			case <-time.After(deadline):
				t.Errorf("the process still writes, after %d bytes", sent.Load())
			}
		})
	}
}

// TestPriorKnowledge: HTTP/2 without TLS is for those who know; an upgrade to it is not offered.
func TestPriorKnowledge(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	g.apply(lead(backend(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Proto+r.Header.Get("Upgrade")) })))
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	client := &http.Client{Transport: &http.Transport{Protocols: p}, Timeout: deadline}
	defer client.CloseIdleConnections()
	req, _ := http.NewRequest("GET", "http://"+g.router.HTTPAddr()+"/", nil)
	req.Host = "app.test"
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); resp.ProtoMajor != 2 || string(b) != "HTTP/1.1" {
		t.Errorf("%s: the process saw %q, %v", resp.Proto, b, err)
	}
	reply := g.raw("GET / HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n")
	if !strings.HasPrefix(reply, "HTTP/1.1 200") || !strings.HasSuffix(reply, "HTTP/1.1") {
		t.Errorf("an upgrade to h2c: %q", reply)
	}
}

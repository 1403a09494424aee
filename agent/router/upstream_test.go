package router

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestStaleKeepAlive answers once per connection and closes it without a word, as a process does
// whose keep-alive limit is shorter than the router's. Neither a GET nor a POST may fail.
func TestStaleKeepAlive(t *testing.T) {
	t.Parallel()
	addr := answers(t, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
	g := newRig(t)
	g.apply(lead(addr))
	for i := range 300 {
		method, body := "GET", io.Reader(nil)
		if i%2 == 1 {
			method, body = "POST", strings.NewReader("payload")
		}
		if resp, body := g.do(method, "/", body); resp.StatusCode != 200 || body != "ok" {
			t.Fatalf("request %d: %s %s %q", i, method, resp.Status, body)
		}
	}
}

// TestNotSentTwice has a process that takes a POST in and dies: it may have been carried out.
func TestNotSentTwice(t *testing.T) {
	t.Parallel()
	var posts atomic.Int64
	addr := rawBackend(t, func(c net.Conn, br *bufio.Reader) {
		for {
			r, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			io.Copy(io.Discard, r.Body)
			if r.Method == "POST" {
				posts.Add(1)
				return
			}
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	})
	g := newRig(t)
	g.apply(lead(addr))
	g.get("/") // leaves an idle connection
	if resp, _ := g.do("POST", "/", strings.NewReader("x")); resp.StatusCode != 502 || posts.Load() != 1 {
		t.Errorf("POST: %s, carried out %d times, want 502 and once", resp.Status, posts.Load())
	}
}

// TestRefused leads to one process that listens and one that does not.
func TestRefused(t *testing.T) {
	t.Parallel()
	dead := refusing(t)
	addr := backend(t, func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) })
	g := newRig(t)
	g.apply(lead(dead, addr))
	for range 50 {
		if resp, body := g.do("POST", "/", strings.NewReader("echo")); resp.StatusCode != 200 || body != "echo" {
			t.Fatalf("%s %q", resp.Status, body)
		}
	}
	large := strings.Repeat("x", 1<<20)
	if resp, body := g.do("POST", "/", strings.NewReader(large)); resp.StatusCode != 200 || body != large {
		t.Fatalf("large body: %s, %d bytes", resp.Status, len(body))
	}
	g.apply(lead(dead))
	if resp, body := g.get("/"); resp.StatusCode != 502 {
		t.Errorf("only a dead target: %s %q, want 502", resp.Status, body)
	}
	st, err := g.client.Status(t.Context())
	if err != nil || st.Errors != 1 || st.Retries == 0 {
		t.Errorf("status %+v, %v: want one error and some retries", st, err)
	}
}

func TestTimeout(t *testing.T) {
	t.Parallel()
	block := make(chan struct{})
	addr := backend(t, func(http.ResponseWriter, *http.Request) { <-block })
	defer close(block)
	g := newRig(t)
	rt := lead(addr)
	rt.Timeout = 50 * time.Millisecond
	g.apply(rt)
	if resp, body := g.get("/"); resp.StatusCode != 504 {
		t.Errorf("%s %q, want 504", resp.Status, body)
	}
}

// TestClientGone cancels a request: the process must see its connection close.
func TestClientGone(t *testing.T) {
	t.Parallel()
	arrived, gone := make(chan struct{}), make(chan struct{})
	addr := backend(t, func(_ http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-r.Context().Done()
		close(gone)
	})
	g := newRig(t)
	g.apply(lead(addr))
	c, err := net.Dial("tcp", g.router.HTTPAddr())
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: app.test\r\n\r\n")
	<-arrived
	c.Close()
	select {
	case <-gone:
	case <-time.After(deadline):
		t.Fatal("the process was not told")
	}
}

// TestEvents takes each event in before the next one is sent.
func TestEvents(t *testing.T) {
	t.Parallel()
	next := make(chan struct{})
	addr := backend(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		w.(http.Flusher).Flush()
		for i := range 3 {
			<-next
			fmt.Fprintf(w, "data: %d\n\n", i)
			w.(http.Flusher).Flush()
		}
	})
	g := newRig(t)
	g.apply(lead(addr))
	req, _ := http.NewRequest("GET", "http://"+g.router.HTTPAddr(), nil)
	req.Host = "app.test"
	resp, err := noRedirect.Do(req) // the head came although there is no body yet
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for i := range 3 {
		next <- struct{}{}
		lines.Scan()
		if want := fmt.Sprintf("data: %d", i); lines.Text() != want {
			t.Fatalf("event %q, want %q", lines.Text(), want)
		}
		lines.Scan()
	}
}

// TestSlowLength streams a body of known length whose pieces are far apart.
func TestSlowLength(t *testing.T) {
	t.Parallel()
	next := make(chan struct{})
	addr := backend(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "3")
		for range 3 {
			io.WriteString(w, "x")
			w.(http.Flusher).Flush()
			<-next
		}
	})
	g := newRig(t)
	g.apply(lead(addr))
	req, _ := http.NewRequest("GET", "http://"+g.router.HTTPAddr(), nil)
	req.Host = "app.test"
	resp, err := noRedirect.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	for i := range 3 {
		if _, err := io.ReadFull(resp.Body, make([]byte, 1)); err != nil {
			t.Fatalf("byte %d: %v", i, err)
		}
		next <- struct{}{}
	}
}

// TestEarlyAnswer refuses an upload after its head; the client gets the answer all the same.
func TestEarlyAnswer(t *testing.T) {
	t.Parallel()
	addr := rawBackend(t, func(c net.Conn, br *bufio.Reader) {
		if _, err := http.ReadRequest(br); err != nil {
			return
		}
		io.WriteString(c, "HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nno\n")
		io.Copy(io.Discard, br)
	})
	g := newRig(t)
	g.apply(lead(addr))
	c, err := net.Dial("tcp", g.router.HTTPAddr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 10000000\r\n\r\nstart")
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	if b, _ := io.ReadAll(resp.Body); resp.StatusCode != 413 || string(b) != "no\n" || !resp.Close {
		t.Errorf("%s %q close=%v", resp.Status, b, resp.Close)
	}
}

// TestSlowBody: a client that stops in the middle of its body is cut, whether the body is small
// or not, and what it sends later is not taken for a request.
func TestSlowBody(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	rt := lead(backend(t, func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/" {
			t.Errorf("the process got %s", r.URL.Path)
		}
		io.Copy(io.Discard, r.Body)
	}))
	rt.Timeout = 100 * time.Millisecond
	g.apply(rt)
	for name, length := range map[string]string{
		"small":   "Content-Length: 100",
		"large":   "Content-Length: 100000000",
		"chunked": "Transfer-Encoding: chunked",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			reply := g.raw("POST / HTTP/1.1\r\nHost: app.test\r\n" + length + "\r\n\r\n5\r\nstart")
			if line := statusLine(reply); line != "HTTP/1.1 408 Request Timeout" {
				t.Errorf("answered %q", reply)
			}
		})
	}
}

// TestDiesInUpload has a process die while it reads a large body.
func TestDiesInUpload(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	g.apply(lead(rawBackend(t, func(_ net.Conn, br *bufio.Reader) { br.Discard(100_000) })))
	c, err := net.Dial("tcp", g.router.HTTPAddr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	go func() {
		fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 1000000000\r\n\r\n")
		io.CopyN(c, zeros{}, 1_000_000_000)
	}()
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Skipf("the connection ended before the answer was read: %v", err)
	}
	if resp.StatusCode != 502 || !resp.Close {
		t.Errorf("%s close=%v", resp.Status, resp.Close)
	}
}

// zeros is an endless body.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// TestLargeBodies passes 256 MiB up and down; the router may not keep them.
func TestLargeBodies(t *testing.T) {
	const size = 256 << 20
	want := sha256.New()
	io.CopyN(want, zeros{}, size)
	addr := backend(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "GET" {
			w.Header().Set("Content-Length", fmt.Sprint(size))
			io.CopyN(w, zeros{}, size)
			return
		}
		sum := sha256.New()
		n, err := io.Copy(sum, r.Body)
		fmt.Fprintf(w, "%d %x %v", n, sum.Sum(nil), err)
	})
	g := newRig(t)
	g.apply(lead(addr))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for _, length := range []int64{size, -1} {
		_, body := g.do("POST", "/", io.LimitReader(zeros{}, size), func(r *http.Request) { r.ContentLength = length })
		if want := fmt.Sprintf("%d %x <nil>", size, want.Sum(nil)); body != want {
			t.Errorf("length %d: process got %q, want %q", length, body, want)
		}
	}
	req, _ := http.NewRequest("GET", "http://"+g.router.HTTPAddr(), nil)
	req.Host = "app.test"
	resp, err := noRedirect.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if n, err := io.Copy(io.Discard, resp.Body); n != size || err != nil {
		t.Errorf("download: %d bytes, %v", n, err)
	}
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 64<<20 {
		t.Errorf("allocated %d MiB to pass 768 MiB on", grown>>20)
	}
}

func TestInterimAndTrailers(t *testing.T) {
	t.Parallel()
	addr := backend(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Del("Link")
		b, _ := io.ReadAll(r.Body)
		w.Header().Set("Trailer", "X-Sum")
		fmt.Fprintf(w, "%s %s", b, r.Trailer.Get("X-End"))
		w.Header().Set("X-Sum", "42")
	})
	g := newRig(t)
	g.apply(lead(addr))
	var hints []string
	trace := &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
		hints = append(hints, fmt.Sprint(code, h))
		return nil
	}}
	resp, body := g.do("POST", "/", io.MultiReader(strings.NewReader("body")), func(r *http.Request) {
		*r = *r.WithContext(httptrace.WithClientTrace(r.Context(), trace))
		r.Header.Set("Expect", "100-continue")
		r.Trailer = http.Header{"X-End": {"fin"}}
	})
	if body != "body fin" || resp.Trailer.Get("X-Sum") != "42" || resp.Header.Get("Link") != "" {
		t.Errorf("body %q, trailer %v, header %v", body, resp.Trailer, resp.Header)
	}
	if len(hints) == 0 || !strings.Contains(strings.Join(hints, " "), "style.css") {
		t.Errorf("interim responses %q, want the early hints", hints)
	}
}

func TestBodyless(t *testing.T) {
	t.Parallel()
	addr := backend(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/204":
			w.WriteHeader(204)
		case "/304":
			w.Header().Set("Etag", `"x"`)
			w.WriteHeader(304)
		default:
			w.Header().Set("Content-Length", "1234")
			if r.Method != "HEAD" {
				w.Write(bytes.Repeat([]byte("x"), 1234))
			}
		}
	})
	g := newRig(t)
	g.apply(lead(addr))
	for range 3 { // the same connection upstream
		if resp, body := g.do("HEAD", "/", nil); resp.ContentLength != 1234 || body != "" {
			t.Errorf("HEAD: length %d, body %q", resp.ContentLength, body)
		}
		if resp, body := g.get("/204"); resp.StatusCode != 204 || body != "" || resp.Header.Get("Content-Length") != "" {
			t.Errorf("204: %s %q %v", resp.Status, body, resp.Header)
		}
		if resp, body := g.get("/304"); resp.StatusCode != 304 || body != "" || resp.Header.Get("Etag") == "" {
			t.Errorf("304: %s %q %v", resp.Status, body, resp.Header)
		}
		if _, body := g.get("/"); len(body) != 1234 {
			t.Errorf("GET: %d bytes", len(body))
		}
	}
}

// TestMalformedResponses has processes that answer in ways that two readers could read
// differently. Each is a 502, and what follows on the connection is no one's response.
func TestMalformedResponses(t *testing.T) {
	t.Parallel()
	const ok = "HTTP/1.1 200 OK\r\n"
	for name, reply := range map[string]string{
		"length and chunked":  ok + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"two lengths":         ok + "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
		"list of lengths":     ok + "Content-Length: 3, 3\r\n\r\nabc",
		"signed length":       ok + "Content-Length: +3\r\n\r\nabc",
		"huge length":         ok + "Content-Length: 99999999999999999999\r\n\r\nabc",
		"two codings":         ok + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"gzip, chunked":       ok + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
		"unknown coding":      ok + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
		"chunked in 1.0":      "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"space before colon":  ok + "Content-Length : 3\r\n\r\nabc",
		"folded line":         ok + "X-A: b\r\n c\r\nContent-Length: 3\r\n\r\nabc",
		"bare CR in value":    ok + "X-A: b\rSet-Cookie: evil\r\nContent-Length: 3\r\n\r\nabc",
		"NUL in value":        ok + "X-A: b\x00\r\nContent-Length: 3\r\n\r\nabc",
		"no colon":            ok + "nonsense\r\n\r\n",
		"empty name":          ok + ": x\r\n\r\n",
		"not HTTP":            "SSH-2.0-OpenSSH\r\n\r\n",
		"HTTP/2":              "HTTP/2.0 200 OK\r\n\r\n",
		"status of two":       "HTTP/1.1 20 OK\r\n\r\n",
		"status 999":          "HTTP/1.1 999 OK\r\n\r\n",
		"unasked upgrade":     "HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
		"endless head":        ok + strings.Repeat("X-Filler: "+strings.Repeat("x", 1000)+"\r\n", 80) + "\r\n",
		"closed in the head":  ok + "Content-Le",
		"closed at once":      "",
		"chunked and length2": ok + "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			addr := rawBackend(t, func(c net.Conn, br *bufio.Reader) {
				if _, err := http.ReadRequest(br); err == nil {
					io.WriteString(c, reply)
				}
			})
			g := newRig(t)
			g.apply(lead(addr))
			if resp, body := g.do("POST", "/", nil); resp.StatusCode != 502 {
				t.Errorf("%s %v %q, want 502", resp.Status, resp.Header, body)
			}
		})
	}
}

// TestCutBody has a process die within its response: the client must see that it is cut.
func TestCutBody(t *testing.T) {
	t.Parallel()
	const ok = "HTTP/1.1 200 OK\r\n"
	for name, reply := range map[string]string{
		"length":              ok + "Content-Length: 10\r\n\r\nabc",
		"chunked":             ok + "Transfer-Encoding: chunked\r\n\r\n5\r\nabc",
		"bad chunk size":      ok + "Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n",
		"bad chunk end":       ok + "Transfer-Encoding: chunked\r\n\r\n3\r\nabcX\r\n0\r\n\r\n",
		"bare LF in chunks":   ok + "Transfer-Encoding: chunked\r\n\r\n3\nabc\n0\n\n",
		"framing in trailer":  ok + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nContent-Length: 5\r\n\r\n",
		"without last chunk":  ok + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
		"endless chunk extra": ok + "Transfer-Encoding: chunked\r\n\r\n3;" + strings.Repeat("x", 1<<20) + "\r\nabc\r\n0\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newRig(t)
			g.apply(lead(answers(t, reply)))
			got := g.raw("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n")
			resp, err := http.ReadResponse(bufio.NewReader(strings.NewReader(got)), nil)
			if err != nil {
				return // cut within the head
			}
			if b, err := io.ReadAll(resp.Body); err == nil {
				t.Errorf("the client took %q for a whole body; router said %q", b, got)
			}
		})
	}
}

// TestExtraBytes has a process send more than its response: the rest is not the next one's.
func TestExtraBytes(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	evil := "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
	g.apply(lead(answers(t, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood"+evil, evil)))
	for range 5 {
		if _, body := g.get("/"); body != "good" {
			t.Fatalf("got %q", body)
		}
	}
}

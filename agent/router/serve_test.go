package router

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"slipway/api"
)

// seen is what a process saw of a request.
type seen struct {
	Method, Host, URI string
	Header            http.Header
	Body              string
}

func mirror(w http.ResponseWriter, r *http.Request) {
	b, _ := io.ReadAll(r.Body)
	json.NewEncoder(w).Encode(seen{r.Method, r.Host, r.RequestURI, r.Header, string(b)})
}

func TestForgedHeaders(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	g.apply(lead(backend(t, mirror)))
	reply := g.raw("GET /a%2Fb?q=1 HTTP/1.1\r\nHost: App.Test.:8080\r\nConnection: close, X-Secret, X-Forwarded-For\r\n" +
		"X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\nX-Forwarded-Port: 1\r\n" +
		"X-Forwarded-Server: evil\r\nX-Forwarded-Prefix: /evil\r\nForwarded: for=6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\n" +
		"X_Forwarded_For: 6.6.6.6\r\nX_Real-IP: 6.6.6.6\r\nX-Secret: hop\r\nKeep-Alive: x\r\nTE: trailers\r\nUpgrade: h2c\r\n" +
		"HTTP2-Settings: AAA\r\nProxy-Authorization: x\r\nX-Kept: yes\r\n\r\n")
	var s seen
	resp, err := http.ReadResponse(bufio.NewReader(strings.NewReader(reply)), nil)
	if err != nil {
		t.Fatalf("%v in %q", err, reply)
	}
	if err := json.NewDecoder(resp.Body).Decode(&s); err != nil {
		t.Fatalf("%v in %q", err, reply)
	}
	want := map[string]string{
		"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": "http", "X-Forwarded-Host": "App.Test.:8080",
		"X-Forwarded-Port": "8080", "X-Kept": "yes",
	}
	for name, values := range s.Header {
		if len(values) != 1 || want[name] != values[0] {
			t.Errorf("the process saw %s: %q", name, values)
		}
		delete(want, name)
	}
	if len(want) > 0 {
		t.Errorf("the process did not see %v", want)
	}
	if s.URI != "/a%2Fb?q=1" || s.Host != "App.Test.:8080" {
		t.Errorf("the process saw %s on %s", s.URI, s.Host)
	}
}

// TestForgedHeadersOfGRPC: calls lose them as well, over HTTP/2 and over HTTP/1.1.
func TestForgedHeadersOfGRPC(t *testing.T) {
	t.Parallel()
	h2 := new(http.Protocols)
	h2.SetUnencryptedHTTP2(true)
	s := httptest.NewUnstartedServer(http.HandlerFunc(mirror))
	s.Config.Protocols = h2
	s.Start()
	t.Cleanup(s.Close)
	g := newRig(t)
	rt := lead(s.Listener.Addr().String())
	rt.Scheme = api.SchemeGRPC
	g.apply(rt)
	for _, transport := range []*http.Transport{{Protocols: h2}, {}} {
		req, err := http.NewRequest("POST", "http://"+g.router.HTTPAddr()+"/p.Service/Method", strings.NewReader("x"))
		if err != nil {
			t.Fatal(err)
		}
		req.Host = "app.test"
		for _, name := range []string{"X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Prefix", "Forwarded", "X-Real-Ip", "X_forwarded_for", "Proxy-Authorization"} {
			req.Header[name] = []string{"forged"}
		}
		req.Header.Set("Te", "trailers")
		req.Header.Set("X-Kept", "yes")
		client := &http.Client{Transport: transport, Timeout: deadline}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		client.CloseIdleConnections()
		if err != nil || resp.StatusCode != 200 || strings.Contains(string(b), "forged") || !strings.Contains(string(b), `"X-Kept":["yes"]`) ||
			!strings.Contains(string(b), `"X-Forwarded-For":["127.0.0.1"]`) || !strings.Contains(string(b), `"Te":["trailers"]`) {
			t.Errorf("%s: %s %s %v", resp.Proto, resp.Status, b, err)
		}
	}
}

// TestSmuggling sends requests whose end could be read in two ways, and ones that are malformed
// in other ways. None may reach the process, let alone what follows them.
func TestSmuggling(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	g.apply(lead(backend(t, func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("the process got %s %s", r.Method, r.RequestURI)
	})))
	const post = "POST / HTTP/1.1\r\nHost: app.test\r\n"
	const next = "GET /smuggled HTTP/1.1\r\nHost: app.test\r\n\r\n"
	for name, request := range map[string]string{
		"TE.TE":               post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n" + next,
		"TE xchunked":         post + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + next,
		"TE with tab":         post + "Transfer-Encoding:\tchunked, identity\r\n\r\n0\r\n\r\n" + next,
		"two lengths":         post + "Content-Length: 0\r\nContent-Length: 44\r\n\r\n" + next,
		"signed length":       post + "Content-Length: +44\r\n\r\n" + next,
		"negative length":     post + "Content-Length: -1\r\n\r\n" + next,
		"space before colon":  post + "Content-Length : 44\r\n\r\n" + next,
		"space in name":       post + "X Y: 1\r\n\r\n" + next,
		"folded line":         "GET / HTTP/1.1\r\n Host: app.test\r\n\r\n" + next,
		"NUL in value":        post + "X-A: \x00\r\n\r\n" + next,
		"two hosts":           "GET / HTTP/1.1\r\nHost: app.test\r\nHost: evil.test\r\n\r\n",
		"no host":             "GET / HTTP/1.1\r\n\r\n",
		"userinfo":            "GET / HTTP/1.1\r\nHost: evil@app.test\r\n\r\n",
		"percent":             "GET / HTTP/1.1\r\nHost: app.test%00\r\n\r\n",
		"IPv6 zone":           "GET / HTTP/1.1\r\nHost: [fe80::1%eth0]\r\n\r\n",
		"port of letters":     "GET / HTTP/1.1\r\nHost: app.test:x\r\n\r\n",
		"two dots":            "GET / HTTP/1.1\r\nHost: app.test..\r\n\r\n",
		"space in host":       "GET / HTTP/1.1\r\nHost: app.test x\r\n\r\n",
		"connect":             "CONNECT app.test:443 HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n",
		"version":             "GET / HTTP/3.0\r\nHost: app.test\r\n\r\n",
		"absolute elsewhere":  "GET http://evil.test/ HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n",
		"huge head":           "GET / HTTP/1.1\r\nHost: app.test\r\nX: " + strings.Repeat("x", 1<<20) + "\r\n\r\n",
		"CR in request line":  "GET /\rx HTTP/1.1\r\nHost: app.test\r\n\r\n",
		"half a preface":      "PRI * HTTP/2.0\r\n\r\nSMuggled" + next,
		"folded length":       post + "Content-Length: 4\r\n 4\r\n\r\nabcd" + next,
		"folded coding":       post + "Transfer-Encoding: identity,\r\n chunked\r\n\r\n0\r\n\r\n" + next,
		"CR in a value":       post + "X-A: 1\rX-B: 2\r\n\r\n" + next,
		"no colon":            post + "Content-Length\r\n\r\n" + next,
		"TE with a list":      post + "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n" + next,
		"TE in quotes":        post + "Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n" + next,
		"hex length":          post + "Content-Length: 0x2c\r\n\r\n" + next,
		"huge length":         post + "Content-Length: 99999999999999999999\r\n\r\n" + next,
		"body in bad lengths": post + "Content-Length: 4, 4\r\n\r\nabcd",
	} {
		t.Run(name, func(t *testing.T) {
			reply := g.raw(request)
			if line := statusLine(reply); !strings.HasPrefix(line, "HTTP/1.1 4") && !strings.HasPrefix(line, "HTTP/1.1 50") && reply != "" {
				t.Errorf("answered %q", line)
			}
		})
	}
}

// TestChunkedBesideLength: net/http takes such a request as chunked (RFC 9112 §6.3) and closes
// the connection; what the process gets has one framing only.
func TestChunkedBesideLength(t *testing.T) {
	t.Parallel()
	paths := make(chan string, 4)
	g := newRig(t)
	g.apply(lead(backend(t, func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		paths <- fmt.Sprintf("%s %q %v", r.RequestURI, b, r.TransferEncoding)
	})))
	g.raw("POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n" +
		"3\r\nabc\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n")
	if got := <-paths; got != `/ "abc" [chunked]` {
		t.Errorf("the process got %s", got)
	}
}

func TestHosts(t *testing.T) {
	t.Parallel()
	answer := func(s string) api.Route {
		rt := lead(backend(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, s) }))
		rt.Key.Service = api.ServiceName(s)
		return rt
	}
	exact, wild, second := answer("exact"), answer("wild"), answer("second")
	exact.Hosts = []string{"a.example.com"}
	wild.Hosts = []string{"*.example.com", "other.test"}
	second.Hosts = []string{"other.test", "bad host"}
	g := newRig(t)
	g.apply(exact, wild, second)
	for host, want := range map[string]string{
		"a.example.com":       "exact",
		"A.Example.COM":       "exact",
		"a.example.com.":      "exact",
		"a.example.com:80":    "exact",
		"b.example.com":       "wild",
		"other.test":          "wild",
		"example.com":         "404",
		"a.b.example.com":     "404",
		".example.com":        "400",
		"127.0.0.1":           "404",
		"[::1]:80":            "404",
		"a.example.com:99999": "exact",
	} {
		resp, body := g.do("GET", "/", nil, func(r *http.Request) { r.Host = host })
		if resp.StatusCode != 200 {
			body = fmt.Sprint(resp.StatusCode)
		}
		if body != want {
			t.Errorf("%s: %s, want %s", host, body, want)
		}
	}
}

func TestWhitelist(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	rt := lead(backend(t, mirror))
	for want, list := range map[int][]string{
		200: {"10.0.0.0/8", "127.0.0.0/8"},
		403: {"10.0.0.0/8", "not a network"},
	} {
		rt.Whitelist = list
		g.apply(rt)
		if resp, _ := g.get("/"); resp.StatusCode != want {
			t.Errorf("whitelist %v: %s, want %d", list, resp.Status, want)
		}
	}
}

func TestSticky(t *testing.T) {
	t.Parallel()
	var addrs []string
	for i := range 4 {
		addrs = append(addrs, backend(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, i) }))
	}
	g := newRig(t, func(c *Config) { c.StickyKey = []byte("key") })
	rt := lead(addrs...)
	rt.Sticky = true
	g.apply(rt)
	resp, first := g.get("/")
	cookies := resp.Cookies()
	if len(cookies) != 1 || cookies[0].Name != SessionCookie || strings.Contains(cookies[0].Value, string(rt.Targets[0].Process)) {
		t.Fatalf("cookies %v", cookies)
	}
	with := func(r *http.Request) { r.Header.Set("Cookie", "a=b; "+cookies[0].Name+"="+cookies[0].Value) }
	for range 20 {
		if resp, body := g.do("GET", "/", nil, with); body != first || len(resp.Cookies()) != 0 {
			t.Fatalf("got %s with %v, want %s again and no new cookie", body, resp.Cookies(), first)
		}
	}
	gone := int(first[0] - '0')
	rt.Targets = append(append([]api.Target(nil), rt.Targets[:gone]...), rt.Targets[gone+1:]...)
	g.apply(rt)
	if resp, body := g.do("GET", "/", nil, with); body == first || len(resp.Cookies()) != 1 {
		t.Errorf("after its process went: %s with %v, want another and its cookie", body, resp.Cookies())
	}
}

// TestSpread: eight targets share requests that do not overlap.
func TestSpread(t *testing.T) {
	t.Parallel()
	for _, n := range []int{8, 40} {
		counts := make([]int, n)
		rt := &route{}
		for i := range n {
			rt.targets = append(rt.targets, newTarget(targetID{addr: fmt.Sprint(i)}, nil))
		}
		rt.targets[1].setSuspect()
		rt.targets[2].acquire()
		for range 200 * n {
			tg := rt.pick(nil)
			for i := range rt.targets {
				if rt.targets[i] == tg {
					counts[i]++
				}
			}
		}
		if counts[1] > 0 {
			t.Errorf("%d targets: a suspected one was chosen %d times", n, counts[1])
		}
		for i, c := range counts {
			if i > 2 && (c < 100 || c > 400) {
				t.Errorf("%d targets: spread %v", n, counts)
				break
			}
		}
	}
}

package router

import (
	"bufio"
	"bytes"
	"net"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
)

// FuzzResponse holds our parser against net/http's: whatever ours accepts, the other accepts
// too, and reads the same. Ours may refuse more.
func FuzzResponse(f *testing.F) {
	for _, s := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: y\r\n\r\nok",
		"HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
		"HTTP/1.0 404 Not Found\nConnection: keep-alive\nContent-Length: 0\n\n",
		"HTTP/1.1 304 Not Modified\r\nEtag: \"x\"\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\n\r\n",
		"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
		"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nSet-Cookie: c=d\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c := &conn{Conn: nil, br: bufio.NewReaderSize(iotest.OneByteReader(bytes.NewReader(b)), connBuffer)}
		got, err := readHead(c)
		if err != nil {
			return
		}
		want, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(b)), nil)
		if err != nil {
			t.Fatalf("we took what net/http refuses (%v): %q", err, b)
		}
		if got.status != want.StatusCode {
			t.Errorf("status %d, net/http says %d: %q", got.status, want.StatusCode, b)
		}
		if chunked := len(want.TransferEncoding) > 0; got.chunked != chunked {
			t.Errorf("chunked %v, net/http says %v: %q", got.chunked, chunked, b)
		}
		if bodyless := got.status < 200 || got.status == 204 || got.status == 304; !bodyless && got.length != want.ContentLength {
			t.Errorf("length %d, net/http says %d: %q", got.length, want.ContentLength, b)
		}
		for name, values := range got.header {
			if name != "Content-Length" && !reflect.DeepEqual(values, want.Header[name]) {
				t.Errorf("%s: %q, net/http says %q: %q", name, values, want.Header[name], b)
			}
			for _, v := range values {
				if strings.ContainsAny(v, "\r\n\x00") {
					t.Errorf("%s splits: %q", name, v)
				}
			}
		}
	})
}

// FuzzHost: a normalised host is one already, and has no byte that means something elsewhere.
func FuzzHost(f *testing.F) {
	for _, s := range []string{"a.test", "A.test.:80", "[::1]:80", "[fe80::1%25e]", "a@b", "a..", ":80", "a:b:c", "%00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		host, ok := normalHost(s)
		if !ok {
			return
		}
		if again, ok := normalHost(host); !ok || again != host {
			t.Errorf("%q becomes %q becomes %q %v", s, host, again, ok)
		}
		if strings.ContainsAny(host, "@/\\%? \r\n\t\x00") {
			t.Errorf("%q becomes %q", s, host)
		}
	})
}

// TestGrowingHead reads a head that is larger than the usual buffer, followed by its body.
func TestGrowingHead(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n")
	for range 30 {
		b.WriteString("X-Filler: " + strings.Repeat("x", 1000) + "\r\n")
	}
	b.WriteString("\r\nok")
	client, server := net.Pipe()
	defer client.Close()
	go func() {
		defer server.Close()
		server.Write([]byte(b.String()))
	}()
	c := newConn(client)
	h, err := readHead(c)
	if err != nil || len(h.header["X-Filler"]) != 30 || h.length != 2 {
		t.Fatalf("%+v %v", h, err)
	}
	body := make([]byte, 2)
	if _, err := c.br.Read(body[:1]); err != nil {
		t.Fatal(err)
	}
	if _, err := c.br.Read(body[1:]); err != nil || string(body) != "ok" {
		t.Fatalf("%q %v", body, err)
	}
}

package router

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// strictBackend takes requests in exactly the form that the router promises, answers each, and
// reports anything else.
func strictBackend(f *testing.F, report func(string)) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for br := bufio.NewReader(c); ; {
					problem, err := strictRequest(br)
					if problem != "" {
						report(problem)
					}
					if problem != "" || err != nil {
						return
					}
					io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
				}
			}()
		}
	}()
	return l.Addr().String()
}

var (
	strictLine  = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+ [^\\x00-\\x20\\x7f]+ HTTP/1\\.1\r\n$")
	strictField = regexp.MustCompile("^([!#$%&'*+.^_`|~0-9A-Za-z-]+): ([^\\x00-\\x08\\x0a-\\x1f\\x7f]*)\r\n$")
	strictChunk = regexp.MustCompile("^[0-9a-f]{1,8}\r\n$")
)

// strictRequest reads one request. A problem is what the router must never write; an error is an
// end, which may come anywhere.
func strictRequest(br *bufio.Reader) (problem string, err error) {
	line, err := br.ReadString('\n')
	if err != nil {
		return "", err
	}
	if !strictLine.MatchString(line) {
		return fmt.Sprintf("request line %q", line), nil
	}
	counts, values := map[string]int{}, map[string]string{}
	for {
		if line, err = br.ReadString('\n'); err != nil || line == "\r\n" {
			break
		}
		m := strictField.FindStringSubmatch(line)
		if m == nil {
			return fmt.Sprintf("header line %q", line), nil
		}
		name := strings.ToLower(m[1])
		counts[name]++
		values[name] = m[2]
		switch {
		case strings.HasPrefix(strings.ReplaceAll(name, "_", "-"), "x-forwarded-") && !strings.Contains("for proto host port", name[len("x-forwarded-"):]):
			return fmt.Sprintf("forged %q", line), nil
		case name == "forwarded", name == "te", name == "keep-alive", name == "x-real-ip", name == "expect":
			return fmt.Sprintf("hop-by-hop or forged %q", line), nil
		case name == "connection" && m[2] != "Upgrade":
			return fmt.Sprintf("%q", line), nil
		}
	}
	if err != nil {
		return "", err
	}
	if counts["host"] != 1 || counts["x-forwarded-for"] != 1 || values["x-forwarded-for"] != "127.0.0.1" || counts["x-forwarded-proto"] != 1 {
		return fmt.Sprintf("headers %v", values), nil
	}
	switch length, coding := counts["content-length"], counts["transfer-encoding"]; {
	case length+coding > 1, coding == 1 && values["transfer-encoding"] != "chunked":
		return fmt.Sprintf("framing %v", values), nil
	case length == 1:
		n, nerr := strconv.ParseUint(values["content-length"], 10, 62)
		if nerr != nil {
			return fmt.Sprintf("length %q", values["content-length"]), nil
		}
		_, err = io.CopyN(io.Discard, br, int64(n))
	case coding == 1:
		return strictChunks(br)
	}
	return "", err
}

func strictChunks(br *bufio.Reader) (problem string, err error) {
	for {
		line, err := br.ReadString('\n')
		if err != nil {
			return "", err
		}
		if !strictChunk.MatchString(line) {
			return fmt.Sprintf("chunk size %q", line), nil
		}
		n, _ := strconv.ParseInt(strings.TrimSpace(line), 16, 64) // the form was checked
		if n == 0 {
			break
		}
		if _, err := io.CopyN(io.Discard, br, n); err != nil {
			return "", err
		}
		if line, err = br.ReadString('\n'); err != nil {
			return "", err
		}
		if line != "\r\n" {
			return fmt.Sprintf("end of a chunk %q", line), nil
		}
	}
	for {
		line, err := br.ReadString('\n')
		if err != nil || line == "\r\n" {
			return "", err
		}
		if !strictField.MatchString(line) {
			return fmt.Sprintf("trailer %q", line), nil
		}
	}
}

// FuzzRequest sends bytes to a router. Whatever they are, the process gets requests in one form
// only, and the router answers or closes.
func FuzzRequest(f *testing.F) {
	const host = "Host: app.test\r\n"
	for _, seed := range []string{
		"GET / HTTP/1.1\r\n" + host + "\r\n",
		"POST /a?b HTTP/1.1\r\n" + host + "Content-Length: 3\r\n\r\nabcGET /x HTTP/1.1\r\n" + host + "\r\n",
		"POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n",
		"POST / HTTP/1.1\r\n" + host + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
		"GET / HTTP/1.1\n" + host + "X-Forwarded-For: 6.6.6.6\r\nX_Forwarded_For: 6\r\nConnection: x-forwarded-for, close\r\n\r\n",
		"GET http://app.test/ HTTP/1.1\r\nHost: evil\r\nX-A: 1\r\n folded\r\n\r\n",
		"GET / HTTP/1.0\r\n" + host + "Connection: keep-alive\r\n\r\n",
		"GET /ws HTTP/1.1\r\n" + host + "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n",
		"OPTIONS * HTTP/1.1\r\n" + host + "Expect: 100-continue\r\nContent-Length: 0\r\n\r\n",
		"PUT / HTTP/1.1\r\n" + host + "Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\n\r\n",
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
	} {
		f.Add([]byte(seed))
	}
	problems := make(chan string, 100)
	target := strictBackend(f, func(s string) {
		select {
		case problems <- s:
		default: // one is enough
		}
	})
	g := newRig(f)
	g.apply(lead(target))
	f.Fuzz(func(t *testing.T, request []byte) {
		c, err := net.Dial("tcp", g.router.HTTPAddr())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(deadline))
		go func() {
			c.Write(request)
			c.(*net.TCPConn).CloseWrite()
		}()
		if _, err := io.Copy(io.Discard, c); err != nil {
			if ne, ok := err.(net.Error); ok && ne.Timeout() {
				t.Fatalf("no end after %q", request)
			}
		}
		select {
		case p := <-problems:
			t.Fatalf("after %q the process got: %s", request, p)
		default:
		}
	})
}

package router

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"strconv"
	"sync"
	"time"
)

// exchange carries one request to a target over HTTP/1.1 and its response back. Head, body and
// response are handled on the goroutine of the request; only a body that is too large to keep,
// or of unknown length, is copied by a second one, so that a process may answer before it has
// read everything.
type exchange struct {
	*flight
	control *http.ResponseController
	upgrade string // the protocol asked for, or ""
	// kept holds the whole body if it is small enough to be sent twice; streamed bodies are
	// not kept. sent: some of a streamed body may have reached a process.
	kept     []byte
	streamed bool
	sent     bool
	buf      *[]byte     // scratch, for the head and then for copying
	stall    *time.Timer // cuts a client of HTTP/2 that takes nothing; nil until it is needed
}

// scratch recycles the buffers of exchanges.
var scratch = sync.Pool{New: func() any { b := make([]byte, 0, 32<<10); return &b }}

// exchange sends the request to the acquired target, and to others should that fail early.
func (f *flight) exchange(host string) {
	x := &exchange{flight: f, control: http.NewResponseController(f.w), upgrade: upgradeType(f.r)}
	x.buf = scratch.Get().(*[]byte)
	defer scratch.Put(x.buf)
	dropListed(f.r.Header)
	if fail := x.keepBody(); fail != nil {
		f.send(host, func(bool) *failure { return fail })
		return
	}
	f.send(host, x.try)
}

// keepBody reads a small body. Reading answers an expected 100 (RFC 9110 §10.1.1).
func (x *exchange) keepBody() *failure {
	switch n := x.r.ContentLength; {
	case n == 0:
		return nil
	case n < 0 || n > replayBodyMax:
		x.streamed = true
		return nil
	default:
		x.kept = make([]byte, n)
	}
	_ = x.control.SetReadDeadline(x.deadline())
	if _, err := io.ReadFull(x.r.Body, x.kept); err != nil {
		return &failure{err: err, client: true}
	}
	_ = x.control.SetReadDeadline(time.Time{})
	return nil
}

// try sends the request once.
func (x *exchange) try(fresh bool) *failure {
	ctx := x.r.Context()
	c, err := x.target.get(ctx, fresh || x.streamed) // a body that is gone cannot follow a stale connection
	if err != nil {
		x.gone = ctx.Err() != nil
		return &failure{err: err, dial: true, again: true}
	}
	unwatch := context.AfterFunc(ctx, func() { c.Close() })
	keep := false
	defer func() {
		if unwatch() && keep {
			x.target.put(c)
			return
		}
		c.Close()
	}()
	_ = c.SetDeadline(x.deadline())
	head := x.appendHead((*x.buf)[:0])
	*x.buf = head[:0]
	if x.streamed {
		keep, err = x.stream(c, head)
	} else {
		keep, err = x.whole(c, head)
	}
	if err == nil {
		return nil
	}
	return x.judge(c, err)
}

// whole sends a request whose body, if any, is kept.
func (x *exchange) whole(c *conn, head []byte) (keep bool, err error) {
	head = append(head, x.kept...)
	*x.buf = head[:0]
	if _, err := c.Write(head); err != nil {
		return false, tryError{err}
	}
	keep, err = x.respond(c, nil)
	x.gone = err != nil && x.r.Context().Err() != nil
	return keep, err
}

// stream sends a request and copies its body while the response is awaited.
func (x *exchange) stream(c *conn, head []byte) (keep bool, err error) {
	if _, err := c.Write(head); err != nil {
		return false, tryError{err}
	}
	// Without full duplex, net/http would wait for the body before it lets a response out.
	_ = x.control.EnableFullDuplex()
	if x.r.ProtoMajor == 1 && hasToken(x.r.Header["Expect"], "100-continue") {
		// Reading the body would say it, on another goroutine than an interim response.
		x.w.WriteHeader(http.StatusContinue)
	}
	up := &upload{x: x, c: c, done: make(chan struct{})}
	x.sent = true
	go up.copy()
	defer up.stop()
	keep, err = x.respond(c, up)
	// Looked at before stop, which ends the client's side itself.
	if x.gone = err != nil && x.r.Context().Err() != nil; x.gone {
		<-up.done // it knows why
	}
	if err != nil && !x.begun && !up.complete() && x.r.ProtoMajor == 1 {
		// What is left of the body may not be taken for the next request.
		x.w.Header()["Connection"] = []string{"close"}
	}
	if cerr := up.clientError(); cerr != nil && !x.begun {
		return false, &clientError{cerr}
	}
	return keep && up.complete(), err
}

// tryError is an error before the first byte of a response.
type tryError struct{ error }

// clientError is an error of the client's side.
type clientError struct{ error }

// judge says what an unsuccessful try means for the next one.
func (x *exchange) judge(c *conn, err error) *failure {
	fail := &failure{err: err}
	if client, ok := errors.AsType[*clientError](err); ok {
		fail.err, fail.client = client.error, true
		return fail
	}
	early, ok := errors.AsType[tryError](err)
	if !ok {
		return fail
	}
	fail.err = early.error
	if x.begun || x.sent || isTimeout(fail.err) {
		return fail
	}
	fail.again = idempotent(x.r) || (c.reused && c.untouched(fail.err))
	return fail
}

// appendHead appends the head of the request as the process gets it.
func (x *exchange) appendHead(b []byte) []byte {
	b = append(b, x.r.Method...)
	b = append(b, ' ')
	b = append(b, requestTarget(x.r)...)
	b = append(b, " HTTP/1.1\r\nHost: "...)
	b = append(b, x.r.Host...)
	b = append(b, "\r\n"...)
	b = appendHeader(b, x.r.Header, x.origin)
	switch n := x.r.ContentLength; {
	case x.upgrade != "":
		b = append(b, "Connection: Upgrade\r\nUpgrade: "...)
		b = append(b, x.upgrade...)
		b = append(b, "\r\n"...)
	case n > 0 || (n == 0 && takesBody(x.r.Method)):
		b = append(b, "Content-Length: "...)
		b = strconv.AppendInt(b, n, 10)
		b = append(b, "\r\n"...)
	case n < 0:
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
		for name := range x.r.Trailer {
			if forwards(name) {
				b = append(append(append(b, "Trailer: "...), name...), "\r\n"...)
			}
		}
	}
	return append(b, "\r\n"...)
}

// takesBody reports whether a request without a body should say so.
func takesBody(method string) bool {
	return method == http.MethodPost || method == http.MethodPut || method == http.MethodPatch
}

// respond reads the response and copies it to the client. keep tells whether the connection is
// good for another request.
func (x *exchange) respond(c *conn, up *upload) (keep bool, err error) {
	var h responseHead
	for {
		if h, err = readHead(c); err != nil {
			if _, bad := errors.AsType[errHead](err); bad {
				return false, err
			}
			return false, tryError{err}
		}
		if h.status >= 200 || h.status == http.StatusSwitchingProtocols {
			break
		}
		x.inform(h)
	}
	if h.status == http.StatusSwitchingProtocols {
		return false, x.switchProtocols(c, h)
	}
	x.writeHead(h, up)
	if x.r.Method == http.MethodHead || h.status == http.StatusNoContent || h.status == http.StatusNotModified {
		return h.keep && c.br.Buffered() == 0, nil
	}
	if h.length >= 0 {
		err = x.copyLength(c, h.length)
	} else {
		err = x.copyStream(c, h.chunked)
		h.keep = h.keep && h.chunked
	}
	return err == nil && h.keep && c.br.Buffered() == 0, err
}

// inform passes an interim response on. A 100 is the router's own affair: Expect was not
// passed on.
func (x *exchange) inform(h responseHead) {
	if h.status == http.StatusContinue || x.r.ProtoMajor == 1 && x.r.ProtoMinor == 0 {
		return
	}
	header := x.w.Header()
	for name, values := range h.header {
		header[name] = values
	}
	x.w.WriteHeader(h.status)
	clear(header)
}

// writeHead gives the client the head of the response.
func (x *exchange) writeHead(h responseHead, up *upload) {
	header := x.w.Header()
	for name, values := range h.header {
		header[name] = values
	}
	delete(header, "Upgrade")
	if _, ok := h.header["Content-Type"]; !ok {
		header["Content-Type"] = nil // net/http would guess one
	}
	if x.cookie != "" {
		header["Set-Cookie"] = append(header["Set-Cookie"], x.cookie)
	}
	if h.status == http.StatusNoContent {
		delete(header, "Content-Length")
	}
	if up != nil && x.r.ProtoMajor == 1 && !up.settled() {
		// As in stream: the process answered before it had the whole body.
		header["Connection"] = []string{"close"}
	}
	x.status, x.begun = h.status, true
	x.w.WriteHeader(h.status)
}

// copyLength copies a body of known length.
func (x *exchange) copyLength(c *conn, n int64) error {
	for n > 0 {
		if c.br.Buffered() == 0 {
			_ = c.SetReadDeadline(x.deadline())
		}
		var p []byte
		var err error
		if buffered := c.br.Buffered(); buffered > 0 {
			p, _ = c.br.Peek(int(min(n, int64(buffered))))
			_, _ = c.br.Discard(len(p))
		} else {
			p = (*x.buf)[:min(n, int64(cap(*x.buf)))]
			var k int
			k, err = c.br.Read(p)
			p = p[:k]
		}
		if len(p) > 0 {
			if err := x.write(p); err != nil {
				return err
			}
		}
		n -= int64(len(p))
		switch {
		case err != nil && n > 0:
			return fmt.Errorf("%d bytes before the end of the body: %w", n, noEOF(err))
		case n > 0 && c.br.Buffered() == 0:
			if err := x.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

// copyStream copies a body of unknown length. Whatever there is goes out before more is waited
// for, so that events arrive when they happen.
func (x *exchange) copyStream(c *conn, chunked bool) error {
	var body io.Reader = c.br
	if chunked {
		body = httputil.NewChunkedReader(c.br)
	}
	if c.br.Buffered() == 0 {
		if err := x.flush(); err != nil {
			return err
		}
	}
	buf := (*x.buf)[:cap(*x.buf)]
	for {
		_ = c.SetReadDeadline(x.deadline())
		n, err := body.Read(buf)
		if n > 0 {
			if werr := x.write(buf[:n]); werr != nil {
				return werr
			}
		}
		switch {
		case errors.Is(err, io.EOF) && chunked:
			return x.copyTrailer(c)
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("within the body: %w", err)
		case n < len(buf):
			if err := x.flush(); err != nil {
				return err
			}
		}
	}
}

func (x *exchange) copyTrailer(c *conn) error {
	trailer, err := readTrailer(c.br)
	if err != nil {
		return fmt.Errorf("within the trailer: %w", noEOF(err))
	}
	if len(trailer) == 0 {
		return nil
	}
	if err := x.flush(); err != nil { // else net/http counts a short body and leaves no room
		return err
	}
	for name, values := range trailer {
		x.w.Header()[http.TrailerPrefix+name] = values
	}
	return nil
}

func (x *exchange) write(p []byte) error {
	x.guard()
	defer x.unguard()
	if _, err := x.w.Write(p); err != nil {
		return &clientError{err}
	}
	return nil
}

func (x *exchange) flush() error {
	x.guard()
	defer x.unguard()
	if err := x.control.Flush(); err != nil {
		return &clientError{err}
	}
	return nil
}

// guard bounds how long the client may go without taking what is written to it, until unguard.
// Over HTTP/1 the deadline of the connection does that; a client of HTTP/2 can answer every ping
// and still take nothing of a stream.
func (x *exchange) guard() {
	switch {
	case x.r.ProtoMajor < 2:
	case x.stall == nil:
		x.stall = time.AfterFunc(x.router.cfg.bounds.stall, func() { _ = x.control.SetWriteDeadline(time.Unix(1, 0)) })
	default:
		x.stall.Reset(x.router.cfg.bounds.stall)
	}
}

func (x *exchange) unguard() {
	if x.stall != nil {
		x.stall.Stop()
	}
}

// noEOF makes an end that came too soon an error that says so.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

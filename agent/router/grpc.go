package router

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"time"
)

// newGRPCTransport returns what speaks cleartext HTTP/2 to processes.
func newGRPCTransport() *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	dialer := &net.Dialer{Timeout: connectMax}
	return &http.Transport{
		Protocols: protocols,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := dialer.DialContext(ctx, network, addr)
			if err != nil {
				return nil, dialError{err}
			}
			return c, nil
		},
		IdleConnTimeout:    upstreamIdleMax,
		DisableCompression: true,
		HTTP2:              &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 10 * time.Second},
	}
}

// grpcLastWord is the time for an answer to a call that went idle.
const grpcLastWord = time.Second

// dialError is a connection that could not be made.
type dialError struct{ error }

func (e dialError) Unwrap() error { return e.error }

// serveGRPC passes a call on over HTTP/2, with its trailers and in both directions at once.
func (f *flight) serveGRPC(host string) {
	ctx, cancel := context.WithCancelCause(f.r.Context())
	defer cancel(nil)
	call := &grpcCall{flight: f, host: host}
	control := http.NewResponseController(f.w)
	call.idle = time.AfterFunc(f.route.timeout, func() {
		cancel(context.DeadlineExceeded)
		// A client that takes nothing does not see that; one that does gets its answer first.
		_ = control.SetWriteDeadline(time.Now().Add(grpcLastWord))
	})
	defer call.idle.Stop()
	// No FlushInterval: a response of unknown length is flushed at once without it, and one that
	// has trailers only must not be, for its head has to end the stream.
	proxy := &httputil.ReverseProxy{
		Rewrite:        call.rewrite,
		Transport:      call,
		ModifyResponse: call.answered,
		ErrorHandler:   func(_ http.ResponseWriter, r *http.Request, err error) { call.failed(r, err) },
		ErrorLog:       log.New(io.Discard, "", 0),
	}
	proxy.ServeHTTP(f.w, f.r.WithContext(ctx))
}

// grpcCall is one call on its way.
type grpcCall struct {
	*flight
	host string
	// idle cancels the call when neither side has said anything for the route's timeout.
	idle *time.Timer
}

func (g *grpcCall) rewrite(p *httputil.ProxyRequest) {
	p.Out.URL.Scheme = "http"
	p.Out.Host = p.In.Host
	setOrigin(p.Out.Header, g.origin)
}

// RoundTrip sends the call to the acquired target, and to others where no connection can be
// made: until then nothing of the body has been read.
func (g *grpcCall) RoundTrip(req *http.Request) (*http.Response, error) {
	var body io.ReadCloser
	if req.Body != nil {
		body = &watchedBody{req.Body, g}
		defer func() { body = nil }()
	}
	for {
		out := *req
		u := *req.URL
		u.Host = g.target.id.addr
		out.URL = &u
		if body != nil {
			out.Body = io.NopCloser(body) // a failed try closes what it was given
		}
		resp, err := g.router.grpc.RoundTrip(&out)
		if err == nil {
			return resp, nil
		}
		if _, dial := errors.AsType[dialError](err); !dial || req.Context().Err() != nil {
			return nil, err
		}
		g.route.metrics.failed(&failure{err: err, dial: true})
		if !g.another(g.host) {
			return nil, err
		}
		g.countRetry()
	}
}

// answered is called before the head of the response goes to the client.
func (g *grpcCall) answered(resp *http.Response) error {
	g.status, g.begun = resp.StatusCode, true
	resp.Body = &watchedBody{resp.Body, g}
	if g.cookie != "" {
		resp.Header.Add("Set-Cookie", g.cookie)
	}
	return nil
}

func (g *grpcCall) failed(req *http.Request, err error) {
	if g.r.Context().Err() != nil {
		g.status = statusClientGone
		panic(http.ErrAbortHandler)
	}
	if cause := context.Cause(req.Context()); cause != nil {
		err = cause
	}
	_, dial := errors.AsType[dialError](err)
	fail := &failure{err: err, dial: dial}
	if !dial { // counted when it happened
		g.route.metrics.failed(fail)
	}
	g.fail(fail)
}

// watchedBody moves the idle deadline of its call whenever bytes pass.
type watchedBody struct {
	io.ReadCloser
	call *grpcCall
}

// Read reads from the body.
func (b *watchedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if n > 0 {
		b.call.idle.Reset(b.call.route.timeout)
	}
	return n, err
}

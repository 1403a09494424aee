package rest

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"log"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/klauspost/compress/zstd"
	"google.golang.org/grpc"

	"slipway/api"
	"slipway/api/pb"
)

// FuzzRequest reads requests as they come from the wire: the line, the headers with credentials and
// options, the query, the form. Whatever it is, the answer is a status and a sentence, and never a
// failure of the server.
func FuzzRequest(f *testing.F) {
	for _, rt := range routes() {
		var b bytes.Buffer
		if err := sample(&rt, nil).Write(&b); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes())
	}
	for _, text := range []string{
		"GET /apps HTTP/1.1\r\nHost: h\r\nAuthorization: Basic Y29udm94Og==\r\n\r\n",
		"GET /apps HTTP/1.1\r\nHost: h\r\nAuthorization: Basic !\r\n\r\n",
		"GET /apps/%00/releases?limit=%zz HTTP/1.1\r\nHost: h\r\nAuthorization: Basic and0Omdvb2Q=\r\n\r\n",
		"POST /apps HTTP/1.1\r\nHost: h\r\nAuthorization: Basic and0Omdvb2Q=\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 9\r\n\r\nname=%zz&",
	} {
		f.Add([]byte(text))
	}
	a, _ := handler()
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(raw)))
		if err != nil {
			t.Skip("net/http answers")
		}
		w := httptest.NewRecorder()
		a.ServeHTTP(w, r)
		// 501 is said of websockets too, which a recorder has none of.
		if w.Code == http.StatusInternalServerError || w.Code >= 400 && r.Method != http.MethodHead && strings.TrimSpace(w.Body.String()) == "" {
			t.Errorf("%d %q to %q", w.Code, w.Body, raw)
		}
	})
}

// FuzzSource looks for a manifest in what may be no source. What it finds is bounded.
func FuzzSource(f *testing.F) {
	var plain bytes.Buffer
	w := tar.NewWriter(&plain)
	for _, name := range []string{"./app.js", "./convox.yml"} {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: 4, Typeflag: tar.TypeReg}); err != nil {
			f.Fatal(err)
		}
		io.WriteString(w, "a: b")
	}
	w.Close()
	for _, pack := range []func(io.Writer) io.WriteCloser{
		func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) },
		func(w io.Writer) io.WriteCloser {
			z, err := zstd.NewWriter(w)
			if err != nil {
				f.Fatal(err)
			}
			return z
		},
	} {
		var b bytes.Buffer
		z := pack(&b)
		z.Write(plain.Bytes())
		z.Close()
		f.Add(b.Bytes(), "convox.yml")
		f.Add(b.Bytes()[:b.Len()/2], "../convox.yml")
	}
	f.Add([]byte{}, "")
	f.Fuzz(func(t *testing.T, source []byte, name string) {
		text, err := findManifest(bytes.NewReader(source), name)
		if code := api.CodeOf(err); err != nil && code != api.CodeInvalid && code != api.CodeExhausted || len(text) > int(manifestMax) {
			t.Errorf("%d bytes, %v", len(text), err)
		}
	})
}

// FuzzText parses what stands in parameters. What is understood can be written and read again.
func FuzzText(f *testing.F) {
	for _, text := range []string{"A=1\nB=a=b\r\n\n", "A=1\r\r", "A", "=", "A=1,B=2,3", ",", "object://a/sha256:" + strings.Repeat("0", 64), "object:///", "a 'b c' \\", "A=1&B=%31", "2m0s", "-1"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		env, err := parseEnv(text)
		again, errAgain := parseEnv(envText(env))
		if err == nil && (errAgain != nil || !maps.Equal(env, again)) {
			t.Errorf("%q is read as %q, and that as %q, %v", text, env, again, errAgain)
		}
		if args, err := parseBuildArgs(text); err == nil && text != "" && len(args) == 0 {
			t.Errorf("%q has no arguments and is no error", text)
		}
		if digest, err := parseObject(text, "a"); err == nil && text != objectScheme+"a/"+digest {
			t.Errorf("%q is read as %s", text, digest)
		}
		for _, k := range []kind{kindText, kindNumber, kindBool, kindDuration, kindPairs} {
			p := param{name: "p", kind: k}
			if v, err := p.parse(text); err == nil && k == kindText && (v != text || !utf8.ValidString(text)) {
				t.Errorf("%q is read as %q", text, v)
			}
		}
		if clip(text); len(clip(text)) > 90 {
			t.Errorf("%q is clipped to %q", text, clip(text))
		}
	})
}

// FuzzFrames sends bytes on an open websocket. The session ends once the client has gone, whatever
// it said before.
func FuzzFrames(f *testing.F) {
	mask := "\x00\x00\x00\x00"
	for _, frames := range []string{
		"\x81\x85" + mask + "hello\x82\x80" + mask, "\x82\x80" + mask, "\x88\x82" + mask + "\x03\xe8", "\x01\x82" + mask + "he\x80\x83" + mask + "llo",
		"\x89\x80" + mask, "\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xff" + mask, "\x81\x05hello", "\xf1\x80" + mask,
	} {
		f.Add([]byte(frames))
	}
	f.Fuzz(func(t *testing.T, frames []byte) {
		a := New(Config{Conn: &echo{}, Now: time.Now, Log: slog.New(slog.DiscardHandler)})
		ended := make(chan any, 1)
		srv := &http.Server{ErrorLog: log.New(io.Discard, "", 0), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			defer func() { ended <- recover() }()
			a.ServeHTTP(w, r)
		})}
		near, far := net.Pipe()
		go srv.Serve(&single{conn: far})
		drained := make(chan struct{})
		go func() {
			io.Copy(io.Discard, near)
			close(drained)
		}()
		io.WriteString(near, "GET /apps/a/processes/p/exec HTTP/1.1\r\nHost: h\r\nAuthorization: Basic and0Omdvb2Q=\r\nCommand: cat\r\n"+
			"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
		near.Write(frames) // fails when the server has had enough
		near.Close()
		<-drained
		select {
		case panicked := <-ended:
			if panicked != nil {
				t.Errorf("%q: %v", frames, panicked)
			}
		case <-time.After(20 * time.Second):
			t.Errorf("%q: the session has no end", frames)
		}
	})
}

// single is a listener with one connection.
type single struct{ conn net.Conn }

// Accept implements net.Listener.
func (s *single) Accept() (net.Conn, error) {
	if s.conn == nil {
		return nil, net.ErrClosed
	}
	c := s.conn
	s.conn = nil
	return c, nil
}

// Close implements net.Listener.
func (*single) Close() error { return nil }

// Addr implements net.Listener.
func (*single) Addr() net.Addr { return &net.TCPAddr{} }

// echo is a control API whose sessions send back what comes.
type echo struct{ stub }

// NewStream implements grpc.ClientConnInterface.
func (*echo) NewStream(ctx context.Context, _ *grpc.StreamDesc, _ string, _ ...grpc.CallOption) (grpc.ClientStream, error) {
	return &echoes{ctx: ctx, frames: make(chan *pb.Frame)}, nil
}

// echoes is one session.
type echoes struct {
	grpc.ClientStream
	ctx    context.Context //nolint:containedctx // a stream has one.
	frames chan *pb.Frame
}

// SendMsg takes a frame of the client.
func (e *echoes) SendMsg(m any) error {
	f := m.(*pb.Frame)
	switch k := f.GetKind().(type) {
	case *pb.Frame_Stdin:
		f = &pb.Frame{Kind: &pb.Frame_Stdout{Stdout: bytes.Clone(k.Stdin)}}
	case *pb.Frame_StdinClose:
		f = &pb.Frame{Kind: &pb.Frame_Exit{Exit: &pb.Exit{}}}
	default:
		return nil
	}
	select {
	case e.frames <- f:
		return nil
	case <-e.ctx.Done():
		return io.EOF
	}
}

// RecvMsg brings the next frame back.
func (e *echoes) RecvMsg(m any) error {
	select {
	case f := <-e.frames:
		m.(*pb.Frame).Kind = f.GetKind()
		return nil
	case <-e.ctx.Done():
		return e.ctx.Err()
	}
}

package router

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// echo is a process that answers every message.
func echo(t *testing.T) string {
	return backend(t, func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer c.CloseNow()
		for {
			kind, b, err := c.Read(r.Context())
			if err != nil {
				return
			}
			if err := c.Write(r.Context(), kind, append([]byte("echo "), b...)); err != nil {
				return
			}
		}
	})
}

func (g *rig) socket() *websocket.Conn {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(g.t.Context(), deadline)
	defer cancel()
	c, _, err := websocket.Dial(ctx, "ws://"+g.router.HTTPAddr()+"/ws", &websocket.DialOptions{Host: "app.test"})
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { c.CloseNow() })
	return c
}

func say(t *testing.T, c *websocket.Conn, text string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	if err := c.Write(ctx, websocket.MessageText, []byte(text)); err != nil {
		t.Fatal(err)
	}
	if _, b, err := c.Read(ctx); err != nil || string(b) != "echo "+text {
		t.Fatalf("said %q, got %q, %v", text, b, err)
	}
}

// TestWebSocketDrain keeps sockets open over a change of tables: they work until the drain limit,
// are counted until then, and are told to go away after it.
func TestWebSocketDrain(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	old := lead(echo(t))
	old.Drain = 2 * time.Second
	g.apply(old)
	const n = 10
	var socks []*websocket.Conn
	for range n {
		c := g.socket()
		say(t, c, "hello")
		socks = append(socks, c)
	}
	start := time.Now()
	st := g.apply(lead(echo(t)))
	if len(st.Draining) != 1 || st.Draining[0].InFlight != n {
		t.Fatalf("draining %+v, want %d", st.Draining, n)
	}
	for i := 0; i < 20 && time.Since(start) < old.Drain/2; i++ { // a busy machine says less, not too late
		for _, c := range socks {
			say(t, c, fmt.Sprint(i))
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	for _, c := range socks {
		_, _, err := c.Read(ctx)
		var closed websocket.CloseError
		if !errors.As(err, &closed) || closed.Code != websocket.StatusGoingAway {
			t.Errorf("socket ended with %v, want status 1001", err)
		}
	}
	if took := time.Since(start); took < old.Drain {
		t.Errorf("sockets were closed after %v, before their limit", took)
	}
	if st, _ := g.client.Status(t.Context()); len(st.Draining) != 0 {
		t.Errorf("still draining: %+v", st.Draining)
	}
	say(t, g.socket(), "the new one")
}

// TestWebSocketOverTLS: a socket on the TLS side works and is told to go away at its drain
// limit.
func TestWebSocketOverTLS(t *testing.T) {
	t.Parallel()
	g := newTLSRig(t)
	rt := lead(echo(t))
	rt.Drain, rt.Redirect = 100*time.Millisecond, true
	g.apply(rt)
	client := g.secure("app.test", "http/1.1")
	client.Timeout = 0 // a socket has no end
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	c, _, err := websocket.Dial(ctx, "wss://app.test/ws", &websocket.DialOptions{HTTPClient: client})
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	for i := range 10 {
		say(t, c, fmt.Sprint(i))
	}
	g.apply(lead())
	if _, _, err := c.Read(ctx); websocket.CloseStatus(err) != websocket.StatusGoingAway {
		t.Errorf("the socket ended with %v, want status 1001", err)
	}
}

// TestWebSocketReleased: a socket that its client closes is a drained target.
func TestWebSocketReleased(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	g.apply(lead(echo(t)))
	c := g.socket()
	say(t, c, "hello")
	if st := g.apply(lead()); len(st.Draining) != 1 {
		t.Fatalf("draining %+v", st.Draining)
	}
	c.Close(websocket.StatusNormalClosure, "")
	eventually(t, "drained", func() (bool, string) {
		st, err := g.client.Status(t.Context())
		return err == nil && len(st.Draining) == 0, fmt.Sprintf("%+v %v", st, err)
	})
}

// TestWebSocketIdle: a socket on which nobody speaks is closed after the route's timeout.
func TestWebSocketIdle(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	rt := lead(echo(t))
	rt.Timeout = 100 * time.Millisecond
	g.apply(rt)
	c := g.socket()
	for range 10 {
		say(t, c, "busy")
	}
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	if _, _, err := c.Read(ctx); err == nil || ctx.Err() != nil {
		t.Errorf("an idle socket ended with %v", err)
	}
}

// TestUpgradeRefused: a process that does not want to upgrade answers as usual.
func TestUpgradeRefused(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	g.apply(lead(backend(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		io.WriteString(w, r.Header.Get("Upgrade"))
	})))
	resp, body := g.do("GET", "/", nil, func(r *http.Request) {
		r.Header.Set("Connection", "Upgrade")
		r.Header.Set("Upgrade", "websocket")
	})
	if resp.StatusCode != 403 || body != "websocket" {
		t.Errorf("%s %q", resp.Status, body)
	}
}

// TestShutdown: a router that is told to stop lets requests end and tells sockets to go away.
func TestShutdown(t *testing.T) {
	t.Parallel()
	g := newRig(t, func(c *Config) { c.ShutdownLimit = 300 * time.Millisecond })
	g.apply(lead(echo(t)))
	c := g.socket()
	say(t, c, "hello")
	ended := make(chan error, 1)
	go func() { ended <- g.stop() }()
	_, _, err := c.Read(t.Context())
	if websocket.CloseStatus(err) != websocket.StatusGoingAway {
		t.Errorf("socket ended with %v, want status 1001", err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestFrames(t *testing.T) {
	t.Parallel()
	stream := []byte{0x81, 0x02, 'h', 'i', 0x82, 0x7e, 0x01, 0x00}
	stream = append(stream, make([]byte, 256)...)
	stream = append(stream, 0x81, 0x81, 1, 2, 3, 4, 'x')
	stream = append(stream, 0x82, 0x7f, 0, 0, 0, 0, 0, 0, 0, 3, 1, 2, 3, 0x89, 0x00)
	whole := map[int]bool{4: true, 4 + 260: true, 4 + 260 + 7: true, 4 + 260 + 7 + 13: true, len(stream): true}
	for _, step := range []int{1, 3, len(stream)} {
		f := newFrames("WebSocket")
		for i := 0; i < len(stream); i += step {
			end := min(i+step, len(stream))
			f.pass(stream[i:end])
			if f.between() != whole[end] {
				t.Errorf("step %d: after %d bytes between=%v", step, end, f.between())
			}
		}
	}
	if newFrames("other").between() {
		t.Error("frames of another protocol were followed")
	}
}

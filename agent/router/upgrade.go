package router

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// switchProtocols answers the client's upgrade and carries bytes both ways until one side ends,
// neither has spoken for the route's timeout, or the drain limit of the target has passed.
func (x *exchange) switchProtocols(c *conn, h responseHead) error {
	if x.upgrade == "" || !strings.EqualFold(strings.Join(h.header["Upgrade"], ","), x.upgrade) {
		return errHead("status 101 that was not asked for")
	}
	if x.cookie != "" {
		h.header["Set-Cookie"] = append(h.header["Set-Cookie"], x.cookie)
	}
	client, rw, err := x.control.Hijack()
	if err != nil {
		return fmt.Errorf("take over the connection of the client: %w", err)
	}
	x.status, x.begun = h.status, true
	t := &tunnel{timeout: x.route.timeout}
	t.ends[toClient] = end{conn: client, frames: newFrames(x.upgrade)}
	t.ends[toTarget] = end{conn: c.Conn, frames: newFrames(x.upgrade)}
	x.target.addTunnel(t)
	x.router.tunnels.Add(1)
	defer x.router.tunnels.Done()
	defer x.target.removeTunnel(t)
	_ = client.SetDeadline(time.Time{})
	_ = c.SetDeadline(time.Time{})
	t.run(switchHead(h), rw.Reader, c.br)
	return nil
}

// switchHead is the response that ends HTTP on the client's connection.
func switchHead(h responseHead) []byte {
	b := []byte("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n")
	for name, values := range h.header {
		if name == "Content-Length" {
			continue
		}
		for _, v := range values {
			b = append(append(append(append(b, name...), ": "...), v...), "\r\n"...)
		}
	}
	return append(b, "\r\n"...)
}

// The two directions of a tunnel.
const (
	toClient = iota
	toTarget
)

// tunnel is an upgraded connection.
type tunnel struct {
	timeout time.Duration
	active  atomic.Int64 // Unix nanoseconds of the last byte in either direction
	ends    [2]end
}

// end is what a tunnel writes to in one direction.
type end struct {
	conn net.Conn

	mu sync.Mutex

	frames *frames // nil unless the protocol is WebSocket
	closed bool    // a close frame was sent: nothing may follow it
}

// run carries bytes until both directions have ended, then closes both connections.
func (t *tunnel) run(head []byte, client, target io.Reader) {
	defer t.close()
	if _, err := t.ends[toClient].conn.Write(head); err != nil {
		return
	}
	t.active.Store(time.Now().UnixNano())
	var up sync.WaitGroup
	up.Go(func() { t.carry(toTarget, client) })
	t.carry(toClient, target)
	up.Wait()
}

// carry copies in one direction. src reads from the connection that the other direction writes.
func (t *tunnel) carry(direction int, src io.Reader) {
	buf := scratch.Get().(*[]byte)
	defer scratch.Put(buf)
	p := (*buf)[:cap(*buf)]
	from := t.ends[1-direction].conn
	for {
		_ = from.SetReadDeadline(time.Unix(0, t.active.Load()).Add(t.timeout))
		n, err := src.Read(p)
		if n > 0 {
			t.active.Store(time.Now().UnixNano())
			if !t.ends[direction].write(p[:n], t.timeout) {
				t.close()
				return
			}
		}
		switch {
		case err == nil:
		case errors.Is(err, os.ErrDeadlineExceeded) && time.Since(time.Unix(0, t.active.Load())) < t.timeout:
			// the other direction was busy meanwhile
		case errors.Is(err, io.EOF):
			t.ends[direction].closeWrite()
			return
		default:
			t.close()
			return
		}
	}
}

func (e *end) write(p []byte, timeout time.Duration) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return false
	}
	_ = e.conn.SetWriteDeadline(time.Now().Add(timeout))
	if _, err := e.conn.Write(p); err != nil {
		return false
	}
	e.frames.pass(p)
	return true
}

// closeWrite tells one side that the other has said everything.
func (e *end) closeWrite() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if cw, ok := e.conn.(interface{ CloseWrite() error }); ok {
		_ = cw.CloseWrite()
		return
	}
	_ = e.conn.Close()
}

func (t *tunnel) close() {
	_ = t.ends[toClient].conn.Close()
	_ = t.ends[toTarget].conn.Close()
}

// goAway ends the tunnel, with a close frame on both sides where one can be said between two
// messages of a WebSocket.
func (t *tunnel) goAway() {
	for i := range t.ends {
		e := &t.ends[i]
		// A writer that is stuck must not keep the lock.
		_ = e.conn.SetWriteDeadline(time.Now().Add(tunnelCloseMax))
		e.mu.Lock()
		if e.frames.between() && !e.closed {
			_, _ = e.conn.Write(closeFrame(i == toTarget))
		}
		e.closed = true
		e.mu.Unlock()
	}
	t.close()
}

// closeFrame is a WebSocket close frame with status 1001, "going away". Frames to a server are
// masked; a mask of zeros is as good as any for two public bytes.
func closeFrame(masked bool) []byte {
	if masked {
		return []byte{0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe9}
	}
	return []byte{0x88, 0x02, 0x03, 0xe9}
}

// isWebSocket reports whether an upgrade is to WebSocket.
func isWebSocket(upgrade string) bool { return strings.EqualFold(upgrade, "websocket") }

var _ http.Handler = (*Router)(nil)

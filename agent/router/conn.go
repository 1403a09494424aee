package router

import (
	"bufio"
	"errors"
	"io"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// conn is one connection to a target. It belongs to one request at a time.
type conn struct {
	net.Conn
	br *bufio.Reader
	// raw is the socket below TLS, nil where there is none to look at.
	raw syscall.RawConn
	// reused connections carried a request before.
	reused bool
	since  time.Time // when it became idle
}

const connBuffer = 8 << 10

func newConn(nc net.Conn) *conn {
	c := &conn{Conn: nc, br: bufio.NewReaderSize(nc, connBuffer)}
	if sc, ok := nc.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			c.raw = raw
		}
	}
	return c
}

// wrap puts a layer (TLS) between the socket and its reader.
func (c *conn) wrap(nc net.Conn) {
	c.Conn = nc
	c.br.Reset(nc)
}

// alive reports whether an idle connection is still open and silent. A byte that arrives while
// nothing was asked is as bad as an end: it could be taken for the next response.
func (c *conn) alive() bool {
	if c.br.Buffered() > 0 {
		return false
	}
	if c.raw == nil {
		return true // a request will tell
	}
	var b [1]byte
	var n int
	var err error
	if rerr := c.raw.Control(func(fd uintptr) {
		n, _, err = unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
	}); rerr != nil {
		return false
	}
	if n > 0 {
		_, plain := c.Conn.(*net.TCPConn)
		return !plain // TLS sends session tickets unasked
	}
	return errors.Is(err, unix.EAGAIN)
}

// untouched reports whether the end of the connection, seen as err before any byte of a
// response, proves that the process never took the request: the peer's kernel answered our
// bytes with a reset, or did not acknowledge them.
func (c *conn) untouched(err error) bool {
	if errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
		return true
	}
	if !errors.Is(err, io.EOF) || c.raw == nil {
		return false
	}
	// The peer's FIN may have crossed our bytes. Then they met a closed socket, and either its
	// reset has arrived behind the FIN or they are still unacknowledged.
	pending := false
	rerr := c.raw.Control(func(fd uintptr) {
		if e, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR); err == nil && e != 0 {
			pending = true
			return
		}
		if n, err := unix.IoctlGetInt(int(fd), unix.SIOCOUTQ); err == nil && n > 0 {
			pending = true
		}
	})
	return rerr == nil && pending
}

// grow makes room for a head that does not fit the usual buffer.
func (c *conn) grow(size int) { c.br = bufio.NewReaderSize(c.br, size) }

package router

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"slipway/api"
)

// listeners are the router's sockets.
type listeners struct {
	http, https net.Listener // nil where not served
	control     *net.UnixListener
}

func (l listeners) close() {
	for _, c := range [...]net.Listener{l.http, l.https} {
		if c != nil {
			_ = c.Close()
		}
	}
	if l.control != nil {
		_ = l.control.Close()
	}
}

// listen opens the sockets that the configuration names, or takes them over.
func (r *Router) listen() (err error) {
	var sockets map[string]net.Listener
	var p *predecessor
	if r.cfg.Takeover {
		if p, sockets, err = takeOver(r.cfg.ControlSocket); err != nil {
			return err
		}
	}
	defer func() {
		for _, l := range sockets { // those that are not wanted
			_ = l.Close()
		}
		if err != nil {
			r.listeners.close()
			if p != nil {
				_ = p.waiting.Close()
			}
		}
	}()
	if p != nil {
		r.previous.Store(p)
	}
	if r.listeners.control, err = listenControl(r.cfg.ControlSocket); err != nil {
		return err
	}
	path := r.cfg.ControlSocket
	r.socket.Store(&path)
	if r.listeners.http, err = inherit(sockets, "http", r.cfg.HTTPAddr); err != nil {
		return err
	}
	r.listeners.https, err = inherit(sockets, "https", r.cfg.HTTPSAddr)
	return err
}

// inherit takes a listener from those that a predecessor passed on, or opens one.
func inherit(sockets map[string]net.Listener, name, addr string) (net.Listener, error) {
	l := sockets[name]
	if l == nil || addr == "" {
		return listenTCP(addr)
	}
	delete(sockets, name)
	return l, nil
}

func listenTCP(addr string) (net.Listener, error) {
	if addr == "" {
		return nil, nil
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", addr, err)
	}
	return l, nil
}

// listenControl binds the control socket. It is bound under another name and then moved, so that
// nobody finds it with the wrong mode and a socket that a dead router left is replaced.
func listenControl(path string) (*net.UnixListener, error) {
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
		_ = c.Close()
		return nil, api.Errorf(api.CodeConflict, "control socket %s is served by another router; stop it, or take over from it", path)
	}
	tmp := fmt.Sprintf("%s.%d", path, os.Getpid())
	_ = os.Remove(tmp)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: tmp, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen on control socket %s: %w", path, err)
	}
	l.SetUnlinkOnClose(false)
	if err = os.Chmod(tmp, 0o600); err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		_ = l.Close()
		_ = os.Remove(tmp)
		return nil, fmt.Errorf("listen on control socket %s: %w", path, err)
	}
	return l, nil
}

// server is an http.Server with its listener.
type server struct {
	http     *http.Server
	listener net.Listener
	tls      bool
}

func (s *server) serve() error {
	err := error(nil)
	if s.tls {
		err = s.http.ServeTLS(s.listener, "", "")
	} else {
		err = s.http.Serve(s.listener)
	}
	if errors.Is(err, http.ErrServerClosed) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return fmt.Errorf("serve %s: %w", s.listener.Addr(), err)
}

// servers returns the servers of the public listeners.
func (r *Router) servers() []*server {
	var list []*server
	slots := make(chan struct{}, r.cfg.bounds.clients)
	if l := r.listeners.http; l != nil {
		s := r.publicServer()
		s.Protocols = new(http.Protocols)
		s.Protocols.SetHTTP1(true)
		s.Protocols.SetUnencryptedHTTP2(true) // with prior knowledge only: gRPC without TLS
		list = append(list, &server{http: s, listener: r.stallListener(l, slots)})
	}
	if l := r.listeners.https; l != nil {
		s := r.publicServer()
		s.TLSConfig = r.certs.config()
		list = append(list, &server{http: s, listener: r.stallListener(l, slots), tls: true})
	}
	return list
}

func (r *Router) publicServer() *http.Server {
	return &http.Server{
		Handler:           r,
		ReadHeaderTimeout: r.cfg.bounds.headerRead,
		IdleTimeout:       r.cfg.bounds.clientIdle,
		MaxHeaderBytes:    headerBytesMax,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: streamsMax,
			SendPingTimeout:      30 * time.Second,
			PingTimeout:          15 * time.Second,
			WriteByteTimeout:     r.cfg.bounds.stall,
		},
		// What clients do wrong is counted, not logged: anyone can make it happen.
		ErrorLog:                     log.New(io.Discard, "", 0),
		DisableGeneralOptionsHandler: true,
		BaseContext:                  func(net.Listener) context.Context { return context.Background() },
	}
}

// stallListener bounds how many connections there are, and how long each may go without taking
// what is written to it.
type stallListener struct {
	net.Listener
	stall  time.Duration
	slots  chan struct{} // holds one per open connection
	open   *atomic.Int64
	closed chan struct{}
	once   sync.Once
}

func (r *Router) stallListener(l net.Listener, slots chan struct{}) *stallListener {
	return &stallListener{Listener: l, stall: r.cfg.bounds.stall, slots: slots, open: &r.clients, closed: make(chan struct{})}
}

// Accept implements net.Listener. Clients beyond the bound wait in the kernel's queue.
func (l *stallListener) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
		return nil, err
	}
	l.open.Add(1)
	return &stallConn{TCPConn: c.(*net.TCPConn), listener: l}, nil
}

// Close implements net.Listener.
func (l *stallListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// stallConn moves its write deadline along with its writes, seldom enough to cost nothing.
type stallConn struct {
	*net.TCPConn
	listener *stallListener
	last     atomic.Int64 // Unix nanoseconds of the last move
	gone     atomic.Bool
}

// Close implements net.Conn.
func (c *stallConn) Close() error {
	if c.gone.CompareAndSwap(false, true) {
		c.listener.open.Add(-1)
		<-c.listener.slots
	}
	return c.TCPConn.Close()
}

// Write implements net.Conn.
func (c *stallConn) Write(p []byte) (int, error) {
	c.extend()
	return c.TCPConn.Write(p)
}

// ReadFrom implements io.ReaderFrom. It keeps to Write, whose deadline follows the progress.
func (c *stallConn) ReadFrom(src io.Reader) (int64, error) {
	return io.Copy(struct{ io.Writer }{c}, src)
}

// SetDeadline implements net.Conn; a deadline that was set from outside is not moved at once.
func (c *stallConn) SetDeadline(t time.Time) error {
	c.last.Store(time.Now().UnixNano())
	return c.TCPConn.SetDeadline(t)
}

// SetWriteDeadline implements net.Conn.
func (c *stallConn) SetWriteDeadline(t time.Time) error {
	c.last.Store(time.Now().UnixNano())
	return c.TCPConn.SetWriteDeadline(t)
}

func (c *stallConn) extend() {
	now := time.Now()
	if last := c.last.Load(); now.UnixNano()-last < int64(c.listener.stall/4) {
		return
	}
	c.last.Store(now.UnixNano())
	_ = c.TCPConn.SetWriteDeadline(now.Add(c.listener.stall))
}

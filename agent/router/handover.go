package router

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"slipway/api"
)

// A router is replaced without a refused connection by passing its listening sockets on, over
// the control socket (SCM_RIGHTS, unix(7)). Both processes then hold the same queue of
// connections, so that none is lost when the first one lets go.
//
// The successor asks; the predecessor moves its control socket aside, sends the sockets and the
// new path, and goes on as before until it reads one byte, which says that the successor
// serves. A successor that dies before changes nothing. From then on the predecessor asks its
// clients to reconnect, ends what is in flight, and stays reachable on the path aside: the
// successor passes every table on to it and reports its draining targets as its own, so that
// the agent does not stop a process that the predecessor still needs.

// Times of a handover.
const (
	handoverMax = 5 * time.Second // for the conversation
	leavePeriod = 2 * time.Second // in which responses ask their clients to reconnect
	relayMax    = 5 * time.Second // for passing a table on
	lingerMax   = time.Hour       // for what is in flight at the predecessor
)

// inheritance is what a predecessor sends, beside the sockets in the order of Listeners.
type inheritance struct {
	Listeners []string `json:"listeners"` // "http", "https"
	Socket    string   `json:"socket"`
}

// predecessor is a router that this one took over from, while it still has requests in flight.
type predecessor struct {
	client *Client
	// waiting is the connection that waits for the byte.
	waiting  net.Conn
	draining atomic.Pointer[[]api.DrainingTarget]
}

// takeOver asks the router at the control socket for its listeners. It returns nil and no error
// if there is no router.
func takeOver(path string) (*predecessor, map[string]net.Listener, error) {
	c, err := net.DialTimeout("unix", path, time.Second)
	if err != nil {
		return nil, nil, nil
	}
	p, sockets, err := receive(c.(*net.UnixConn))
	if err != nil {
		_ = c.Close()
		return nil, nil, fmt.Errorf("take over from the router at %s: %w", path, err)
	}
	return p, sockets, nil
}

func receive(c *net.UnixConn) (*predecessor, map[string]net.Listener, error) {
	_ = c.SetDeadline(time.Now().Add(handoverMax))
	if _, err := io.WriteString(c, "POST /handover HTTP/1.1\r\nHost: router\r\nContent-Length: 0\r\n\r\n"); err != nil {
		return nil, nil, err
	}
	b, oob := make([]byte, 4096), make([]byte, unix.CmsgSpace(4*4))
	n, oobn, _, _, err := c.ReadMsgUnix(b, oob)
	if err != nil {
		return nil, nil, err
	}
	var in inheritance
	if err := json.Unmarshal(b[:n], &in); err != nil {
		return nil, nil, fmt.Errorf("answer %.40q: %w", b[:n], err)
	}
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil || len(messages) != 1 {
		return nil, nil, fmt.Errorf("%d control messages: %w", len(messages), err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != len(in.Listeners) {
		return nil, nil, fmt.Errorf("%d sockets for %v: %w", len(fds), in.Listeners, err)
	}
	sockets := make(map[string]net.Listener, len(fds))
	for i, fd := range fds {
		unix.CloseOnExec(fd)
		f := os.NewFile(uintptr(fd), in.Listeners[i])
		l, lerr := net.FileListener(f)
		_ = f.Close()
		if lerr != nil {
			err = lerr
			continue
		}
		sockets[in.Listeners[i]] = l
	}
	_ = c.SetDeadline(time.Time{})
	return &predecessor{client: Dial(in.Socket), waiting: c}, sockets, err
}

// handOver is the predecessor's side: POST /handover.
func (r *Router) handOver(w http.ResponseWriter, _ *http.Request) {
	c, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer c.Close()
	uc, ok := c.(*net.UnixConn)
	if !ok || !r.passing.CompareAndSwap(false, true) {
		return // one successor at a time
	}
	defer r.passing.Store(false)
	aside := fmt.Sprintf("%s.%x", r.cfg.ControlSocket, r.revisionNow())
	if err := os.Rename(r.cfg.ControlSocket, aside); err != nil {
		r.logger.Warn("router could not hand over", "err", err)
		return
	}
	err = r.pass(uc, aside)
	if err == nil {
		r.socket.Store(&aside)
		r.logger.Info("router handed over", "socket", aside)
		close(r.handedOver)
		return
	}
	r.logger.Warn("router could not hand over", "err", err)
	if err := os.Rename(aside, r.cfg.ControlSocket); err != nil {
		r.logger.Error("control socket was lost", "err", err)
	}
}

// pass sends the sockets and returns when the successor serves.
func (r *Router) pass(c *net.UnixConn, aside string) error {
	in := inheritance{Socket: aside}
	var fds []int
	for name, l := range map[string]net.Listener{"http": r.listeners.http, "https": r.listeners.https} {
		tl, ok := l.(*net.TCPListener)
		if !ok {
			continue
		}
		f, err := tl.File()
		if err != nil {
			return err
		}
		defer f.Close()
		in.Listeners = append(in.Listeners, name)
		fds = append(fds, int(f.Fd()))
	}
	b, err := json.Marshal(in)
	if err != nil {
		return err
	}
	_ = c.SetDeadline(time.Now().Add(2 * handoverMax))
	if _, _, err := c.WriteMsgUnix(b, unix.UnixRights(fds...), nil); err != nil {
		return err
	}
	_, err = io.ReadFull(c, make([]byte, 1))
	return err
}

// follow tells the predecessor that this router serves, and watches it until it is gone.
func (r *Router) follow(ctx context.Context, p *predecessor) {
	_, err := p.waiting.Write([]byte{1})
	_ = p.waiting.Close()
	if err == nil {
		err = p.client.Watch(ctx, func(st api.RouterStatus) {
			p.draining.Store(&st.Draining)
			r.changed()
		})
	}
	r.previous.CompareAndSwap(p, nil)
	r.changed()
	if ctx.Err() == nil {
		r.logger.Info("previous router is gone", "err", err)
	}
}

// relay puts a table in force at the predecessor as well, if there is one that answers.
func (r *Router) relay(ctx context.Context, t api.RouteTable) {
	p := r.previous.Load()
	if p == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, relayMax)
	defer cancel()
	st, err := p.client.Apply(ctx, t)
	if err != nil {
		r.logger.Warn("previous router did not take the route table", "version", t.Version, "err", err)
		return
	}
	p.draining.Store(&st.Draining)
}

// inherited lists the draining targets of the predecessor.
func (r *Router) inherited() []api.DrainingTarget {
	if p := r.previous.Load(); p != nil {
		if list := p.draining.Load(); list != nil {
			return *list
		}
	}
	return nil
}

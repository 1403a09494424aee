package client

import (
	"context"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"slipway/api"
	"slipway/api/pb"
)

const (
	// redirectsMax bounds how often one call follows a leader that moves.
	redirectsMax = 3
	// retryMax is how long a call tries other servers when one cannot be reached, retryWait the
	// wait in between.
	retryMax  = 20 * time.Second
	retryWait = 100 * time.Millisecond
)

// Conn is a connection to the servers of a rack: to one at a time, the one that leads where that
// matters. It implements grpc.ClientConnInterface and is safe for concurrent use.
type Conn struct {
	options []grpc.DialOption

	mu    sync.Mutex
	addrs []string // where servers answer, as far as is known
	addr  string
	conn  *grpc.ClientConn
	old   []*grpc.ClientConn // may still carry streams
}

// NewConn returns a connection to the first of some servers. It does not wait for it: the first
// call does.
func NewConn(addrs []string, options ...grpc.DialOption) (*Conn, error) {
	if len(addrs) == 0 {
		return nil, api.Errorf(api.CodeInvalid, "no address of a server is given")
	}
	c := &Conn{options: options, addrs: slices.Clone(addrs)}
	return c, c.move(addrs[0])
}

// SetServers says where servers answer now. The present connection stays.
func (c *Conn) SetServers(addrs []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(addrs) > 0 {
		c.addrs = slices.Clone(addrs)
	}
}

// Redial makes a new connection to the same server for the calls to come: whoever calls has a new
// certificate. Streams that have begun go on where they are, but for when the old connections are no
// good any more: with end, they end.
func (c *Conn) Redial(end bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.connectLocked(c.addr); err != nil || !end {
		return err
	}
	for _, old := range c.old {
		_ = old.Close() // only ErrClientConnClosing, which says what is wanted
	}
	c.old = nil
	return nil
}

// move connects to another server.
func (c *Conn) move(addr string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if addr == c.addr {
		return nil
	}
	return c.connectLocked(addr)
}

// connectLocked connects to a server for the calls to come.
func (c *Conn) connectLocked(addr string) error {
	conn, err := grpc.NewClient("passthrough:///"+addr, slices.Concat(connectionOptions(addr), c.options)...)
	if err != nil {
		return api.Errorf(api.CodeInvalid, "connect to the rack at %s: %w", addr, err)
	}
	if c.conn != nil {
		c.old = append(c.old, c.conn)
	}
	for len(c.old) > oldMax { // their streams have ended, or have been replaced
		_ = c.old[0].Close() // only ErrClientConnClosing, which says what is wanted
		c.old = c.old[1:]
	}
	c.addr, c.conn = addr, conn
	return nil
}

// oldMax is how many former connections may still carry streams.
const oldMax = 4

// next connects to the server after the one at addr, unless that happened already. It reports
// whether there is another.
func (c *Conn) next(addr string) bool {
	c.mu.Lock()
	i, n, moved := slices.Index(c.addrs, addr), len(c.addrs), c.addr != addr
	to := c.addrs[(i+1)%n]
	c.mu.Unlock()
	return moved || to != addr && c.move(to) == nil
}

func (c *Conn) current() (*grpc.ClientConn, string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.conn, c.addr
}

// Close ends the connection, and every call on it.
func (c *Conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, old := range c.old {
		_ = old.Close() // only ErrClientConnClosing, which says what is wanted
	}
	return c.conn.Close()
}

// Invoke implements grpc.ClientConnInterface. A call that meets a server that does not lead
// follows its word; one that meets none tries the others. Writes carry a request ID, so that one
// whose answer was lost is not done twice.
func (c *Conn) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	began := time.Now()
	for redirects := 0; ; {
		conn, addr := c.current()
		var trailer metadata.MD
		err := conn.Invoke(ctx, method, args, reply, append(opts, grpc.Trailer(&trailer))...)
		to := trailer.Get(pb.LeaderKey)
		switch code := status.Code(err); {
		case code == codes.Aborted && len(to) > 0 && redirects < redirectsMax:
			redirects++
			if err := c.move(to[0]); err != nil {
				return err
			}
		case code == codes.Unavailable && ctx.Err() == nil && time.Since(began) < retryMax && c.next(addr):
			select {
			case <-ctx.Done():
				return err
			case <-time.After(retryWait):
			}
		default:
			return err
		}
	}
}

// NewStream implements grpc.ClientConnInterface. A server that cannot be reached is followed by
// the next; streams that have begun are their users' to begin again.
func (c *Conn) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	conn, addr := c.current()
	stream, err := conn.NewStream(ctx, desc, method, opts...)
	for range len(c.known()) {
		if status.Code(err) != codes.Unavailable || ctx.Err() != nil || !c.next(addr) {
			break
		}
		conn, addr = c.current()
		stream, err = conn.NewStream(ctx, desc, method, opts...)
	}
	return stream, err
}

func (c *Conn) known() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.addrs
}

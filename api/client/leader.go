package client

import (
	"context"
	"slices"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"slipway/api"
)

// LeaderKey is the trailer in which a server that does not lead the rack names the address of
// the one that does.
const LeaderKey = "slipway-leader"

// redirectsMax bounds how often one call follows a leader that moves.
const redirectsMax = 3

// leader is a connection to whichever server leads the rack.
type leader struct {
	options []grpc.DialOption

	mu   sync.Mutex
	addr string
	conn *grpc.ClientConn
	old  []*grpc.ClientConn // may still carry streams
}

// move connects to another server.
func (l *leader) move(addr string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if addr == l.addr {
		return nil
	}
	conn, err := grpc.NewClient("passthrough:///"+addr, slices.Concat(connectionOptions(addr), l.options)...)
	if err != nil {
		return api.Errorf(api.CodeInvalid, "connect to the rack at %s: %w", addr, err)
	}
	if l.conn != nil {
		l.old = append(l.old, l.conn)
	}
	l.addr, l.conn = addr, conn
	return nil
}

func (l *leader) current() *grpc.ClientConn {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.conn
}

func (l *leader) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.old {
		_ = c.Close() // only ErrClientConnClosing, which says what is wanted
	}
	return l.conn.Close()
}

// Invoke implements grpc.ClientConnInterface. A call that meets a server that does not lead
// follows its word.
func (l *leader) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	for try := 0; ; try++ {
		var trailer metadata.MD
		err := l.current().Invoke(ctx, method, args, reply, append(opts, grpc.Trailer(&trailer))...)
		to := trailer.Get(LeaderKey)
		if status.Code(err) != codes.Aborted || len(to) == 0 || try == redirectsMax {
			return err
		}
		if err := l.move(to[0]); err != nil {
			return err
		}
	}
}

// NewStream implements grpc.ClientConnInterface. Streams are read from any server.
func (l *leader) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	return l.current().NewStream(ctx, desc, method, opts...)
}

package server

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"slipway/api/machine"
	"slipway/server/rest"
)

// inside is a listener for this process alone: what serves HTTP calls the gRPC server through it,
// and is authorised, passed on to the leader and recorded like everybody else.
type inside struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newInside() *inside { return &inside{conns: make(chan net.Conn), closed: make(chan struct{})} }

// Accept implements net.Listener.
func (l *inside) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *inside) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// Addr implements net.Listener.
func (*inside) Addr() net.Addr { return insideAddr{} }

type insideAddr struct{}

func (insideAddr) Network() string { return "inside" }
func (insideAddr) String() string  { return "inside" }

// dial opens a connection to whoever serves the listener.
func (l *inside) dial(ctx context.Context, _ string) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case l.conns <- far:
		return near, nil
	case <-l.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// openInside connects this process with its own gRPC server.
func (s *Server) openInside() (err error) {
	s.inside = newInside()
	s.insideConn, err = grpc.NewClient("passthrough:///inside", grpc.WithContextDialer(s.inside.dial), grpc.WithNoProxy(),
		grpc.WithTransportCredentials(credentials.NewTLS(s.identity.Client(machine.RoleServer))),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(messageMax), grpc.MaxCallSendMsgSize(messageMax)))
	if err != nil {
		return fmt.Errorf("connect to this server: %w", err)
	}
	return nil
}

// routes are what the HTTPS listener serves.
func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/v2/", s.machinesNeedNoPassword(s.registry))
	s.routePeers(mux)
	mux.Handle("GET /metrics", s.measured(promhttp.HandlerFor(s.cfg.Metrics, promhttp.HandlerOpts{})))
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) {
		if _, addr := s.store.Leader(); addr == "" {
			http.Error(w, "the rack has no leader", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	mux.Handle("/", rest.New(rest.Config{
		Conn: s.insideConn, Sources: sourceFiles{s.sources, s}, Now: time.Now, Log: s.cfg.Log.With("part", "rest"),
	}))
	return mux
}

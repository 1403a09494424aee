package fleet

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"slipway/api"
	"slipway/api/client"
	"slipway/api/machine"
	"slipway/api/pb"
)

// Join makes n nodes join the rack, each with a key and a certificate of its own. They share the
// connection that they join by, which real ones do not, and keep what they get in memory.
func (f *Fleet) join(ctx context.Context, n int) error {
	token, err := os.ReadFile(f.servers.file("join-agent.token"))
	if err != nil {
		return err
	}
	secret, _, err := machine.ParseJoinToken(string(token))
	if err != nil {
		return err
	}
	authorities, err := os.ReadFile(f.servers.file("machine/trust.pem"))
	if err != nil {
		return err
	}
	trust, err := machine.NewTrust(authorities)
	if err != nil {
		return err
	}
	conn, err := client.NewConn(f.servers.Addrs(), grpc.WithTransportCredentials(credentials.NewTLS(trust.Client())), grpc.WithNoProxy())
	if err != nil {
		return err
	}
	defer conn.Close()
	first := len(f.agents)
	f.agents = append(f.agents, make([]*agent, n)...)
	var group errgroup.Group
	group.SetLimit(4 * runtime.NumCPU())
	for i := first; i < first+n; i++ {
		group.Go(func() (err error) {
			f.agents[i], err = f.admit(ctx, pb.NewMachinesClient(conn), secret, i)
			return err
		})
	}
	return group.Wait()
}

// admit makes one node join.
func (f *Fleet) admit(ctx context.Context, machines pb.MachinesClient, secret string, i int) (*agent, error) {
	key, request, err := machine.NewRequest()
	if err != nil {
		return nil, err
	}
	id := fmt.Sprintf("n%06d", i)
	reply, err := machines.Join(ctx, &pb.JoinRequest{Role: machine.RoleAgent, Id: id, Host: []string{"127.0.0.1"}, Token: secret, Request: request})
	if err != nil {
		return nil, fmt.Errorf("node %s joins: %w", id, pb.FromError(err))
	}
	cert := tls.Certificate{PrivateKey: key}
	for rest := reply.Certificate.Chain; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		cert.Certificate = append(cert.Certificate, block.Bytes)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(reply.Certificate.Trust)
	a := &agent{fleet: f, id: api.NodeID(id), wake: make(chan struct{}, 1), has: map[api.ProcessID]held{},
		pending: map[api.ProcessID]api.ProcessStatus{}, sent: map[uint64]map[api.ProcessID]api.ProcessStatus{}}
	conf := &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert}, RootCAs: pool, ServerName: "localhost"}
	a.conn, err = client.NewConn(f.servers.Addrs(), grpc.WithTransportCredentials(credentials.NewTLS(conf)), grpc.WithNoProxy(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)), grpc.WithContextDialer(a.dial),
		grpc.WithReadBufferSize(8<<10), grpc.WithWriteBufferSize(8<<10))
	return a, err
}

// dial opens a connection that ends with the power of the machine.
func (a *agent) dial(ctx context.Context, addr string) (net.Conn, error) {
	if a.dead.Load() {
		return nil, errors.New("the machine has no power")
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return &line{Conn: conn, agent: a}, nil
}

// line is a connection of a machine. When that loses its power the other end hears nothing more,
// not even an end.
type line struct {
	net.Conn
	agent *agent
}

// Write sends, and loses what a dead machine has not sent.
func (l *line) Write(b []byte) (int, error) {
	if l.agent.dead.Load() {
		return len(b), nil
	}
	return l.Conn.Write(b)
}

// Read receives; a dead machine takes nothing.
func (l *line) Read(b []byte) (int, error) {
	for {
		n, err := l.Conn.Read(b)
		if !l.agent.dead.Load() {
			return n, err
		}
		if err != nil {
			<-l.agent.fleet.ctx.Done()
			return 0, err
		}
	}
}

// Close ends the connection with the fleet's own end only, when the machine is dead.
func (l *line) Close() error {
	if l.agent.dead.Load() && l.agent.fleet.ctx.Err() == nil {
		return nil
	}
	return l.Conn.Close()
}

var _ net.Conn = (*line)(nil)

// handshakes is how many machines connect at once.
const handshakes = 64

// retry is the wait before an agent attaches again.
const retry = 200 * time.Millisecond

package client

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"slipway/api"
	"slipway/api/machine"
	"slipway/api/pb"
)

// messageMax bounds one message in either direction, in bytes.
const messageMax = 32 << 20

// Context is what is needed to reach a rack.
type Context struct {
	// Addr is "host:port" of a server.
	Addr string `json:"addr"`
	// Others are addresses of further servers, for when that one is gone.
	Others []string `json:"others,omitempty"`
	// CA is the PEM of the rack's certificate authority; empty trusts those of the machine.
	CA string `json:"ca,omitempty"`
	// Token is the secret of an access token.
	Token string `json:"token"`
	// Dial opens connections to servers; nil dials TCP.
	Dial func(ctx context.Context, addr string) (net.Conn, error) `json:"-"`
}

// Client is a connection to a rack.
type Client struct {
	conns *Conn          // nil when somebody else keeps the connection
	trust *machine.Trust // nil for the authorities of the machine
	rpc   pb.ControlClient
}

// New returns a client whose calls go over a connection that its caller keeps and closes. The
// connection says who calls.
func New(conn grpc.ClientConnInterface) *Client { return &Client{rpc: pb.NewControlClient(conn)} }

// Dial returns a client. It does not wait for a connection: the first call does.
func Dial(_ context.Context, c Context) (*Client, error) {
	if c.Addr == "" {
		return nil, api.Errorf(api.CodeInvalid, "no address of a rack is given")
	}
	if _, _, err := net.SplitHostPort(c.Addr); err != nil {
		return nil, api.Errorf(api.CodeInvalid, "address of the rack %.80q is not host:port", c.Addr)
	}
	conf, trust := &tls.Config{MinVersion: tls.VersionTLS13}, (*machine.Trust)(nil)
	if c.CA != "" {
		var err error
		if trust, err = machine.NewTrust([]byte(c.CA)); err != nil {
			return nil, api.Errorf(api.CodeInvalid, "the CA of the rack at %s is not a PEM certificate", c.Addr)
		}
		conf = trust.Client()
	}
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(credentials.NewTLS(conf)),
		grpc.WithPerRPCCredentials(token(c.Token)),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(messageMax), grpc.MaxCallSendMsgSize(messageMax)),
		grpc.WithNoProxy(),
	}
	if c.Dial != nil {
		options = append(options, grpc.WithContextDialer(c.Dial))
	}
	conns, err := NewConn(append([]string{c.Addr}, c.Others...), options...)
	if err != nil {
		return nil, err
	}
	return &Client{conns: conns, trust: trust, rpc: pb.NewControlClient(conns)}, nil
}

// CA returns the PEM of the rack's authorities as the servers told them last: it differs from that of
// the Context when the rack is replacing its authority, or has replaced it, and is what to remember.
func (c *Client) CA() string {
	if c.trust == nil {
		return ""
	}
	return string(c.trust.PEM())
}

// Close ends the connection, and every call on it. A connection that was given to New stays.
func (c *Client) Close() error {
	if c.conns == nil {
		return nil
	}
	return c.conns.Close()
}

// token is a secret that goes along with every call.
type token string

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (t token) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(t)}, nil
}

// RequireTransportSecurity implements credentials.PerRPCCredentials: a secret never travels in
// the clear.
func (token) RequireTransportSecurity() bool { return true }

// requestID draws the ID of a writing call.
func requestID() string {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // never fails, by its contract
	return hex.EncodeToString(b)
}

// one reads an answer that is one noun.
func one[T any](d *pb.Document, err error) (T, error) {
	if err != nil {
		var zero T
		return zero, pb.FromError(err)
	}
	return pb.Unmarshal[T](d.GetJson())
}

// many reads an answer that is a list.
func many[T any](d *pb.Documents, err error) ([]T, error) {
	if err != nil {
		return nil, pb.FromError(err)
	}
	return pb.List[T](d)
}

// done reads an answer that is empty.
func done(_ *pb.Empty, err error) error { return pb.FromError(err) }

// wrap adds what was done to an error that no rack sent.
func wrap(op string, err error) error { return fmt.Errorf("%s: %w", op, err) }

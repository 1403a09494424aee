package client

import (
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
)

// The patience of a connection.
const (
	dialMax    = 10 * time.Second
	silenceMax = 20 * time.Second // of the rack, during a call, before it is asked for a sign of life
	signMax    = 10 * time.Second // for that sign
	idleMax    = 10 * time.Second // without a call, before the connection ends; the next call makes another
)

// window is how many bytes may be on their way to who has not read them yet.
const window = 1 << 20

// connectionOptions make a connection to one server that notices when the server is gone, and
// says in words of ours what is wrong with it.
func connectionOptions(addr string) []grpc.DialOption {
	wait := backoff.DefaultConfig
	wait.MaxDelay = time.Second
	return []grpc.DialOption{
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: wait, MinConnectTimeout: dialMax}),
		// A server that leads no more is not kept busy by those who have left it.
		grpc.WithIdleTimeout(idleMax),
		// Fixed windows save the messages by which gRPC measures a connection, after each small message.
		grpc.WithInitialWindowSize(window), grpc.WithInitialConnWindowSize(window),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: silenceMax, Timeout: signMax}),
		grpc.WithChainUnaryInterceptor(func(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, call grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			return explain(addr, call(ctx, method, req, reply, conn, opts...))
		}),
		grpc.WithChainStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
			stream, err := open(ctx, desc, conn, method, opts...)
			if err != nil {
				return nil, explain(addr, err)
			}
			return &explainedStream{stream, addr}, nil
		}),
	}
}

// explainedStream explains the errors of a stream.
type explainedStream struct {
	grpc.ClientStream
	addr string
}

// RecvMsg receives a message.
func (s *explainedStream) RecvMsg(m any) error { return explain(s.addr, s.ClientStream.RecvMsg(m)) }

// SendMsg sends a message; io.EOF means that RecvMsg has the reason.
func (s *explainedStream) SendMsg(m any) error { return explain(s.addr, s.ClientStream.SendMsg(m)) }

// The words with which gRPC begins what went wrong with a connection.
const (
	handshakeFailed = "transport: authentication handshake failed: "
	tooLarge        = "larger than max"
)

// explain turns what gRPC says of a connection into what a user can act on. What a rack has
// answered stays as it is.
func explain(addr string, err error) error {
	s, ok := status.FromError(err)
	if err == nil || errors.Is(err, io.EOF) || !ok {
		return err
	}
	text := s.Message()
	switch {
	case s.Code() == codes.Unavailable && strings.Contains(text, handshakeFailed) && strings.Contains(text, "tls: "):
		return status.Errorf(codes.Unavailable,
			"the server at %s does not prove to be the rack: %s; log in with the CA of the rack: slipway login %s --ca FILE",
			addr, cause(text, handshakeFailed), addr)
	case s.Code() == codes.Unavailable && strings.Contains(text, "connection error"):
		return status.Errorf(codes.Unavailable, "the rack at %s does not answer: %s; is it running, and is the address right?",
			addr, cause(text, "desc = \"transport: "))
	case s.Code() == codes.Unavailable && fromTransport(text):
		return status.Errorf(codes.Unavailable, "the connection to the rack at %s broke: %s", addr, text)
	case s.Code() == codes.ResourceExhausted && strings.Contains(text, tooLarge):
		return status.Errorf(codes.ResourceExhausted, "the request or its answer is too large for one message (%s)",
			strings.TrimPrefix(text, "grpc: "))
	}
	return err
}

// fromTransport reports whether a text is gRPC's own and not that of a rack.
func fromTransport(text string) bool {
	for _, begin := range []string{"error reading from server", "closing transport", "transport is closing", "the connection is ", "keepalive ping failed", "stream terminated by RST_STREAM"} {
		if strings.Contains(text, begin) {
			return true
		}
	}
	return false
}

// cause returns what follows a mark, out of the quotes that gRPC puts around it.
func cause(text, mark string) string {
	if _, after, ok := strings.Cut(text, mark); ok {
		text = after
	}
	rest := strings.TrimPrefix(strings.TrimSuffix(text, `"`), "Error while dialing: ")
	return strings.ReplaceAll(rest, `\"`, `"`)
}

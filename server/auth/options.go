package auth

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/tap"
)

// What one connection may cost a server.
const (
	messageMax  = 32 << 20 // bytes of one message
	headerMax   = 64 << 10 // bytes of the head of one call
	streamsMax  = 5000     // calls at once
	greetingMax = 20 * time.Second
	pingMin     = 5 * time.Second // between two pings of a client
)

// ServerOptions guard a gRPC server: who has no right to a method is turned away before a byte
// of the request is read, and no connection costs more than its share.
func (g *Guard) ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.InTapHandle(g.tap()), grpc.UnaryInterceptor(g.Unary()), grpc.StreamInterceptor(g.Stream()),
		grpc.MaxRecvMsgSize(messageMax), grpc.MaxSendMsgSize(messageMax),
		grpc.MaxHeaderListSize(headerMax), grpc.MaxConcurrentStreams(streamsMax), grpc.ConnectionTimeout(greetingMax),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: pingMin, PermitWithoutStream: true}),
	}
}

// tap sees the head of a call. What depends on the request is left to the interceptors.
func (g *Guard) tap() tap.ServerInHandle {
	table := rules()
	return func(ctx context.Context, call *tap.Info) (context.Context, error) {
		_, _, err := g.admit(ctx, table, call.FullMethodName)
		return ctx, err
	}
}

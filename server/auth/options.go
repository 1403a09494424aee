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
//
// Calls that before passes on to another server are that server's to judge; nil passes on nothing.
func (g *Guard) ServerOptions(before Passer) []grpc.ServerOption {
	unary, stream := g.Unary(), g.Stream()
	tap := grpc.InTapHandle(g.tap(before))
	if before == nil {
		return g.options(tap, grpc.UnaryInterceptor(unary), grpc.StreamInterceptor(stream))
	}
	return g.options(tap, grpc.ChainUnaryInterceptor(before.Unary, unary), grpc.ChainStreamInterceptor(before.Stream, stream))
}

// Passer passes calls on to another server.
type Passer interface {
	Unary(ctx context.Context, request any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error)
	Stream(srv any, in grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error
	// Passes reports whether a call of a method would be passed on now.
	Passes(method string) bool
}

func (g *Guard) options(guards ...grpc.ServerOption) []grpc.ServerOption {
	return append(guards,
		grpc.MaxRecvMsgSize(messageMax), grpc.MaxSendMsgSize(messageMax),
		grpc.MaxHeaderListSize(headerMax), grpc.MaxConcurrentStreams(streamsMax), grpc.ConnectionTimeout(greetingMax),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: pingMin, PermitWithoutStream: true}),
	)
}

// tap sees the head of a call. What depends on the request is left to the interceptors.
func (g *Guard) tap(before Passer) tap.ServerInHandle {
	table := rules()
	return func(ctx context.Context, call *tap.Info) (context.Context, error) {
		if before != nil && before.Passes(call.FullMethodName) {
			return ctx, nil
		}
		_, _, err := g.admit(ctx, table, call.FullMethodName)
		return ctx, err
	}
}

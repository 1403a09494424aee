package health

import (
	"context"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// askHealth asks a server by the health protocol of gRPC, for the server as a whole. One that does
// not know the protocol has answered a call, which is more than a connection proves: it is healthy.
// Of one that knows the protocol but not the name "", the same holds.
func askHealth(ctx context.Context, hostport string) error {
	// Dialled here: a connection that is refused is the usual answer of a process that starts, and
	// costs nothing this way.
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", hostport)
	if err != nil {
		return err
	}
	defer conn.Close()
	var used atomic.Bool
	client, err := grpc.NewClient("passthrough:///"+hostport,
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy(), grpc.WithDisableServiceConfig(), grpc.WithDisableRetry(),
		grpc.WithUserAgent("slipway-health"), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(bodyMax)),
		grpc.WithMaxHeaderListSize(headMax),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) {
			if used.Swap(true) {
				return nil, fmt.Errorf("the server closed the connection")
			}
			return conn, nil
		}))
	if err != nil {
		return err
	}
	defer client.Close()
	reply, err := grpc_health_v1.NewHealthClient(client).Check(ctx, &grpc_health_v1.HealthCheckRequest{})
	switch code := status.Code(err); {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case code == codes.Unimplemented || code == codes.NotFound:
		return nil
	case code == codes.DeadlineExceeded && due(ctx):
		return context.DeadlineExceeded // the server, which knows the deadline, noticed first
	case code == codes.Unavailable:
		return fmt.Errorf("no answer in gRPC: %s", status.Convert(err).Message())
	case err != nil:
		return fmt.Errorf("answered %s: %s", code, status.Convert(err).Message())
	case reply.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING:
		return fmt.Errorf("answered %s", reply.GetStatus())
	}
	return nil
}

// dueSoon is how much earlier than we a server may find that a deadline has passed.
const dueSoon = 50 * time.Millisecond

// due reports whether the deadline of a call has passed, or is about to.
func due(ctx context.Context) bool {
	at, ok := ctx.Deadline()
	return ok && time.Until(at) < dueSoon
}

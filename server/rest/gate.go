package rest

import (
	"context"
	"path"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"slipway/api"
)

// gate is the connection of one request: it carries the secret of the caller, and lets through the
// calls that the route names.
type gate struct {
	conn   grpc.ClientConnInterface
	secret string
	calls  []string
}

// Invoke implements grpc.ClientConnInterface.
func (g *gate) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	if err := g.check(method); err != nil {
		return err
	}
	return g.conn.Invoke(g.as(ctx), method, args, reply, opts...)
}

// NewStream implements grpc.ClientConnInterface.
func (g *gate) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	if err := g.check(method); err != nil {
		return nil, err
	}
	return g.conn.NewStream(g.as(ctx), desc, method, opts...)
}

func (g *gate) as(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+g.secret)
}

// check refuses what the route does not name: that is a defect of the table.
func (g *gate) check(method string) error {
	if !slices.Contains(g.calls, path.Base(method)) {
		return api.Errorf(api.CodeInternal, "the route does not name the call %s", path.Base(method))
	}
	return nil
}

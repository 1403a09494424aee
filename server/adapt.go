package server

import (
	"context"
	"io"

	"slipway/api"
	"slipway/api/pb"
	"slipway/server/auth"
	"slipway/server/control"
	"slipway/server/dispatch"
	"slipway/server/objects"
)

// The subpackages of server do not know one another; these types join them.

// sourceFiles shows the object store to control and dispatch.
type sourceFiles struct{ *objects.Store }

// Open opens a source.
func (s sourceFiles) Open(digest string) (io.ReadCloser, error) {
	f, err := s.Store.Open(digest)
	if err != nil {
		return nil, err
	}
	return f, nil
}

// tunnels shows dispatch to control.
type tunnels struct{ dispatch *dispatch.Server }

// OpenStream opens a stream to the agent of a node.
func (t tunnels) OpenStream(ctx context.Context, node api.NodeID, open *pb.Open) (control.Stream, error) {
	s, err := t.dispatch.Open(ctx, node, open)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// callers shows auth to control.
type callers struct{}

func (callers) Actor(ctx context.Context) string                  { return auth.Actor(ctx) }
func (callers) Visible(ctx context.Context, app api.AppName) bool { return auth.Visible(ctx, app) }
func (callers) Enters(ctx context.Context) bool                   { return auth.Enters(ctx) }
func (callers) Administers(ctx context.Context) bool              { return auth.Administers(ctx) }

// NewToken draws the secret of a token.
func (callers) NewToken() (secret string, hash []byte) {
	secret = auth.NewSecret()
	return secret, auth.Hash(secret)
}

package client

import (
	"context"
	"errors"
	"io"

	"slipway/api"
	"slipway/api/pb"
)

// Servers describes the servers of the rack.
func (c *Client) Servers(ctx context.Context) ([]api.Server, error) {
	return many[api.Server](c.rpc.ListServers(ctx, &pb.ListServersRequest{}))
}

// RemoveServer ends the membership of a server, named by its ID or its name.
func (c *Client) RemoveServer(ctx context.Context, server string) error {
	return done(c.rpc.RemoveServer(ctx, &pb.ServerRequest{Server: server, RequestId: requestID()}))
}

// RotateJoinToken replaces the token that machines of a role join with, "server" or "agent", and
// returns the new one, which nobody can be told again.
func (c *Client) RotateJoinToken(ctx context.Context, role string) (string, error) {
	reply, err := c.rpc.RotateJoinToken(ctx, &pb.RotateJoinTokenRequest{Role: role, RequestId: requestID()})
	return reply.GetSecret(), pb.FromError(err)
}

// Backup writes all that is needed to restore the rack, encrypted with a passphrase.
func (c *Client) Backup(ctx context.Context, w io.Writer, passphrase string) error {
	stream, err := c.rpc.Backup(ctx, &pb.BackupRequest{Passphrase: passphrase})
	if err != nil {
		return pb.FromError(err)
	}
	return writePieces(stream.Recv, "write the backup", w)
}

// writePieces writes what a stream brings until its end. doing says what fails when w does.
func writePieces[M interface{ GetData() []byte }](recv func() (M, error), doing string, w io.Writer) error {
	for {
		piece, err := recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return pb.FromError(err)
		}
		if _, err := w.Write(piece.GetData()); err != nil {
			return wrap(doing, err)
		}
	}
}

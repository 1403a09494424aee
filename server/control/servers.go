package control

import (
	"bufio"
	"context"
	"slices"
	"strings"

	"google.golang.org/grpc"

	"slipway/api"
	"slipway/api/machine"
	"slipway/api/pb"
	"slipway/raftstore/state"
)

// Members are the servers of the rack, as the leader sees them.
type Members interface {
	// Servers describes them.
	Servers() ([]api.Server, error)
	// RemoveServer ends the membership of one; the entry says who wants it, and why.
	RemoveServer(ctx context.Context, id string, as state.Entry) error
}

// ListServers describes the servers, by name.
func (s *Server) ListServers(ctx context.Context, _ *pb.ListServersRequest) (*pb.Documents, error) {
	if _, err := s.read(ctx); err != nil {
		return nil, pb.Error(err)
	}
	servers, err := s.servers()
	return docs(servers, err)
}

func (s *Server) servers() ([]api.Server, error) {
	if s.cfg.Members == nil {
		return []api.Server{}, nil
	}
	servers, err := s.cfg.Members.Servers()
	slices.SortFunc(servers, func(a, b api.Server) int { return strings.Compare(a.Name+" "+a.ID, b.Name+" "+b.ID) })
	return servers, err
}

// RemoveServer ends the membership of a server, named by its ID or its name.
func (s *Server) RemoveServer(ctx context.Context, r *pb.ServerRequest) (*pb.Empty, error) {
	servers, err := s.servers()
	if err != nil {
		return nil, pb.Error(err)
	}
	var found []string
	var known []string
	for _, one := range servers {
		known = append(known, one.ID, one.Name)
		if one.ID == r.GetServer() || one.Name == r.GetServer() {
			found = append(found, one.ID)
		}
	}
	switch {
	case len(found) == 0:
		return nil, pb.Error(api.NotFound("server", r.GetServer(), known))
	case len(found) > 1:
		return nil, pb.Error(api.Errorf(api.CodeConflict, "%d servers are called %q; use the ID: %s", len(found), r.GetServer(), strings.Join(found, ", ")))
	}
	req := s.request(ctx, r.GetRequestId())
	return done(s.cfg.Members.RemoveServer(ctx, found[0], state.Entry{At: s.cfg.Now(), Actor: req.actor, Reason: req.reason}))
}

// RotateJoinToken replaces the token that machines of a role join with. The one before is worth
// nothing from then on; machines that are part of the rack do not notice.
func (s *Server) RotateJoinToken(ctx context.Context, r *pb.RotateJoinTokenRequest) (*pb.CreateTokenReply, error) {
	v, err := s.read(ctx)
	if err != nil {
		return nil, pb.Error(err)
	}
	if r.GetRole() != machine.RoleServer && r.GetRole() != machine.RoleAgent {
		return nil, pb.Error(api.Errorf(api.CodeInvalid, "machines join as server or agent, not as %.40q", r.GetRole()))
	}
	authority, ok := v.Authority()
	if !ok {
		return nil, pb.Error(api.Errorf(api.CodeUnavailable, "the rack has no authority yet; try again in a moment"))
	}
	name := "join-" + r.GetRole()
	secret, hash := s.cfg.Callers.NewToken()
	t := state.Token{ID: name, Name: name, Role: name, Hash: hash, Created: s.cfg.Now().UTC(), Pins: authority.Fingerprint}
	res, err := s.propose(ctx, s.request(ctx, r.GetRequestId()), "token", state.PutToken{Token: t})
	if err != nil {
		return nil, pb.Error(err)
	}
	if res.Duplicate {
		return nil, pb.Error(api.Errorf(api.CodeConflict, "this request has replaced the token before, and it is told once only; ask again: slipway rack join-token %s", r.GetRole()))
	}
	return &pb.CreateTokenReply{Token: pb.Marshal(tokenInfo(&t)), Secret: machine.JoinToken(secret, authority.Fingerprint)}, nil
}

// Backup streams all that is needed to restore the rack.
func (s *Server) Backup(r *pb.BackupRequest, stream grpc.ServerStreamingServer[pb.BackupChunk]) error {
	if s.cfg.Backup == nil {
		return pb.Error(api.Errorf(api.CodeUnavailable, "this server makes no backups"))
	}
	out := bufio.NewWriterSize(pieces(func(b []byte) error { return stream.Send(&pb.BackupChunk{Data: b}) }), pieceSize)
	if err := s.cfg.Backup(stream.Context(), out, r.GetPassphrase()); err != nil {
		return pb.Error(err)
	}
	return pb.Error(out.Flush())
}

// pieceSize is the size of the pieces of a stream of bytes.
const pieceSize = 256 << 10

// pieces sends what is written, each write as one piece.
type pieces func([]byte) error

// Write implements io.Writer.
func (send pieces) Write(b []byte) (int, error) {
	if err := send(b); err != nil {
		return 0, err
	}
	return len(b), nil
}

package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"slipway/api"
	"slipway/api/machine"
	"slipway/api/pb"
	"slipway/raftstore"
	"slipway/raftstore/state"
	"slipway/server/auth"
)

// machines is the service that machines join by and renew their certificates with.
type machines struct {
	pb.UnimplementedMachinesServer
	server *Server
}

// Join admits a machine that holds the token of its role. A server is a member of the quorum, as
// yet without a vote, when this returns.
func (m machines) Join(ctx context.Context, r *pb.JoinRequest) (*pb.JoinReply, error) {
	reply, err := m.join(ctx, r)
	if err != nil {
		m.server.cfg.Log.Warn("a machine was not let in", "role", r.Role, "id", r.Id, "err", err)
		return nil, pb.Error(err)
	}
	m.server.cfg.Log.Info("a machine has joined", "role", r.Role, "id", r.Id)
	return reply, nil
}

func (m machines) join(ctx context.Context, r *pb.JoinRequest) (*pb.JoinReply, error) {
	s := m.server
	want := map[string]string{machine.RoleServer: auth.RoleJoinServer, machine.RoleAgent: auth.RoleJoinAgent}[r.Role]
	if want == "" {
		return nil, api.Errorf(api.CodeInvalid, "a machine joins as server or agent, not as %q", r.Role)
	}
	who, err := s.guard.Identify(r.Token)
	if err != nil {
		return nil, api.Errorf(api.CodeDenied, "the join token is not valid, or was replaced; get a new one with: slipway rack join-token %s", r.Role)
	}
	if who.Role != want {
		return nil, api.Errorf(api.CodeDenied, "this token lets machines join with the role %s, not as %s; get the right one with: slipway rack join-token %s",
			strings.TrimPrefix(who.Role, "join-"), r.Role, r.Role)
	}
	v := s.store.View()
	if t, ok := v.TokenByHash(auth.Hash(r.Token)); ok && t.Pins != "" && !slices.Contains(v.Trusted(), t.Pins) {
		return nil, api.Errorf(api.CodeDenied, "the join token is of before the rack's authority was replaced; get a new one with: slipway rack join-token %s", r.Role)
	}
	if err := free(v, r); err != nil {
		return nil, err
	}
	name := machine.Name{Cluster: v.Rack().ClusterID, Role: r.Role, ID: r.Id}
	cert, err := s.authority.certify(name, r.Host, r.Request)
	if err != nil {
		return nil, err
	}
	reply := &pb.JoinReply{Certificate: cert, Rack: v.Rack().Name, ClusterId: v.Rack().ClusterID, Servers: serverAddresses(v, s.leaderID())}
	if r.Role == machine.RoleServer {
		err = s.admitServer(ctx, r, reply)
	}
	return reply, err
}

// identities are what machines call themselves.
var identities = regexp.MustCompile(`^[a-zA-Z0-9-]{1,64}$`)

// free reports whether a machine may have the identity that it asks for. One that is in use is
// refused: a stolen token must not let anybody pose as a machine that is there.
func free(v *state.View, r *pb.JoinRequest) error {
	if !identities.MatchString(r.Id) {
		return api.Errorf(api.CodeInvalid, "the identity of a machine is letters, digits and dashes, not %.80q", r.Id)
	}
	_, known := v.Node(api.NodeID(r.Id))
	if r.Role == machine.RoleServer {
		_, known = v.Server(r.Id)
	}
	switch {
	case known:
		return api.Errorf(api.CodeConflict, "%s %s is part of the rack already; empty the data directory of the new machine, so that it gets an identity of its own", r.Role, r.Id)
	case r.Role == machine.RoleAgent && v.Removed(api.NodeID(r.Id)):
		return api.Errorf(api.CodeDenied, "node %s was removed from the rack; empty its data directory and let it join anew", r.Id)
	}
	return nil
}

// admitServer makes a server a member and tells it what servers share.
func (s *Server) admitServer(ctx context.Context, r *pb.JoinRequest, reply *pb.JoinReply) (err error) {
	if s.cfg.GossipAddr == "" {
		return api.Errorf(api.CodeConflict, "this rack was made for one server: its addresses lead nowhere else; make it with: slipwayd server --bootstrap --advertise IP")
	}
	var about api.Server
	if err := json.Unmarshal(r.Server, &about); err != nil || about.Raft == "" {
		return api.Errorf(api.CodeInvalid, "the server does not say where it is reached")
	}
	about.ID = r.Id
	if format := s.store.View().Format(); !about.Formats.Reads(format) {
		return api.Errorf(api.CodeConflict, "the rack has format %d, and slipway %s of the new server reads formats %s; install version %s there", format, about.Version, about.Formats, s.cfg.Version)
	}
	if reply.Keyring, err = s.keyring.Export(); err != nil {
		return err
	}
	if reply.Epoch, err = raftstore.Epoch(raftDir(s.cfg)); err != nil {
		return err
	}
	if err := s.store.Admit(raftstore.Member{ID: about.ID, Addr: about.Raft}); err != nil {
		return fmt.Errorf("admit server %s: %w", about.Name, err)
	}
	res, err := s.store.Propose(ctx, state.Entry{At: time.Now(), Actor: "rack", Command: state.PutServer{Server: about}})
	if err == nil && res.Err != nil { // the format was raised meanwhile
		return errors.Join(res.Err, s.store.Remove(about.ID))
	}
	return err
}

// Renew signs a new certificate for the machine that calls.
func (m machines) Renew(ctx context.Context, r *pb.RenewRequest) (*pb.Certificate, error) {
	who, _ := auth.Caller(ctx)
	role, id, _ := strings.Cut(who.Name, "/")
	name := machine.Name{Cluster: m.server.store.View().Rack().ClusterID, Role: machine.RoleAgent, ID: id}
	if role == "server" {
		name.Role = machine.RoleServer
	}
	if m.server.removed(name) {
		return nil, pb.Error(api.Errorf(api.CodeDenied, "%s was removed from the rack", name))
	}
	cert, err := m.server.authority.certify(name, r.Host, r.Request)
	if err != nil {
		return nil, pb.Error(err)
	}
	return cert, nil
}

// removed reports whether a machine must not have a new certificate.
func (s *Server) removed(name machine.Name) bool {
	v := s.store.View()
	if name.Role == machine.RoleServer {
		_, known := v.Server(name.ID)
		return !known
	}
	return v.Removed(api.NodeID(name.ID))
}

// serverAddresses lists the servers for agents and clients, the leader first.
func serverAddresses(v *state.View, leader string) *pb.Servers {
	out := &pb.Servers{}
	for s := range v.Servers() {
		a := &pb.ServerAddress{Addr: s.Addr, Registry: s.Registry}
		if s.ID == leader {
			out.Server = append([]*pb.ServerAddress{a}, out.Server...)
			continue
		}
		out.Server = append(out.Server, a)
	}
	return out
}

// leaderID returns who leads, "" when nobody is known to.
func (s *Server) leaderID() string {
	id, _ := s.store.Leader()
	return id
}

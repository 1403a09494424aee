package control

import (
	"context"
	"unicode/utf8"

	"slipway/api"
	"slipway/api/pb"
	"slipway/raftstore/state"
)

// What a login may have, in bytes. Some registries take a key file as password.
const (
	usernameMax = 255
	passwordMax = 16 << 10
)

// ListRegistries lists the registries that builds pull from with a login, without the passwords.
func (s *Server) ListRegistries(ctx context.Context, _ *pb.ListRegistriesRequest) (*pb.Documents, error) {
	v, err := s.read(ctx)
	if err != nil {
		return nil, pb.Error(err)
	}
	list := []api.Registry{}
	for r := range v.Registries() {
		list = append(list, registryInfo(r))
	}
	return docs(list, nil)
}

// PutRegistry stores the login of a registry. Whether it is right is seen by the next build.
func (s *Server) PutRegistry(ctx context.Context, r *pb.PutRegistryRequest) (*pb.Document, error) {
	server, err := api.RegistryServer(r.GetServer())
	if err == nil {
		err = checkLogin(server, r.GetUsername(), r.GetPassword())
	}
	if err != nil {
		return nil, pb.Error(err)
	}
	record := state.Registry{Server: server, Username: r.GetUsername()}
	if err := s.secrets.SealRegistry(&record, r.GetPassword()); err != nil {
		return nil, pb.Error(err)
	}
	_, err = s.propose(ctx, s.request(ctx, r.GetRequestId()), "registry", state.PutRegistry{Registry: record})
	if err != nil {
		return nil, pb.Error(err)
	}
	if stored, ok := s.cfg.Store.View().Registry(server); ok {
		record = *stored
	}
	return doc(registryInfo(&record), nil)
}

func checkLogin(server, username, password string) error {
	for what, text := range map[string]string{"username": username, "password": password} {
		if text == "" || !utf8.ValidString(text) {
			return api.Errorf(api.CodeInvalid, "registry %s: the %s is empty or not text", server, what)
		}
	}
	if len(username) > usernameMax || len(password) > passwordMax {
		return api.Errorf(api.CodeExhausted, "registry %s: a username has up to %d bytes, a password up to %d", server, usernameMax, passwordMax)
	}
	return nil
}

// RemoveRegistry forgets the login of a registry.
func (s *Server) RemoveRegistry(ctx context.Context, r *pb.RemoveRegistryRequest) (*pb.Empty, error) {
	server, err := api.RegistryServer(r.GetServer())
	if err != nil {
		return nil, pb.Error(err)
	}
	_, err = s.propose(ctx, s.request(ctx, r.GetRequestId()), "registry", state.RemoveRegistry{Server: server})
	return done(err)
}

func registryInfo(r *state.Registry) api.Registry {
	return api.Registry{Server: r.Server, Username: r.Username, Changed: r.Changed}
}

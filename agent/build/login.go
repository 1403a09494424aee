package build

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/moby/buildkit/session/auth"
	"google.golang.org/grpc"

	"slipway/api"
)

// logins open registries outside the rack, for the engine and for the length of one build. Build
// steps never see them. The engine fetches tokens by itself, from where builds may go.
type logins struct {
	auth.UnimplementedAuthServer

	all []api.RegistryLogin
}

// Register implements session.Attachable.
func (l *logins) Register(s *grpc.Server) { auth.RegisterAuthServer(s, l) }

// Credentials answers the engine; nothing is for registries that need no login.
func (l *logins) Credentials(_ context.Context, r *auth.CredentialsRequest) (*auth.CredentialsResponse, error) {
	login, _ := api.LoginFor(l.all, r.GetHost())
	return &auth.CredentialsResponse{Username: login.Username, Secret: login.Password}, nil
}

// foreign reaches registries outside the rack.
type foreign struct {
	http.RoundTripper

	logins []api.RegistryLogin
}

// RoundTrip implements http.RoundTripper. A login is not sent in the clear.
func (f foreign) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme != "https" && req.Header.Get("Authorization") != "" {
		return nil, api.Errorf(api.CodeInvalid, "%s does not speak https, and gets no login", req.URL.Host)
	}
	return f.RoundTripper.RoundTrip(req)
}

// login returns what opens the registry of an image.
func (f foreign) login(registry string) (api.RegistryLogin, authn.Authenticator) {
	l, ok := api.LoginFor(f.logins, registry)
	if !ok {
		return l, authn.Anonymous
	}
	return l, &authn.Basic{Username: l.Username, Password: l.Password}
}

// refused says of a registry that was given a login what it makes of it. Other errors stay.
func refused(l api.RegistryLogin, err error) error {
	t, ok := errors.AsType[*transport.Error](err)
	if l.Server == "" || !ok || t.StatusCode != http.StatusUnauthorized && t.StatusCode != http.StatusForbidden {
		return err
	}
	return api.Errorf(api.CodeInvalid, "registry %s refuses it to user %s, whose password may be wrong; %s: %w", l.Server, l.Username, giveLogin(l.Server), err)
}

// giveLogin tells what to do about a registry that asks for a login.
func giveLogin(server string) string {
	return fmt.Sprintf("give the rack a login that may pull it: slipway registries add %s USER", server)
}

package control

import (
	"context"
	"regexp"
	"slices"
	"strings"
	"time"

	"slipway/api"
	"slipway/api/pb"
	"slipway/raftstore/state"
)

// The life of a token.
const (
	expiresMin = time.Minute
	expiresMax = 10 * 365 * 24 * time.Hour
	appsMax    = 100 // of one token
)

// ListTokens lists the tokens, without their secrets.
func (s *Server) ListTokens(ctx context.Context, _ *pb.ListTokensRequest) (*pb.Documents, error) {
	v, err := s.read(ctx)
	if err != nil {
		return nil, pb.Error(err)
	}
	tokens := []api.Token{}
	for t := range v.Tokens() {
		tokens = append(tokens, tokenInfo(t))
	}
	slices.SortFunc(tokens, func(a, b api.Token) int { return strings.Compare(a.Name, b.Name) })
	return docs(tokens, nil)
}

// CreateToken makes a token and answers with its secret, of which the rack keeps a hash only. So
// the answer is the one place where it is: a call that is repeated with its request ID is refused
// once it has taken effect. To derive the secret from the request instead, so that a repetition
// could have it again, would let everybody who reads the log and the keyring make it as well.
func (s *Server) CreateToken(ctx context.Context, r *pb.CreateTokenRequest) (*pb.CreateTokenReply, error) {
	v, err := s.read(ctx)
	if err != nil {
		return nil, pb.Error(err)
	}
	req := s.request(ctx, r.GetRequestId())
	t := state.Token{ID: req.ids.Token(), Name: r.GetName(), Role: r.GetRole(), Created: s.cfg.Now().UTC()}
	for _, name := range r.GetApps() {
		t.Apps = append(t.Apps, api.AppName(name))
	}
	slices.Sort(t.Apps)
	t.Apps = slices.Compact(t.Apps)
	if life := time.Duration(r.GetExpiresSeconds()); life != 0 {
		if life < expiresMin/time.Second || life > expiresMax/time.Second {
			return nil, pb.Error(api.Errorf(api.CodeInvalid, "token %q: a life of %d seconds is not within %s to 10 years", t.Name, life, expiresMin))
		}
		t.Expires = t.Created.Add(life * time.Second)
	}
	if err := s.checkToken(ctx, v, &t); err != nil {
		return nil, pb.Error(err)
	}
	secret, hash := s.cfg.Callers.NewToken()
	t.Hash = hash
	res, err := s.propose(ctx, req, "token", state.PutToken{Token: t})
	if err != nil {
		return nil, pb.Error(err)
	}
	if res.Duplicate {
		return nil, pb.Error(api.Errorf(api.CodeConflict,
			"token %q was made by this request before, and its secret is told once only; delete it and make another: slipway tokens delete %s", t.Name, t.Name))
	}
	return &pb.CreateTokenReply{Token: pb.Marshal(tokenInfo(&t)), Secret: secret}, nil
}

// DeleteToken revokes a token of a user. Streams that it opened end within seconds.
func (s *Server) DeleteToken(ctx context.Context, r *pb.TokenRequest) (*pb.Empty, error) {
	v, err := s.read(ctx)
	if err != nil {
		return nil, pb.Error(err)
	}
	req := s.request(ctx, r.GetRequestId())
	t, err := findToken(v, r.GetToken())
	if api.CodeOf(err) == api.CodeNotFound && v.Succeeded(req.step("token")) {
		return done(nil) // the call before this one did it
	}
	if err != nil {
		return nil, pb.Error(err)
	}
	if !api.UserRole(t.Role) {
		return nil, pb.Error(api.Errorf(api.CodeConflict, "token %q has the role %s and belongs to machines; replace it: slipway rack join-token", t.Name, t.Role))
	}
	_, err = s.propose(ctx, req, "token", state.DeleteToken{ID: t.ID})
	return done(err)
}

var tokenName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._@+-]{0,62}$`)

// checkToken reports what is wrong with a token that is to be made, or nil. Its name becomes the
// actor of changes, which must not pass for the rack or for a machine.
func (s *Server) checkToken(ctx context.Context, v *state.View, t *state.Token) error {
	switch {
	case !tokenName.MatchString(t.Name):
		return api.Errorf(api.CodeInvalid, "token name %.80q is not 1 to 63 letters, digits and . _ @ + -, beginning with a letter or digit", t.Name)
	case strings.EqualFold(t.Name, "rack"):
		return api.Errorf(api.CodeInvalid, "a token cannot be called %q: that is what the rack calls itself", t.Name)
	case !api.UserRole(t.Role):
		roles := []string{api.RoleAdmin, api.RoleDeployer, api.RoleViewer}
		hint := ""
		if near := api.Nearest(t.Role, roles); near != "" {
			hint = "; did you mean " + near + "?"
		}
		return api.Errorf(api.CodeInvalid, "token %q: role %.80q is not one of %s%s", t.Name, t.Role, strings.Join(roles, ", "), hint)
	case t.Role == api.RoleAdmin && len(t.Apps) > 0:
		return api.Errorf(api.CodeInvalid, "token %q: the role admin is for the whole rack and cannot be narrowed to apps; use the role deployer", t.Name)
	case len(t.Apps) > appsMax:
		return api.Errorf(api.CodeInvalid, "token %q: %d apps are too many, the limit is %d", t.Name, len(t.Apps), appsMax)
	}
	for _, app := range t.Apps {
		if _, err := s.findApp(ctx, v, string(app)); err != nil {
			return err
		}
	}
	return nil
}

// findToken finds a token by its ID or, as names of users are unique, by its name.
func findToken(v *state.View, ref string) (*state.Token, error) {
	if t, ok := v.Token(ref); ok {
		return t, nil
	}
	var named []*state.Token
	var known []string
	for t := range v.Tokens() {
		if t.Name == ref {
			named = append(named, t)
		}
		known = append(known, t.Name)
	}
	switch {
	case ref == "":
		return nil, api.Errorf(api.CodeInvalid, "no token is named")
	case len(named) == 1:
		return named[0], nil
	case len(named) > 1:
		return nil, api.Errorf(api.CodeConflict, "%d tokens have the name %q; name one by its ID, see: slipway tokens --all", len(named), ref)
	}
	return nil, api.NotFoundSee("token", ref, known, "slipway tokens")
}

func tokenInfo(t *state.Token) api.Token {
	return api.Token{ID: t.ID, Name: t.Name, Role: t.Role, Apps: t.Apps, Created: t.Created, Expires: t.Expires}
}

package auth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"encoding/base32"
	"fmt"
	"slices"
	"strings"
	"time"

	"slipway/api"
	"slipway/api/machine"
	"slipway/raftstore/state"
)

// The roles of a token.
const (
	RoleAdmin    = api.RoleAdmin
	RoleDeployer = api.RoleDeployer
	RoleViewer   = api.RoleViewer

	// Roles of machines, which their certificates name.
	RoleNode   = "node"   // what an agent does
	RoleServer = "server" // what another server does

	// Roles of the tokens that machines join with. They open nothing else.
	RoleJoinServer = "join-server"
	RoleJoinAgent  = "join-agent"
)

// secretPrefix makes secrets easy to find where they have leaked.
const secretPrefix = "slip_"

// secretBytes is the entropy of a secret, in bytes.
const secretBytes = 32

// NewSecret draws the secret of a token.
func NewSecret() string {
	b := make([]byte, secretBytes)
	_, _ = rand.Read(b) // never fails, by its contract
	return secretPrefix + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b))
}

// Hash returns what the rack keeps of a secret. Secrets are drawn at random with 256 bits, so
// that a plain SHA-256 cannot be searched.
func Hash(secret string) []byte {
	sum := sha256.Sum256([]byte(secret))
	return sum[:]
}

// Identity is a caller that has proved itself.
type Identity struct {
	Token string // ID of the token; "" for a machine
	Name  string // of the token, or "node/<id>", "server/<id>": what is recorded as the actor
	Role  string
	// Apps narrows the token; empty means all apps.
	Apps []api.AppName
}

// May reports whether the identity reaches the app at all.
func (i Identity) May(app api.AppName) bool {
	return len(i.Apps) == 0 || slices.Contains(i.Apps, app)
}

// Can reports whether the identity's role includes the right.
func (i Identity) Can(r Right) bool {
	switch i.Role {
	case RoleAdmin:
		return r == RightRead || r == RightDeploy || r == RightAdmin
	case RoleDeployer:
		return r == RightRead || r == RightDeploy
	case RoleViewer:
		return r == RightRead
	case RoleNode:
		return r == RightNode || r == RightMachine
	case RoleServer:
		return r == RightMachine
	}
	return false
}

// Viewer gives the present state; raftstore.Store is one.
type Viewer interface{ View() *state.View }

// Guard authenticates and authorises callers.
type Guard struct {
	store Viewer
	now   func() time.Time
	check func(tls.ConnectionState) error // see Check; nil checks nothing
}

// NewGuard returns a Guard over the tokens in store.
func NewGuard(store Viewer, now func() time.Time) *Guard { return &Guard{store: store, now: now} }

// Check has every use of a connection of a machine judged anew by check, beside what its certificate
// says itself: connections last longer than the trust in who signed for them.
func (g *Guard) Check(check func(tls.ConnectionState) error) { g.check = check }

// Identify returns who holds the secret. An unknown and an expired one are errors of code
// denied.
func (g *Guard) Identify(secret string) (Identity, error) {
	hash := Hash(secret)
	t, ok := g.store.View().TokenByHash(hash)
	if !ok || subtle.ConstantTimeCompare(t.Hash, hash) != 1 {
		return Identity{}, api.Errorf(api.CodeDenied, "the token is not known to this rack; ask an admin for one and run: slipway login")
	}
	if !t.Expires.IsZero() && !g.now().Before(t.Expires) {
		return Identity{}, api.Errorf(api.CodeDenied, "token %q expired on %s; ask an admin for a new one",
			t.Name, t.Expires.UTC().Format(time.DateOnly))
	}
	return Identity{Token: t.ID, Name: t.Name, Role: t.Role, Apps: t.Apps}, nil
}

// IdentifyMachine returns the machine at the other end of a connection. One without a certificate,
// one whose certificate is not good any more and one that was removed are errors of code denied.
func (g *Guard) IdentifyMachine(s tls.ConnectionState) (Identity, error) {
	name, ok := machine.Peer(s)
	if !ok {
		return Identity{}, api.Errorf(api.CodeDenied, "the connection carries no certificate of a machine; join the rack with: slipwayd agent --join HOST:PORT --token-file FILE")
	}
	if !g.now().Before(s.PeerCertificates[0].NotAfter) {
		return Identity{}, api.Errorf(api.CodeDenied, "the certificate of %s has expired", name)
	}
	if g.check != nil {
		if err := g.check(s); err != nil {
			return Identity{}, api.Errorf(api.CodeDenied, "the certificate of %s is good no more: %w", name, err)
		}
	}
	if name.Role == machine.RoleServer {
		if g.store.View().Dismissed(name.ID) {
			return Identity{}, Dismissed(name.ID)
		}
		return Identity{Name: "server/" + name.ID, Role: RoleServer}, nil
	}
	if g.removed(name) {
		return Identity{}, api.Errorf(api.CodeDenied, "node %s was removed from the rack; to let the machine join anew, empty the data directory of its agent and start it with a join token", name.ID)
	}
	return Identity{Name: "node/" + name.ID, Role: RoleNode}, nil
}

// Dismissed is the error for a server that was removed.
func Dismissed(server string) error {
	return api.Errorf(api.CodeDenied, "server %s was removed from the rack; empty its data directory and let it join anew", server)
}

type identityKey struct{}

// WithIdentity returns ctx with the caller in it.
func WithIdentity(ctx context.Context, i Identity) context.Context {
	return context.WithValue(ctx, identityKey{}, i)
}

// Caller returns who calls; false outside of a call that went through the interceptors.
func Caller(ctx context.Context) (Identity, bool) {
	i, ok := ctx.Value(identityKey{}).(Identity)
	return i, ok
}

// Actor returns the name that commands of this call are recorded under.
func Actor(ctx context.Context) string {
	i, _ := Caller(ctx)
	return i.Name
}

// Visible reports whether the caller may know of the app.
func Visible(ctx context.Context, app api.AppName) bool {
	i, ok := Caller(ctx)
	return ok && i.May(app)
}

// Enters reports whether the caller may enter processes.
func Enters(ctx context.Context) bool {
	i, ok := Caller(ctx)
	return ok && i.Can(RightDeploy)
}

// AuthorizeNode reports why the caller may not speak for node, or nil; "" asks for any node.
func AuthorizeNode(ctx context.Context, node api.NodeID) error {
	i, ok := Caller(ctx)
	if !ok || !i.Can(RightNode) {
		return api.Errorf(api.CodeDenied, "the certificate of a node is needed to speak for one")
	}
	if node != "" && i.Name != "node/"+string(node) {
		return api.Errorf(api.CodeDenied, "%s cannot speak for node %s", i.Name, node)
	}
	return nil
}

// String returns name and role, never a secret.
func (i Identity) String() string { return fmt.Sprintf("%s (%s)", i.Name, i.Role) }

package server

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hashicorp/raft"

	"slipway/api"
	"slipway/api/machine"
	"slipway/raftstore"
	"slipway/raftstore/state"
	"slipway/server/auth"
	"slipway/server/link"
	"slipway/server/registry"
)

// aloneTimeout is the election timeout of a server that no other can vote for.
const aloneTimeout = 50 * time.Millisecond

// electionTimeout is after how long without a word from the leader servers look for another.
const electionTimeout = 800 * time.Millisecond

// The files of a bootstrapped server that hold the first secrets, mode 0600.
const (
	AdminTokenFile      = "admin.token"
	JoinServerTokenFile = "join-server.token"
	JoinAgentTokenFile  = "join-agent.token"
)

// issuePEM signs a certificate and writes chain and key as one text.
func issuePEM(ca *auth.CA, hosts []string) ([]byte, error) {
	cert, err := ca.Issue(time.Now(), hosts...)
	if err != nil {
		return nil, err
	}
	var out []byte
	for _, der := range cert.Certificate {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		return nil, fmt.Errorf("encode key for %s: %w", hosts[0], err)
	}
	return append(out, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})...), nil
}

// openStore opens the replica. Bootstrap on a directory that holds a rack goes on with it, so
// that the same command starts a server every time.
func (s *Server) openStore() (*raftstore.Store, error) {
	dir, transport := raftDir(s.cfg), s.cfg.Transport
	var probe raftstore.Probe
	fresh := s.cfg.Bootstrap && !raftstore.HasState(dir)
	if fresh {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("open store: %w", err)
		}
		if err := raftstore.SetEpoch(dir, raftstore.NewEpoch("")); err != nil {
			return nil, err
		}
	}
	if transport == nil {
		epoch, err := raftstore.Epoch(dir)
		if err != nil {
			return nil, err
		}
		l, err := net.Listen("tcp", s.cfg.RaftAddr)
		if err != nil {
			return nil, fmt.Errorf("listen for the other servers: %w", err)
		}
		s.link = link.New(l, s.identity, epoch, s.cfg.Log)
		transport, probe = s.link.Transport(), s.link
	}
	store, err := raftstore.Open(raftstore.Config{
		Tune: s.timing(), Transport: transport, Probe: probe, Committed: s.metrics.committed,
		Dir: dir, ID: s.identity.Name().ID, Log: s.cfg.Log, Bootstrap: fresh, Loop: s.looped, Died: s.died,
	})
	if err == nil && s.link != nil {
		s.link.Admits(func(name machine.Name) error { return admits(store.View(), name) })
		s.link.Agrees(store.Agrees)
	}
	return store, err
}

// looped tells the store's watchdog when the leader's loop passed last, and whether changes wait.
func (s *Server) looped() (passed time.Time, waits bool) {
	return time.Unix(0, s.passedAt.Load()), s.store.View().Index() > uint64(s.passedIndex.Load())
}

// died ends the program, in whatever way its owner wants.
func (s *Server) died(err error) {
	s.cfg.Log.Error("this server cannot go on", "err", err)
	if s.cfg.Died != nil {
		s.cfg.Died(err)
	}
}

// timing makes elections quick: at once where there is nobody else to ask, and else so that a leader that
// cannot be reached is missed for less than two seconds. (One whose process is gone, for less than one: its
// machine tells.) A leader that hears of nobody gives up when the others may begin to look for another, and
// not before: all agents move with it, and a server that has much to tell them may be late for half a
// second.
func (s *Server) timing() func(*raft.Config) {
	timeout := electionTimeout
	if s.cfg.Alone {
		timeout = aloneTimeout
	}
	return func(c *raft.Config) {
		c.HeartbeatTimeout, c.ElectionTimeout, c.LeaderLeaseTimeout = timeout, timeout, timeout
	}
}

// found writes the first records of a new rack: its name, its authority, this server, and the
// first tokens. The secrets are on disk before their hashes enter the state, so that a crash in
// between loses none; a rack that exists is left alone, but for what the command line says.
func (s *Server) found(ctx context.Context) error {
	rack := s.store.View().Rack()
	if rack.ClusterID != "" || !s.cfg.Bootstrap {
		return s.reconfigure(ctx, rack)
	}
	ca, err := newAuthority(s.cfg)
	if err != nil {
		return err
	}
	record, err := s.authority.seal(ca, time.Now())
	if err != nil {
		return err
	}
	record.Active = true
	entries := []state.Entry{s.entry(state.ConfigureRack{Rack: state.Rack{
		Name: s.cfg.Rack, ClusterID: s.identity.Name().Cluster, Domain: s.cfg.Domain, Network: s.cfg.Network,
		HTTPPort: s.cfg.HTTPPort, HTTPSPort: s.cfg.HTTPSPort, Created: time.Now(),
	}}), s.entry(state.PutAuthority{Authority: record}), s.entry(state.PutServer{Server: s.cfg.about(s.identity.Name().ID)})}
	for _, first := range []struct {
		file  string
		token state.Token
		join  bool
	}{
		{AdminTokenFile, state.Token{ID: "admin", Name: "admin", Role: auth.RoleAdmin}, false},
		{JoinServerTokenFile, state.Token{ID: auth.RoleJoinServer, Name: auth.RoleJoinServer, Role: auth.RoleJoinServer}, true},
		{JoinAgentTokenFile, state.Token{ID: auth.RoleJoinAgent, Name: auth.RoleJoinAgent, Role: auth.RoleJoinAgent}, true},
	} {
		secret := auth.NewSecret()
		first.token.Hash, first.token.Created = auth.Hash(secret), time.Now()
		if first.join {
			first.token.Pins = ca.Fingerprint()
			secret = machine.JoinToken(secret, ca.Fingerprint())
		}
		if err := os.WriteFile(filepath.Join(s.cfg.Dir, first.file), []byte(secret), 0o600); err != nil {
			return fmt.Errorf("write first token: %w", err)
		}
		entries = append(entries, s.entry(state.PutToken{Token: first.token}))
	}
	if _, err := s.store.ProposeBatch(ctx, entries); err != nil {
		return err
	}
	return os.RemoveAll(filepath.Join(s.cfg.Dir, newCADir)) // the state has it, sealed
}

// reconfigure follows a changed command line.
func (s *Server) reconfigure(ctx context.Context, rack state.Rack) error {
	if rack.ClusterID == "" {
		return nil
	}
	id := s.identity.Name().ID
	self := s.cfg.about(id)
	known, ok := s.store.View().Server(id)
	if ok {
		self.Joined = known.Joined
	}
	if !ok || *known != self {
		if _, err := s.store.Propose(ctx, s.entry(state.PutServer{Server: self})); err != nil {
			return err
		}
	}
	next := rack
	if s.cfg.Domain != "" {
		next.Domain = s.cfg.Domain
	}
	if s.cfg.HTTPPort != 0 {
		next.HTTPPort, next.HTTPSPort = s.cfg.HTTPPort, s.cfg.HTTPSPort
	}
	if next == rack {
		return nil
	}
	_, err := s.store.Propose(ctx, s.entry(state.ConfigureRack{Rack: next}))
	return err
}

func (s *Server) entry(c state.Command) state.Entry {
	return state.Entry{At: time.Now(), Actor: "rack", Command: c}
}

// machinesNeedNoPassword lets machines of the rack into the registry by their certificates: the
// registry asks for a name and a password, and gets one that nobody else knows.
func (s *Server) machinesNeedNoPassword(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
			who, err := s.guard.IdentifyMachine(*r.TLS)
			if err != nil {
				http.Error(w, err.Error(), http.StatusUnauthorized)
				return
			}
			r.SetBasicAuth(who.Name, s.machineSecret)
		}
		next.ServeHTTP(w, r)
	})
}

// mayUseImages decides who may do what in the registry.
func (s *Server) mayUseImages(user, password, repo, action string) error {
	who, err := s.guard.Identify(password)
	if password != "" && password == s.machineSecret {
		role, id, _ := strings.Cut(user, "/")
		who, err = auth.Identity{Name: user, Role: role}, nil
		if role == auth.RoleNode && s.store.View().Removed(api.NodeID(id)) {
			err = api.Errorf(api.CodeDenied, "node %s was removed from the rack", id)
		}
	}
	if err != nil {
		return err
	}
	if !imageRight(who, repo, action) {
		return api.Errorf(api.CodeDenied, "token %q may not %s %q", who.Name, action, repo)
	}
	return nil
}

// imageRight reports whether somebody may do something in a repository: admins everything,
// nodes pull all and push what they built, users pull the images of their apps. A repository
// that is not named like an app, library/busybox for instance, is there for everyone to read,
// and only admins write it, for all apps may be built on it.
func imageRight(who auth.Identity, repo, action string) bool {
	ofApp := api.CheckName("app", repo) == nil
	switch who.Role {
	case auth.RoleAdmin:
		return true
	case auth.RoleNode:
		return action == registry.ActionLogin || action == registry.ActionPull || action == registry.ActionPush && ofApp
	case auth.RoleDeployer, auth.RoleViewer:
		return action == registry.ActionLogin || action == registry.ActionPull && (!ofApp || who.May(api.AppName(repo)))
	}
	return false
}

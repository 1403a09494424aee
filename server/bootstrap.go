package server

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/raft"

	"slipway/api"
	"slipway/raftstore"
	"slipway/raftstore/state"
	"slipway/server/auth"
	"slipway/server/registry"
)

// aloneTimeout is the election timeout of a server that no other can vote for.
const aloneTimeout = 50 * time.Millisecond

// The files of a bootstrapped server that hold the first secrets, mode 0600.
const (
	AdminTokenFile = "admin.token"
	NodeTokenFile  = "node.token"
)

// authority opens the rack's CA, and makes it for a new rack.
func authority(cfg Config) (*auth.CA, error) {
	dir := filepath.Join(cfg.Dir, "ca")
	ca, err := auth.LoadCA(dir)
	if api.CodeOf(err) == api.CodeNotFound && cfg.Bootstrap {
		return auth.CreateCA(dir, cfg.Rack, time.Now())
	}
	return ca, err
}

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
func openStore(cfg Config, committed func(time.Duration)) (*raftstore.Store, error) {
	id, err := serverID(cfg.Dir)
	if err != nil {
		return nil, err
	}
	var tune func(*raft.Config)
	if cfg.Alone {
		tune = func(c *raft.Config) {
			c.HeartbeatTimeout, c.ElectionTimeout, c.LeaderLeaseTimeout = aloneTimeout, aloneTimeout, aloneTimeout
		}
	}
	return raftstore.Open(raftstore.Config{
		Tune: tune, Transport: cfg.Transport, Committed: committed,
		Dir: filepath.Join(cfg.Dir, "raft"), ID: id, Addr: cfg.RaftAddr, Log: cfg.Log,
		Bootstrap: cfg.Bootstrap && !raftstore.HasState(filepath.Join(cfg.Dir, "raft")),
	})
}

// serverID returns the identity of the server, minted on first use.
func serverID(dir string) (string, error) {
	path := filepath.Join(dir, "server.id")
	b, err := os.ReadFile(path)
	if err == nil {
		return string(b), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("server identity: %w", err)
	}
	id := string(api.NewIDs(randomSeed()).Request())
	if err := os.WriteFile(path, []byte(id), 0o600); err != nil {
		return "", fmt.Errorf("server identity: %w", err)
	}
	return id, nil
}

// found writes the first records of a new rack: its name and the first two tokens. The
// secrets are on disk before their hashes enter the state, so that a crash in between loses
// none; a rack that exists is left alone, but for what the command line says of the routers.
func (s *Server) found(ctx context.Context) error {
	rack := s.store.View().Rack()
	if rack.ClusterID != "" || !s.cfg.Bootstrap {
		return s.reconfigure(ctx, rack)
	}
	ids := api.NewIDs(randomSeed())
	entries := []state.Entry{s.entry(state.ConfigureRack{Rack: state.Rack{
		Name: s.cfg.Rack, ClusterID: string(ids.Request()), Domain: s.cfg.Domain,
		HTTPPort: s.cfg.HTTPPort, HTTPSPort: s.cfg.HTTPSPort, Created: time.Now(),
	}})}
	for file, t := range map[string]state.Token{
		AdminTokenFile: {ID: "admin", Name: "admin", Role: auth.RoleAdmin},
		NodeTokenFile:  {ID: "node", Name: "nodes", Role: auth.RoleNode},
	} {
		secret := auth.NewSecret()
		if err := os.WriteFile(filepath.Join(s.cfg.Dir, file), []byte(secret), 0o600); err != nil {
			return fmt.Errorf("write first token: %w", err)
		}
		t.Hash, t.Created = auth.Hash(secret), time.Now()
		entries = append(entries, s.entry(state.PutToken{Token: t}))
	}
	_, err := s.store.ProposeBatch(ctx, entries)
	return err
}

// reconfigure follows a changed command line.
func (s *Server) reconfigure(ctx context.Context, rack state.Rack) error {
	next := rack
	if s.cfg.Domain != "" {
		next.Domain = s.cfg.Domain
	}
	if s.cfg.HTTPPort != 0 {
		next.HTTPPort, next.HTTPSPort = s.cfg.HTTPPort, s.cfg.HTTPSPort
	}
	if next == rack || rack.ClusterID == "" {
		return nil
	}
	_, err := s.store.Propose(ctx, s.entry(state.ConfigureRack{Rack: next}))
	return err
}

func (s *Server) entry(c state.Command) state.Entry {
	return state.Entry{At: time.Now(), Actor: "rack", Command: c}
}

// mayUseImages decides who may do what in the registry.
func (s *Server) mayUseImages(_, password, repo, action string) error {
	who, err := s.guard.Identify(password)
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
	case auth.RoleNode, auth.RoleBuilder:
		return action == registry.ActionLogin || action == registry.ActionPull || action == registry.ActionPush && ofApp
	case auth.RoleDeployer, auth.RoleViewer:
		return action == registry.ActionLogin || action == registry.ActionPull && (!ofApp || who.May(api.AppName(repo)))
	}
	return false
}

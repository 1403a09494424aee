package server

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"slipway/api"
	"slipway/api/machine"
	"slipway/api/pb"
	"slipway/raftstore"
	"slipway/raftstore/keyring"
	"slipway/raftstore/state"
	"slipway/server/auth"
)

// Below the data directory: the identity of the server, and the authority of a rack that is being
// made, until the replicated state holds it.
const (
	machineDir  = "machine"
	newCADir    = "new-authority"
	newCACert   = "ca.crt"
	newCAKey    = "ca.key"
	machineLife = 30 * 24 * time.Hour
)

// TrustFile is where a server keeps the authorities of its rack, below its data directory: what
// "slipway login --ca" wants.
const TrustFile = machineDir + "/" + machine.TrustFile

// enter makes this server part of its rack: it is one already, it makes the rack, or it joins.
func enter(ctx context.Context, cfg Config) (*machine.Identity, *keyring.Keyring, error) {
	dir := filepath.Join(cfg.Dir, machineDir)
	id, err := machine.Open(dir)
	switch {
	case err == nil:
		keys, err := keyring.Open(cfg.Dir)
		return id, keys, err
	case api.CodeOf(err) != api.CodeNotFound:
		return nil, nil, err
	case raftstore.HasState(raftDir(cfg)):
		return resume(cfg, dir)
	case cfg.Bootstrap:
		keys, err := keyring.Open(cfg.Dir)
		if err != nil {
			return nil, nil, err
		}
		id, err := foundIdentity(cfg, dir)
		return id, keys, err
	case len(cfg.Join) > 0:
		return join(ctx, cfg, dir)
	}
	return nil, nil, api.Errorf(api.CodeNotFound, "%s holds no rack; make a new one with --bootstrap, or join one with --join HOST:PORT --token-file FILE", cfg.Dir)
}

func raftDir(cfg Config) string { return filepath.Join(cfg.Dir, "raft") }

// foundIdentity makes the authority of a new rack and the certificate of its first server. A
// crash in between is followed by another authority: nobody has seen the first.
func foundIdentity(cfg Config, dir string) (*machine.Identity, error) {
	ca, err := auth.NewCA(cfg.Rack, time.Now())
	if err != nil {
		return nil, err
	}
	keyPEM, err := ca.KeyPEM()
	if err != nil {
		return nil, err
	}
	at := filepath.Join(cfg.Dir, newCADir)
	if err := os.MkdirAll(at, 0o700); err != nil {
		return nil, fmt.Errorf("create the rack's CA: %w", err)
	}
	for name, doc := range map[string][]byte{newCACert: ca.PEM(), newCAKey: keyPEM} {
		if err := os.WriteFile(filepath.Join(at, name), doc, 0o600); err != nil {
			return nil, fmt.Errorf("create the rack's CA: %w", err)
		}
	}
	name := machine.Name{Cluster: string(api.NewIDs(randomSeed()).Request()), Role: machine.RoleServer, ID: newServerID()}
	key, request, err := machine.NewRequest()
	if err != nil {
		return nil, err
	}
	chain, err := ca.Machine(time.Now(), cfg.certificateLife(), name, hosts(cfg), request)
	if err != nil {
		return nil, err
	}
	return machine.Keep(dir, key, chain, ca.PEM())
}

// newAuthority reads the authority of a rack that is being made; code not_found when there is none.
func newAuthority(cfg Config) (*auth.CA, error) {
	at := filepath.Join(cfg.Dir, newCADir)
	cert, err := os.ReadFile(filepath.Join(at, newCACert))
	if err != nil {
		return nil, api.Errorf(api.CodeNotFound, "read the new rack's CA: %w", err)
	}
	key, err := os.ReadFile(filepath.Join(at, newCAKey))
	if err != nil {
		return nil, fmt.Errorf("read the new rack's CA: %w", err)
	}
	return auth.ParseCA(cert, key)
}

// join asks the servers of a rack to take this one in. The certificate is kept last: a crash before
// that is followed by another attempt.
func join(ctx context.Context, cfg Config, dir string) (*machine.Identity, *keyring.Keyring, error) {
	if err := cfg.reachable(); err != nil {
		return nil, nil, err
	}
	id := newServerID()
	about, err := json.Marshal(cfg.about(id))
	if err != nil {
		return nil, nil, fmt.Errorf("join: %w", err)
	}
	var keys *keyring.Keyring
	j := machine.Joining{
		Servers: cfg.Join, Token: cfg.Token,
		Request: &pb.JoinRequest{Role: machine.RoleServer, Id: id, Host: hosts(cfg), Server: about},
		Taken: func(reply *pb.JoinReply) (err error) {
			if err := os.MkdirAll(raftDir(cfg), 0o700); err != nil {
				return fmt.Errorf("join: %w", err)
			}
			if err := raftstore.SetEpoch(raftDir(cfg), reply.Epoch); err != nil {
				return err
			}
			_ = os.Remove(filepath.Join(cfg.Dir, keyringFile)) // of an attempt that was cut short
			keys, err = keyring.Import(cfg.Dir, reply.Keyring)
			return err
		},
	}
	identity, _, err := machine.Join(ctx, dir, j)
	return identity, keys, err
}

// newServerID draws the identity of a server.
func newServerID() string { return string(api.NewIDs(randomSeed()).Request()) }

// about is what this server tells the others of itself.
func (c *Config) about(id string) api.Server {
	name, err := os.Hostname()
	if err != nil {
		name = id
	}
	return api.Server{ID: id, Name: name, Addr: c.GRPCAddr, Registry: c.HTTPAddr, Raft: c.RaftAddr, Gossip: c.GossipAddr, Version: c.Version, Formats: state.Formats()}
}

// reachable reports which address other machines cannot use.
func (c *Config) reachable() error {
	for flag, addr := range map[string]string{"addr": c.GRPCAddr, "registry-addr": c.HTTPAddr, "raft-addr": c.RaftAddr, "gossip-addr": c.GossipAddr} {
		host, _, err := net.SplitHostPort(addr)
		if ip := net.ParseIP(host); err != nil || host == "" || ip != nil && ip.IsUnspecified() {
			return api.Errorf(api.CodeInvalid, "--%s %q is no address that the other servers can reach; use --advertise IP, or --%s IP:PORT", flag, addr, flag)
		}
	}
	return nil
}

func (c *Config) certificateLife() time.Duration {
	if c.CertificateLife > 0 {
		return c.CertificateLife
	}
	return machineLife
}

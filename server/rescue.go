package server

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"slipway/api"
	"slipway/api/machine"
	"slipway/raftstore"
	"slipway/raftstore/keyring"
	"slipway/raftstore/state"
)

// selfFile says, below a data directory that was restored, who the server is to be. Its first start
// makes the certificate.
const selfFile = "restored.json"

// Backup writes all that is needed to restore the rack: its state and the servers' keyring,
// encrypted with a passphrase. Images are not in it.
func (s *Server) Backup(ctx context.Context, w io.Writer, passphrase string) error {
	keys, err := s.keyring.Export()
	if err != nil {
		return err
	}
	return s.store.Backup(ctx, w, passphrase, map[string][]byte{keyringFile: keys})
}

// keyringFile is where keyring.Open finds the keys, below the data directory.
const keyringFile = "keyring.json"

// Restore makes the data directory of the first server of a rack from a backup. cfg says where it is
// and where others will reach it. Servers and agents of before are not part of the rack any more
// until they reach it: agents by --join, servers by joining anew.
func Restore(cfg Config, file, passphrase string) (raftstore.BackupInfo, error) {
	if err := cfg.reachable(); err != nil {
		return raftstore.BackupInfo{}, err
	}
	id := newServerID()
	self, err := json.Marshal(cfg.about(id))
	if err != nil {
		return raftstore.BackupInfo{}, fmt.Errorf("restore: %w", err)
	}
	return raftstore.RestoreDir(raftstore.RestoreConfig{
		Dir: cfg.Dir, File: file, Passphrase: passphrase, Self: raftstore.Member{ID: id, Addr: cfg.RaftAddr},
		Files: map[string][]byte{selfFile: self},
	})
}

// Recover makes a server the only one of its rack, when most of the others are lost for good. They
// are fenced off, should they come back.
func Recover(cfg Config) (raftstore.Recovered, error) {
	id, err := machine.Open(filepath.Join(cfg.Dir, machineDir))
	if err != nil {
		return raftstore.Recovered{}, err
	}
	return raftstore.Recover(raftDir(cfg), raftstore.Member{ID: id.Name().ID, Addr: cfg.RaftAddr})
}

// resume gives a server its certificate that was made from a backup: the state has the authority,
// and the keyring opens it.
func resume(cfg Config, dir string) (*machine.Identity, *keyring.Keyring, error) {
	doc, err := os.ReadFile(filepath.Join(cfg.Dir, selfFile))
	if err != nil {
		return nil, nil, api.Errorf(api.CodeConflict, "%s holds the state of a rack but no certificate of this server; restore it from a backup, or empty it and join again", cfg.Dir)
	}
	var self api.Server
	if err := json.Unmarshal(doc, &self); err != nil {
		return nil, nil, fmt.Errorf("read who this server is: %w", err)
	}
	keys, err := keyring.Open(cfg.Dir)
	if err != nil {
		return nil, nil, err
	}
	v, err := raftstore.ReadSnapshot(raftDir(cfg))
	if err != nil {
		return nil, nil, err
	}
	signer := &authority{view: func() *state.View { return v }, keyring: keys, life: cfg.certificateLife()}
	key, request, err := machine.NewRequest()
	if err != nil {
		return nil, nil, err
	}
	cert, err := signer.certify(machine.Name{Cluster: v.Rack().ClusterID, Role: machine.RoleServer, ID: self.ID}, hosts(cfg), request)
	if err != nil {
		return nil, nil, err
	}
	id, err := machine.Keep(dir, key, cert.Chain, cert.Trust)
	return id, keys, err
}

// forget removes the records of servers that are no members: they were lost when the rack was
// recovered or restored.
func (s *Server) forget(ctx context.Context) error {
	members, err := s.store.Members()
	if err != nil {
		return err
	}
	known := map[string]bool{}
	for _, m := range members {
		known[m.ID] = true
	}
	for one := range s.store.View().Servers() {
		if known[one.ID] {
			continue
		}
		if _, err := s.store.Propose(ctx, state.Entry{At: time.Now(), Actor: "rack", Command: state.RemoveServer{ID: one.ID}}); err != nil {
			return err
		}
	}
	return nil
}

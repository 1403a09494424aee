package raftstore

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/hashicorp/raft"

	"slipway/api"
	"slipway/durable"
	"slipway/raftstore/boltlog"
	"slipway/raftstore/state"
)

// RaftDir is where in the data directory of a server its replica is: Config.Dir is this folder.
const RaftDir = "raft"

// RestoreConfig is what RestoreDir makes a server of.
type RestoreConfig struct {
	Dir        string // the data directory to make; it must not exist, or be empty
	File       string // the backup
	Passphrase string
	Self       Member // the only voter of the restored rack
	// Files go into Dir beside those of the backup, by relative path; one of the same path wins
	// over that of the backup.
	Files map[string][]byte
}

// VerifyBackup reads a whole backup, as RestoreDir does before it writes anything: every byte
// is genuine, and the state can be read.
func VerifyBackup(file, passphrase string) (BackupInfo, error) {
	return openBackup(file, passphrase, contents{
		file: func(string, []byte) error { return nil },
		state: func(info BackupInfo, r io.Reader) error {
			s, err := state.Decode(r)
			if err != nil {
				return err
			}
			if got := s.View().Index(); got != info.Index {
				return damaged(fmt.Sprintf("its state ends at entry %d, not %d", got, info.Index))
			}
			return nil
		},
	})
}

func openBackup(file, passphrase string, c contents) (BackupInfo, error) {
	f, err := os.Open(file)
	if err != nil {
		return BackupInfo{}, fmt.Errorf("open backup: %w", err)
	}
	defer f.Close()
	info, err := readBackup(f, passphrase, c)
	if err != nil {
		return info, fmt.Errorf("backup %s: %w", file, err)
	}
	return info, nil
}

// RestoreDir makes the data directory of a server that boots as the only voter of the rack in
// the backup, with all its state, in a new epoch: servers of the rack that was backed up cannot
// talk to it. The backup is read as a whole before the first byte is written, and the directory
// appears complete or not at all.
func RestoreDir(cfg RestoreConfig) (BackupInfo, error) {
	if err := checkEmpty(cfg.Dir); err != nil {
		return BackupInfo{}, err
	}
	for path := range cfg.Files {
		if err := checkBackupPath(path); err != nil {
			return BackupInfo{}, err
		}
	}
	if info, err := VerifyBackup(cfg.File, cfg.Passphrase); err != nil {
		return info, err
	}
	parent := filepath.Dir(filepath.Clean(cfg.Dir))
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return BackupInfo{}, fmt.Errorf("restore: %w", err)
	}
	stage, err := os.MkdirTemp(parent, ".slipway-restore-*")
	if err != nil {
		return BackupInfo{}, fmt.Errorf("restore: %w", err)
	}
	defer os.RemoveAll(stage)
	info, err := openBackup(cfg.File, cfg.Passphrase, contents{
		file: func(path string, b []byte) error { return stageFile(stage, path, b) },
		state: func(info BackupInfo, r io.Reader) error {
			return stageRaft(filepath.Join(stage, RaftDir), cfg.Self, info, r)
		},
	})
	if err != nil {
		return info, err
	}
	for path, b := range cfg.Files {
		if err := stageFile(stage, path, b); err != nil {
			return info, err
		}
	}
	if err := syncTree(stage); err != nil {
		return info, fmt.Errorf("restore: %w", err)
	}
	if err := syscall.Rename(stage, cfg.Dir); err != nil { // unlike os.Rename it replaces an empty directory
		return info, fmt.Errorf("restore: %w", err)
	}
	return info, durable.SyncDir(parent)
}

// checkEmpty refuses a directory that holds anything.
func checkEmpty(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	if len(entries) > 0 {
		return api.Errorf(api.CodeConflict, "restore: %s is not empty (it has %q); restore to a new directory, or move this one away", dir, entries[0].Name())
	}
	return nil
}

// stageFile writes a file of the backup.
func stageFile(stage, path string, b []byte) error {
	full := filepath.Join(stage, filepath.FromSlash(path))
	if err := os.MkdirAll(filepath.Dir(full), 0o700); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	if err := durable.WriteFile(full, b); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	return nil
}

// stageRaft makes a replica whose only content is one snapshot.
func stageRaft(dir string, self Member, info BackupInfo, r io.Reader) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	if err := SetEpoch(dir, NewEpoch(info.Epoch)); err != nil {
		return err
	}
	log, err := boltlog.Open(filepath.Join(dir, "raft.db"))
	if err != nil {
		return err
	}
	// Raft's own key: terms go on behind those of the rack that was backed up.
	err = log.SetUint64([]byte("CurrentTerm"), info.Term)
	if again := log.Close(); err == nil {
		err = again
	}
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	snaps, err := raft.NewFileSnapshotStoreWithLogger(dir, snapshotsKept, raftLogger(nil))
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	_, transport := raft.NewInmemTransport(raft.ServerAddress(self.Addr))
	sink, err := snaps.Create(raft.SnapshotVersionMax, info.Index+historyGap, info.Term, self.alone(), 1, transport)
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	sum := sha256.New()
	if _, err = io.Copy(io.MultiWriter(sink, sum), r); err == nil {
		_, err = sink.Write(sum.Sum(nil))
	}
	if err != nil {
		sink.Cancel()
		return fmt.Errorf("restore: %w", err)
	}
	return sink.Close()
}

// syncTree makes every directory of a tree durable; the files are already.
func syncTree(root string) error {
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		return durable.SyncDir(path)
	})
}

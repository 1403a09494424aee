package raftstore

import (
	"fmt"

	"github.com/hashicorp/raft"

	"slipway/api"
	"slipway/raftstore/state"
)

// ReadSnapshot reads the newest snapshot of a directory (Config.Dir) without starting a replica.
// Entries after it are left out.
func ReadSnapshot(dir string) (*state.View, error) {
	snaps, err := raft.NewFileSnapshotStoreWithLogger(dir, snapshotsKept, raftLogger(nil))
	if err != nil {
		return nil, fmt.Errorf("open snapshots: %w", err)
	}
	list, err := snaps.List()
	if err != nil {
		return nil, fmt.Errorf("list snapshots: %w", err)
	}
	if len(list) == 0 {
		return nil, api.Errorf(api.CodeNotFound, "%s holds no snapshot", dir)
	}
	_, r, err := snaps.Open(list[0].ID)
	if err != nil {
		return nil, fmt.Errorf("open snapshot %s: %w", list[0].ID, err)
	}
	m := &machine{state: state.New(), publish: func(*state.View, []state.Result) {}}
	if err := m.Restore(r); err != nil { // closes it
		return nil, fmt.Errorf("read snapshot %s: %w", list[0].ID, err)
	}
	return m.state.View(), nil
}

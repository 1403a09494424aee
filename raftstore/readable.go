package raftstore

import (
	"fmt"
	"sync/atomic"

	"slipway/api"
	"slipway/raftstore/state"
)

// formatKey is the stable value with the newest format that this replica has applied: an older
// program does not even start on it, and so takes no part in elections.
var formatKey = []byte("SlipwayFormat")

// checkFormat refuses a directory that this program cannot read.
func (s *Store) checkFormat() error {
	n, err := s.log.GetUint64(formatKey)
	if err != nil || n <= uint64(s.cfg.dialect.newest) { // an error is that of a rack that was never raised
		return nil
	}
	return api.Errorf(api.CodeConflict, "the rack has format %d since its upgrade was finished, this program reads up to %d; install the newer version of slipway again, or go back for good with a backup of before: slipwayd restore", n, s.cfg.dialect.newest)
}

// keepFormat notes the format of the rack on disk.
func (s *Store) keepFormat(format uint32) {
	if format <= state.FormatFirst {
		return
	}
	if err := s.log.SetUint64(formatKey, uint64(format)); err != nil {
		s.cfg.Log.Warn("format of the rack not noted", "format", format, "err", err) // the log has it as well
	}
}

// encode writes entries as one Raft entry, for the format of the rack. It is the one place where
// commands enter the log: what a server could not read is refused here, or left out where machines
// only report it. The format of the view may be an old one, which is the lower one.
func (s *Store) encode(entries []state.Entry) ([]byte, error) {
	d, v := s.cfg.dialect, s.View()
	for i, e := range entries {
		format, what := d.needs(e.Command)
		if format <= v.Format() {
			continue
		}
		if !reported(e.Command) || d.kinds[e.Command.Type()].since > v.Format() {
			return nil, tooNew(v, what, format)
		}
		low, err := lowered(e.Command, v.Format())
		if err != nil {
			return nil, fmt.Errorf("encode command %s: %w", e.Command.Type(), err)
		}
		entries = append([]state.Entry(nil), entries...)
		entries[i].Command = low
	}
	return d.encode(entries)
}

// tooNew is the error of a command that waits for an upgrade.
func tooNew(v *state.View, what string, format uint32) error {
	if behind := v.Behind(format); len(behind) > 0 {
		return state.TooOld(behind, format)
	}
	return api.Errorf(api.CodeConflict, "%s needs format %d, and the rack has %d: all servers are new, so finish the upgrade: slipway rack upgrade --finish", what, format, v.Format())
}

// failure is why a machine does not go on; it is set once.
type failure struct{ err atomic.Pointer[error] }

func (f *failure) set(err error) { f.err.CompareAndSwap(nil, &err) }

func (f *failure) get() error {
	if err := f.err.Load(); err != nil {
		return *err
	}
	return nil
}

// stopped is the error of everything that a replica is asked after it met what it cannot read: its
// state is an old one, and stays it.
func stopped(err error) error {
	return api.Errorf(api.CodeUnavailable, "this server takes no further part in the rack: %w", err)
}

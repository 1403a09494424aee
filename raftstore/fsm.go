package raftstore

import (
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"os"

	"github.com/hashicorp/raft"

	"slipway/api"
	"slipway/raftstore/state"
)

// machine adapts the pure state to hashicorp/raft. Raft calls it from one goroutine.
type machine struct {
	state   *state.State
	publish func(*state.View, []state.Result)
	// restored is told of a state that took the place of the one before; nil tells nobody.
	restored func(*state.View)
	// raised is told of a format of the rack that is another than before; nil tells nobody.
	raised func(uint32)
	// dialect is what is read; nil is that of this program.
	dialect *dialect
	// failed is set by what cannot be read. From then on nothing is applied, and no snapshot made:
	// Raft counts on as if all were well.
	failed failure
}

// Apply applies one Raft entry and returns []state.Result, or an error once there was an entry that
// could not be read.
func (m *machine) Apply(l *raft.Log) any {
	if err := m.failed.get(); err != nil {
		return err
	}
	d := m.dialect
	if d == nil {
		d = present
	}
	entries, err := d.decode(l.Data)
	if err != nil {
		err = fmt.Errorf("raft log %d: %w", l.Index, err)
		m.failed.set(err)
		return err
	}
	before := m.state.View().Format()
	results := m.state.ApplyAll(l.Index, entries)
	if now := m.state.View().Format(); now > d.newest {
		err := newer(fmt.Sprintf("the rack has format %d from here on, this program reads up to %d", now, d.newest))
		err = fmt.Errorf("raft log %d: %w", l.Index, err)
		m.failed.set(err)
		return err
	}
	m.tellFormat(before)
	m.publish(m.state.View(), results)
	return results
}

// tellFormat tells of a format that is not the one before.
func (m *machine) tellFormat(before uint32) {
	if now := m.state.View().Format(); now != before && m.raised != nil {
		m.raised(now)
	}
}

// Snapshot captures the present view; Persist does the work.
func (m *machine) Snapshot() (raft.FSMSnapshot, error) {
	if err := m.failed.get(); err != nil {
		return nil, err
	}
	return snapshot{m.state.View()}, nil
}

// Restore replaces the state by a snapshot.
func (m *machine) Restore(r io.ReadCloser) error {
	defer r.Close()
	s, err := readSnapshot(r)
	if err == nil {
		err = m.failed.get()
	}
	if err != nil {
		if api.CodeOf(err) == api.CodeConflict { // of a format that is not known here
			m.failed.set(err)
		}
		return fmt.Errorf("restore snapshot: %w", err)
	}
	if was, is := m.state.View().Index(), s.View().Index(); is < was {
		return fmt.Errorf("restore snapshot: it is of index %d, this replica has applied %d", is, was)
	}
	before := m.state.View().Format()
	m.state = s
	m.tellFormat(before)
	if m.restored != nil {
		m.restored(s.View())
	}
	return nil
}

// snapshot is a view on its way to disk: its encoding and a SHA-256 of it at the end.
type snapshot struct{ view *state.View }

// Persist writes the snapshot.
func (s snapshot) Persist(sink raft.SnapshotSink) error {
	sum := sha256.New()
	err := s.view.Encode(io.MultiWriter(sink, sum))
	if err == nil {
		_, err = sink.Write(sum.Sum(nil))
	}
	if err != nil {
		sink.Cancel()
		return fmt.Errorf("write snapshot: %w", err)
	}
	return sink.Close()
}

// Release does nothing: a view holds no resources.
func (s snapshot) Release() {}

// readSnapshot checks the sum while it decodes. The body goes to a file first: nothing of a
// damaged snapshot may become state.
func readSnapshot(r io.Reader) (*state.State, error) {
	f, err := os.CreateTemp("", "slipway-restore-*")
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	n, err := io.Copy(f, r)
	if err != nil {
		return nil, err
	}
	if n < sha256.Size {
		return nil, fmt.Errorf("it has %d bytes, too few for its checksum", n)
	}
	if err := checkSum(f, n-sha256.Size); err != nil {
		return nil, err
	}
	return state.Decode(io.NewSectionReader(f, 0, n-sha256.Size))
}

// checkSum compares the SHA-256 of the first n bytes with the one that follows them.
func checkSum(f io.ReaderAt, n int64) error {
	var sum hash.Hash = sha256.New()
	if _, err := io.Copy(sum, io.NewSectionReader(f, 0, n)); err != nil {
		return err
	}
	want := make([]byte, sha256.Size)
	if _, err := f.ReadAt(want, n); err != nil {
		return err
	}
	if got := sum.Sum(nil); string(got) != string(want) {
		return fmt.Errorf("it is damaged: its checksum is %x, it says %x", got, want)
	}
	return nil
}

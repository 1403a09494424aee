package raftstore

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/hashicorp/raft"

	"slipway/raftstore/state"
)

// TestAnOfferFromBeforeTheLog: a follower has cut off the beginning of its log, and a leader that does
// not know how far it is offers entries from there.
func TestAnOfferFromBeforeTheLog(t *testing.T) {
	c := newCluster(t, "s1", "s2", "s3")
	c.tune = func(conf *raft.Config) {
		fast(conf)
		conf.TrailingLogs = 5
	}
	c.start("s1", "s2", "s3")
	c.create("a", 30)
	lead := c.leader()
	var id string
	for other := range c.stores {
		if other != lead {
			id = other
		}
	}
	var entries []*raft.Log // as the leader has them
	leading := c.stores[lead]
	for i := uint64(1); i <= leading.raft.LastIndex(); i++ {
		var e raft.Log
		if err := leading.log.GetLog(i, &e); err != nil {
			t.Fatal(err)
		}
		entries = append(entries, &e)
	}
	s := c.stores[id]
	wait(t, "all entries on the follower", func() bool { return s.raft.AppliedIndex() >= entries[len(entries)-1].Index })
	if err := s.Snapshot(); err != nil {
		t.Fatal(err)
	}
	first, err := s.log.FirstIndex()
	if err != nil || first < 20 {
		t.Fatalf("the log begins at %d, %v", first, err)
	}
	term := s.raft.CurrentTerm()
	c.stop(lead)
	_, link := raft.NewInmemTransport("another leader")
	link.Connect(raft.ServerAddress(id), c.links[id])
	for name, offer := range map[string][]*raft.Log{"all": entries[10:], "some that it has cut off": entries[10:15]} {
		request := &raft.AppendEntriesRequest{
			RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(lead), Addr: []byte(lead)},
			Term:      term + 1000, PrevLogEntry: entries[9].Index, PrevLogTerm: entries[9].Term, Entries: offer,
		}
		var reply raft.AppendEntriesResponse
		if err := link.AppendEntries(raft.ServerID(id), raft.ServerAddress(id), request, &reply); err != nil || !reply.Success {
			t.Errorf("%s: %+v, %v", name, reply, err)
		}
		if request.PrevLogEntry != entries[9].Index || len(request.Entries) != len(offer) {
			t.Errorf("%s: the sender's request is another than before", name)
		}
	}
	old := &raft.InstallSnapshotRequest{
		RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(lead), Addr: []byte(lead)}, SnapshotVersion: 1,
		Term: term + 1000, LastLogIndex: 10, LastLogTerm: entries[9].Term, Size: 5,
	}
	data := strings.NewReader("a view")
	var reply raft.InstallSnapshotResponse
	if err := link.InstallSnapshot(raft.ServerID(id), raft.ServerAddress(id), old, &reply, data); err != nil || !reply.Success || data.Len() > 0 {
		t.Errorf("a snapshot with nothing new: %+v, %v, %d bytes are left", reply, err, data.Len())
	}
	if n := len(apps(s)); n != 30 {
		t.Errorf("%d apps", n)
	}
	if last := s.raft.LastIndex(); last < entries[len(entries)-1].Index {
		t.Errorf("the log ends at %d", last)
	}
}

// TestOnlyWhatWasAppliedIsTakenForGranted: entries that are not known to be committed may differ from
// those of a leader.
func TestOnlyWhatWasAppliedIsTakenForGranted(t *testing.T) {
	c := newCluster(t, "s1")
	log, _ := c.files("s1")
	defer log.Close()
	if err := log.StoreLogs([]*raft.Log{{Index: 2, Term: 1}, {Index: 3, Term: 1}}); err != nil {
		t.Fatal(err)
	}
	if err := log.DeleteRange(1, 1); err != nil {
		t.Fatal(err)
	}
	r := newReceiver(newWitness(c.links["s1"]), log)
	offer := &raft.AppendEntriesRequest{Term: 2, PrevLogEntry: 1, PrevLogTerm: 1, Entries: []*raft.Log{{Index: 2, Term: 2}}}
	if got := r.fit(offer, 1); got != offer {
		t.Errorf("it became %+v", got)
	}
	if got := r.fit(offer, 2); got.PrevLogEntry != 2 || got.PrevLogTerm != 1 || len(got.Entries) != 0 {
		t.Errorf("once entry 2 was applied, it became %+v", got)
	}
}

// TestAnOlderSnapshotIsNotTaken: a replica does not go back.
func TestAnOlderSnapshotIsNotTaken(t *testing.T) {
	m := &machine{state: state.New(), publish: func(*state.View, []state.Result) {}}
	m.state.Apply(5, createApp("a"))
	var older bytes.Buffer
	sink := &memorySink{Buffer: &older}
	if err := (snapshot{m.state.View()}).Persist(sink); err != nil {
		t.Fatal(err)
	}
	m.state.Apply(6, createApp("b"))
	if err := m.Restore(io.NopCloser(&older)); err == nil || !strings.Contains(err.Error(), "it is of index 5, this replica has applied 6") {
		t.Errorf("an older snapshot: %v", err)
	}
	if _, there := m.state.View().App("b"); !there {
		t.Error("app b is gone")
	}
}

// memorySink is a snapshot in memory.
type memorySink struct{ *bytes.Buffer }

func (memorySink) Close() error  { return nil }
func (memorySink) Cancel() error { return nil }
func (memorySink) ID() string    { return "memory" }

package raftstore

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/raft"

	"slipway/api"
)

func apps(s *Store) (names []string) {
	for a := range s.View().Apps() {
		names = append(names, string(a.Name))
	}
	return names
}

// TestOneSurvivorBecomesTheRack loses two of three servers for good.
func TestOneSurvivorBecomesTheRack(t *testing.T) {
	c := newCluster(t, "s1", "s2", "s3")
	c.start("s1", "s2", "s3")
	want := c.create("a", 20)
	survivor := c.leader()
	if err := c.stores[survivor].Snapshot(); err != nil {
		t.Fatal(err)
	}
	want = append(want, c.create("b", 20)...)
	survivor = c.leader() // has all that was acknowledged
	for id := range c.dirs {
		c.stop(id)
	}
	dir := c.dirs[survivor]
	if err := SetEpoch(dir, NewEpoch("")); err != nil {
		t.Fatal(err)
	}
	old, err := Epoch(dir)
	if err != nil {
		t.Fatal(err)
	}
	first, err := Recover(dir, Member{survivor, survivor})
	if err != nil {
		t.Fatal(err)
	}
	again, err := Recover(dir, Member{survivor, survivor}) // as if it had been cut short
	if err != nil {
		t.Fatal(err)
	}
	if first.Index != again.Index || !NewerEpoch(first.Epoch, old) || !NewerEpoch(again.Epoch, first.Epoch) {
		t.Errorf("epoch %q, then %+v, then %+v", old, first, again)
	}
	if got, err := Epoch(dir); got != again.Epoch || err != nil {
		t.Errorf("the directory has epoch %q, %v, want %q", got, err, again.Epoch)
	}
	c.start(survivor)
	wait(t, "leadership of one", c.stores[survivor].IsLeader)
	got := apps(c.stores[survivor])
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("the survivor has %q, want %q", got, want)
	}
	c.create("c", 3)
	if n := c.stores[survivor].Servers(); n != 1 {
		t.Errorf("it knows %d servers", n)
	}
}

func TestRecoverRefuses(t *testing.T) {
	if _, err := Recover(t.TempDir(), Member{"s1", "a:1"}); api.CodeOf(err) != api.CodeNotFound {
		t.Errorf("an empty directory: %v", err)
	}
	dir := t.TempDir()
	open(t, dir, true)
	if _, err := Recover(dir, Member{"s1", "a:1"}); err == nil || !strings.Contains(err.Error(), "is slipwayd stopped?") {
		t.Errorf("a server that runs: %v", err)
	}
	if epoch, err := Epoch(dir); err != nil || epochNumber(epoch) != 1 {
		t.Errorf("the refusal changed the epoch to %q, %v", epoch, err)
	}
}

// TestRecoverKeepsWhatItCannotRead has an entry of a newer program at the end of its log.
func TestRecoverKeepsWhatItCannotRead(t *testing.T) {
	c := newCluster(t, "s1")
	log, _ := c.files("s1")
	last, err := log.LastIndex()
	if err != nil {
		t.Fatal(err)
	}
	if err := log.StoreLog(&raft.Log{Index: last + 1, Term: 1, Type: raft.LogCommand, Data: []byte("what?")}); err != nil {
		t.Fatal(err)
	}
	log.Close()
	if _, err := Recover(c.dirs["s1"], Member{"s1", "s1"}); err == nil {
		t.Fatal("it recovered without an entry that it cannot read")
	}
	log, snaps := c.files("s1")
	defer log.Close()
	if n, err := log.LastIndex(); n != last+1 || err != nil {
		t.Errorf("the log ends at %d, %v, want %d", n, err, last+1)
	}
	if list, err := snaps.List(); len(list) != 0 || err != nil {
		t.Errorf("it left snapshots %v, %v", list, err)
	}
}

func TestEpochIsStoredWholeOrNotAtAll(t *testing.T) {
	dir := t.TempDir()
	if e, err := Epoch(dir); e != "" || err != nil {
		t.Errorf("no epoch: %q, %v", e, err)
	}
	for _, bad := range []string{"", "x", "0-12"} {
		if err := SetEpoch(dir, bad); err == nil {
			t.Errorf("epoch %q is taken", bad)
		}
	}
	e := NewEpoch(NewEpoch(""))
	if err := SetEpoch(dir, e); err != nil {
		t.Fatal(err)
	}
	if got, err := Epoch(dir); got != e || err != nil || !strings.HasPrefix(e, "2-") {
		t.Errorf("epoch %q, %v, want %q", got, err, e)
	}
	if err := os.WriteFile(filepath.Join(dir, epochFile), []byte("\x00\x00"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Epoch(dir); err == nil {
		t.Error("a damaged epoch is taken for none: the server would talk to everybody")
	}
}

package boltlog

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/raft"
	"pgregory.net/rapid"
)

// rig is a log on a disk that can crash, and what it has said is stored.
type rig struct {
	t     *rapid.T
	path  string
	disk  *crashDisk
	log   *Log
	acked []raft.Log
	next  uint64
	term  uint64
	// refused were not acknowledged, and nothing was since. The disk may have them all the same.
	refused [][]*raft.Log
}

func (r *rig) open() {
	l, err := openOn(r.path, r.disk, 1<<12)
	if err != nil {
		r.t.Fatalf("open: %v", err)
	}
	l.db.NoSync = true // the crashes of this test are those of the journal
	r.log = l
}

// batch makes entries that follow those that are acknowledged.
func (r *rig) batch() (ptrs []*raft.Log) {
	n := rapid.IntRange(1, 8).Draw(r.t, "entries")
	size := rapid.SampledFrom([]int{0, 10, 490, 5000, 150 << 10, 900 << 10}).Draw(r.t, "size")
	for i := range n {
		e := &raft.Log{
			Index: r.next + uint64(i), Term: r.term, Type: raft.LogCommand, AppendedAt: time.Unix(0, int64(r.next)),
			Data: bytes.Repeat([]byte{byte(r.next), byte(r.term)}, size/2),
		}
		ptrs = append(ptrs, e)
	}
	return ptrs
}

func (r *rig) accept(ptrs []*raft.Log) {
	for _, e := range ptrs {
		r.acked = append(r.acked, *e)
	}
	r.next += uint64(len(ptrs))
	r.refused = nil
}

// store appends, and takes no for an answer from a disk that is full or off.
func (r *rig) store(b []*raft.Log) {
	err := r.log.StoreLogs(b)
	switch {
	case err == nil:
		r.accept(b)
	case errors.Is(err, syscall.ENOSPC) || errors.Is(err, errCrash):
		r.refused = append(r.refused, b)
	default:
		r.t.Fatal(err)
	}
}

// check compares the log with what was acknowledged; after a crash, an append that was refused
// may stand behind it.
func (r *rig) check(crashed bool) {
	first, _ := r.log.FirstIndex()
	last, _ := r.log.LastIndex()
	for _, b := range r.refused {
		var got raft.Log
		if end := b[len(b)-1]; crashed && last == end.Index && r.log.GetLog(last, &got) == nil && bytes.Equal(got.Data, end.Data) {
			r.accept(b)
			break
		}
	}
	if crashed {
		r.refused = nil
	}
	want := r.acked
	if len(want) == 0 {
		if first != 0 || last != 0 {
			r.t.Fatalf("an empty log goes from %d to %d", first, last)
		}
		return
	}
	if first != want[0].Index || last != want[len(want)-1].Index {
		r.t.Fatalf("the log goes from %d to %d, want %d to %d", first, last, want[0].Index, want[len(want)-1].Index)
	}
	for i := range want {
		if !crashed && i%9 != 0 && i < len(want)-1 {
			continue // a few are enough while nothing happened to the others
		}
		var got raft.Log
		if err := r.log.GetLog(want[i].Index, &got); err != nil {
			r.t.Fatalf("entry %d: %v", want[i].Index, err)
		}
		if got.Term != want[i].Term || !bytes.Equal(got.Data, want[i].Data) || !got.AppendedAt.Equal(want[i].AppendedAt) {
			r.t.Fatalf("entry %d has term %d and %d bytes, want term %d and %d bytes", got.Index, got.Term, len(got.Data), want[i].Term, len(want[i].Data))
		}
	}
}

// TestNothingAcknowledgedIsLost appends, cuts, fills the disk and turns the machine off, in any
// order and at any moment of an append, a cut or a transaction.
func TestNothingAcknowledgedIsLost(t *testing.T) {
	turns, root := 0, "/dev/shm" // the crashes are those of a disk in memory
	if _, err := os.Stat(root); err != nil {
		root = ""
	}
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp(root, "boltlog-*")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		r := &rig{t: t, path: filepath.Join(dir, "raft.db"), disk: newCrashDisk(), next: 1, term: 1}
		r.open()
		defer func() { r.log.abandon() }()
		t.Repeat(map[string]func(*rapid.T){
			"append": func(*rapid.T) {
				n := len(r.refused)
				r.store(r.batch())
				if len(r.refused) > n {
					r.t.Fatal("a disk with room has none")
				}
			},
			"burst":   func(*rapid.T) { r.burst() },
			"front":   func(*rapid.T) { r.cutFront() },
			"back":    func(*rapid.T) { r.cutBack() },
			"off":     func(*rapid.T) { r.crashWhile(nil) },
			"off-in":  func(*rapid.T) { r.crashWhile(r.batch()) },
			"full":    func(*rapid.T) { r.full() },
			"restart": func(*rapid.T) { r.restart() },
			"": func(*rapid.T) {
				r.check(false)
				turns += r.log.journal.active
			},
		})
	})
	if turns == 0 {
		t.Error("the second file of the journal was never used")
	}
}

// burst appends enough to turn to the other file, mostly. It stops where the disk is full.
func (r *rig) burst() {
	for range rapid.IntRange(4, 12).Draw(r.t, "appends") {
		r.store([]*raft.Log{{Index: r.next, Term: r.term, AppendedAt: time.Unix(0, 1), Data: bytes.Repeat([]byte{byte(r.next)}, 900<<10)}})
	}
}

func (r *rig) cutFront() {
	if len(r.acked) == 0 {
		return
	}
	n := rapid.IntRange(1, len(r.acked)).Draw(r.t, "n")
	if err := r.log.DeleteRange(r.acked[0].Index, r.acked[n-1].Index); err != nil {
		r.t.Fatal(err)
	}
	r.acked, r.refused = r.acked[n:], nil
}

// cutBack is what a follower does whose entries another leader did not have.
func (r *rig) cutBack() {
	if len(r.acked) < 2 {
		return
	}
	n := rapid.IntRange(1, len(r.acked)-1).Draw(r.t, "n")
	keep := len(r.acked) - n
	if err := r.log.DeleteRange(r.acked[keep].Index, r.next-1); err != nil {
		r.t.Fatal(err)
	}
	before := *r
	r.acked, r.next, r.term = r.acked[:keep:keep], r.acked[keep].Index, r.term+1
	if b := r.batch(); r.log.StoreLogs(b) == nil {
		r.accept(b)
	} else {
		*r = before
	}
}

// crashWhile turns the machine off, between two operations or within an append.
func (r *rig) crashWhile(b []*raft.Log) {
	if b != nil {
		var left atomic.Int64
		left.Store(int64(rapid.IntRange(0, 4).Draw(r.t, "operations until the crash")))
		r.quiet()
		r.disk.before = func(string) error {
			if left.Add(-1) < 0 {
				return errCrash
			}
			return nil
		}
		if rapid.Bool().Draw(r.t, "behind the commit") {
			r.disk.after = func() error { return errCrash }
		}
		r.store(b)
	}
	r.log.abandon()
	r.disk.before, r.disk.after = func(string) error { return nil }, func() error { return nil }
	seed := rapid.Uint64().Draw(r.t, "sectors")
	r.disk.crash(func() bool {
		seed = seed*6364136223846793005 + 1442695040888963407
		return seed>>63 == 1
	})
	r.open()
	r.check(true)
}

// quiet waits for the transaction behind the appends.
func (r *rig) quiet() {
	r.log.writing.Lock()
	defer r.log.writing.Unlock()
	r.log.wait()
}

// full appends to a disk without room, and again when there is some.
func (r *rig) full() {
	ops := map[string]bool{}
	for _, op := range []string{"write", "commit"} {
		ops[op] = rapid.Bool().Draw(r.t, op)
	}
	r.quiet()
	r.disk.before = func(op string) error {
		if ops[op] {
			return syscall.ENOSPC
		}
		return nil
	}
	if rapid.Bool().Draw(r.t, "burst") {
		r.burst()
	}
	for range rapid.IntRange(1, 5).Draw(r.t, "appends") {
		if rapid.Bool().Draw(r.t, "cut") {
			r.cutBack()
		} else {
			r.store(r.batch())
		}
		r.check(false)
	}
	r.quiet()
	r.disk.before = func(string) error { return nil }
}

func (r *rig) restart() {
	if err := r.log.Close(); err != nil {
		r.t.Fatal(err)
	}
	r.open()
	r.refused = nil
	r.check(true)
	if n := len(r.log.recent); n != 0 {
		r.t.Fatalf("after a clean stop %d entries were in the journal only", n)
	}
}

// filled appends entries of 1,000 bytes one by one and leaves them in the journal.
func filled(t *testing.T, path string, n uint64) {
	t.Helper()
	l, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		if err := l.StoreLog(&raft.Log{Index: i + 1, Term: 1, Data: bytes.Repeat([]byte{byte(i)}, 1000)}); err != nil {
			t.Fatal(err)
		}
	}
	l.abandon()
	for _, s := range l.journal.seg {
		s.file.Close()
	}
	l.values.file.Close()
}

// TestLossInTheJournalIsNoticed damages what had been synced, each frame but the last.
func TestLossInTheJournalIsNoticed(t *testing.T) {
	for _, at := range []int64{0, 4, 13, 17, 40, 1000, 3*1536 + 100} { // three sectors a frame
		path := filepath.Join(t.TempDir(), "raft.db")
		filled(t, path, 5)
		f, err := os.OpenFile(path+".0", os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		b := []byte{0}
		if _, err := f.ReadAt(b, at); err != nil {
			t.Fatal(err)
		}
		b[0] ^= 0x40
		if _, err := f.WriteAt(b, at); err != nil {
			t.Fatal(err)
		}
		f.Close()
		l, err := Open(path)
		if err == nil {
			l.Close()
		}
		if err == nil || !strings.Contains(err.Error(), "journal is damaged") {
			t.Errorf("a flip at %d: %v", at, err)
		}
	}
}

// TestTheJournalOfAnotherLogDoesNotCount puts a new tree beside an old journal.
func TestTheJournalOfAnotherLogDoesNotCount(t *testing.T) {
	path := filepath.Join(t.TempDir(), "raft.db")
	filled(t, path, 5)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	bounds(t, open(t, path), 0, 0)
}

// TestAFailedSyncEndsTheLog does not trust a disk that has said no: the page cache may hold what
// the disk has not.
func TestAFailedSyncEndsTheLog(t *testing.T) {
	disk, path := newCrashDisk(), filepath.Join(t.TempDir(), "raft.db")
	l, err := OpenOn(path, disk)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.StoreLog(entry(1)); err != nil {
		t.Fatal(err)
	}
	disk.before = func(op string) error {
		if op == "sync" {
			return syscall.EIO
		}
		return nil
	}
	if err := l.StoreLog(entry(2)); !errors.Is(err, syscall.EIO) {
		t.Fatalf("the append: %v", err)
	}
	disk.before = func(string) error { return nil }
	for what, err := range map[string]error{
		"append": l.StoreLog(entry(2)), "cut": l.DeleteRange(1, 1), "state": l.Failed(),
	} {
		if !errors.Is(err, syscall.EIO) {
			t.Errorf("%s after a failed sync: %v", what, err)
		}
	}
	var got raft.Log
	if err := l.GetLog(1, &got); err != nil || cmp.Diff(entry(1), &got) != "" {
		t.Errorf("what was acknowledged: %v, %v", got, err)
	}
	l.Close()
	disk.crash(func() bool { return true })
	if l, err = OpenOn(path, disk); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := l.GetLog(1, &got); err != nil || l.Failed() != nil {
		t.Errorf("after a new start: %v, %v", err, l.Failed())
	}
}

// TestAHangingDiskIsSeen has a sync that does not end.
func TestAHangingDiskIsSeen(t *testing.T) {
	disk := newCrashDisk()
	l, err := OpenOn(filepath.Join(t.TempDir(), "raft.db"), disk)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if since := l.BusySince(); !since.IsZero() {
		t.Errorf("at rest it is busy since %v", since)
	}
	in, release := make(chan bool), make(chan bool)
	disk.before = func(op string) error {
		if op == "sync" {
			in <- true
			<-release
		}
		return nil
	}
	began, done := time.Now(), make(chan error)
	go func() { done <- l.StoreLog(entry(1)) }()
	<-in
	if since := l.BusySince(); since.Before(began) || since.After(time.Now()) {
		t.Errorf("busy since %v, the append began at %v", since, began)
	}
	close(release)
	if err := <-done; err != nil || !l.BusySince().IsZero() {
		t.Errorf("the append: %v; busy since %v", err, l.BusySince())
	}
}

// TestReadersSeeEveryEntryWhileTheTreeCatchesUp reads during many turns of the journal.
func TestReadersSeeEveryEntryWhileTheTreeCatchesUp(t *testing.T) {
	l := open(t, filepath.Join(t.TempDir(), "raft.db"))
	stop, done := make(chan bool), make(chan error)
	go func() {
		for n := 0; ; n++ {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			last, _ := l.LastIndex()
			if last == 0 {
				continue
			}
			var e raft.Log
			if err := l.GetLog(uint64(n)%last+1, &e); err != nil {
				done <- fmt.Errorf("entry %d of %d: %w", uint64(n)%last+1, last, err)
				return
			}
		}
	}()
	for i := range uint64(200) {
		if err := l.StoreLog(&raft.Log{Index: i + 1, Data: make([]byte, 200<<10)}); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	if err := <-done; err != nil {
		t.Error(err)
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	if n := len(l.recent); n > 2*segmentSize/(200<<10) {
		t.Errorf("%d entries are kept in memory", n)
	}
}

package boltlog

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/raft"
	"go.etcd.io/bbolt"
)

func open(t testing.TB, path string) *Log {
	t.Helper()
	l, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func entry(i uint64) *raft.Log {
	return &raft.Log{Index: i, Term: i / 3, Type: raft.LogCommand, Data: fmt.Appendf(nil, "data %d", i), Extensions: []byte("x"), AppendedAt: time.Unix(0, int64(i))}
}

func bounds(t *testing.T, l *Log, first, last uint64) {
	t.Helper()
	f, errF := l.FirstIndex()
	n, errL := l.LastIndex()
	if f != first || n != last || errF != nil || errL != nil {
		t.Errorf("the log goes from %d to %d (%v, %v), want %d to %d", f, n, errF, errL, first, last)
	}
}

func TestEntriesSurviveAReopen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "raft.db")
	l := open(t, path)
	bounds(t, l, 0, 0)
	var batch []*raft.Log
	for i := uint64(5); i < 25; i++ {
		batch = append(batch, entry(i))
	}
	if err := l.StoreLogs(batch); err != nil {
		t.Fatal(err)
	}
	l.Close()
	l = open(t, path)
	bounds(t, l, 5, 24)
	for _, want := range batch {
		var got raft.Log
		if err := l.GetLog(want.Index, &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, &got); diff != "" {
			t.Errorf("entry %d:\n%s", want.Index, diff)
		}
	}
	if err := l.GetLog(25, new(raft.Log)); !errors.Is(err, raft.ErrLogNotFound) {
		t.Errorf("an entry that is not there: %v", err)
	}
}

func TestDeleteRange(t *testing.T) {
	for name, c := range map[string]struct{ min, max, first, last uint64 }{
		"front": {1, 4, 5, 10}, "all": {1, 10, 0, 0}, "beyond": {0, 99, 0, 0}, "middle": {3, 5, 1, 10}, "none": {11, 20, 1, 10},
	} {
		t.Run(name, func(t *testing.T) {
			l := open(t, filepath.Join(t.TempDir(), "raft.db"))
			for i := uint64(1); i <= 10; i++ {
				if err := l.StoreLog(entry(i)); err != nil {
					t.Fatal(err)
				}
			}
			if err := l.DeleteRange(c.min, c.max); err != nil {
				t.Fatal(err)
			}
			bounds(t, l, c.first, c.last)
		})
	}
}

// TestALongCutIsQuick removes 200,000 entries at once, which must not take time for each pair.
func TestALongCutIsQuick(t *testing.T) {
	l := open(t, filepath.Join(t.TempDir(), "raft.db"))
	const n = 200_000
	for i := uint64(1); i <= n; {
		var b []*raft.Log
		for range 1000 {
			b = append(b, &raft.Log{Index: i, Data: make([]byte, 100)})
			i++
		}
		if err := l.StoreLogs(b); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	if err := l.DeleteRange(1, n-10); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %s", took)
	}
	bounds(t, l, n-9, n)
}

// TestACutAtTheEndIsMadeByTheNextAppend is what a follower does whose entries the leader has not.
func TestACutAtTheEndIsMadeByTheNextAppend(t *testing.T) {
	path, disk := filepath.Join(t.TempDir(), "raft.db"), newCrashDisk()
	l, err := OpenOn(path, disk)
	if err != nil {
		t.Fatal(err)
	}
	for i := uint64(1); i <= 10; i++ {
		if err := l.StoreLog(entry(i)); err != nil {
			t.Fatal(err)
		}
	}
	cut := func() {
		t.Helper()
		if err := l.DeleteRange(8, 10); err != nil {
			t.Fatal(err)
		}
	}
	other := &raft.Log{Index: 8, Term: 77, Data: []byte("of the leader")}
	cut()
	disk.before = func(string) error { return syscall.ENOSPC }
	if err := l.StoreLog(other); !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	disk.before = func(string) error { return nil }
	bounds(t, l, 1, 10) // as if nothing had been cut
	cut()
	if err := l.StoreLog(entry(11)); err != nil { // the leader has them after all
		t.Fatal(err)
	}
	bounds(t, l, 1, 11)
	cut()
	if err := l.DeleteRange(8, 11); err != nil {
		t.Fatal(err)
	}
	if err := l.DeleteRange(1, 3); err != nil { // a snapshot was made meanwhile
		t.Fatal(err)
	}
	if err := l.StoreLog(other); err != nil {
		t.Fatal(err)
	}
	bounds(t, l, 4, 8)
	l.abandon()
	if l, err = OpenOn(path, disk); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	bounds(t, l, 4, 8)
	var got raft.Log
	if err := l.GetLog(8, &got); err != nil || got.Term != 77 {
		t.Errorf("entry 8 is %+v, %v", got, err)
	}
}

func TestStableValues(t *testing.T) {
	l := open(t, filepath.Join(t.TempDir(), "raft.db"))
	if _, err := l.GetUint64([]byte("term")); err == nil || err.Error() != "not found" {
		t.Errorf("a value that is not there: %v; raft compares the text", err)
	}
	if err := l.SetUint64([]byte("term"), 7); err != nil {
		t.Fatal(err)
	}
	if n, err := l.GetUint64([]byte("term")); n != 7 || err != nil {
		t.Errorf("term %d, %v", n, err)
	}
	if err := l.Set([]byte("large"), make([]byte, slotSize)); err == nil {
		t.Error("values of more than a slot are taken")
	}
}

// TestValuesSurvive stores values with no room on the disk, turns the machine off while it writes
// another one, and at last takes the file away: a log that was closed is in the tree.
func TestValuesSurvive(t *testing.T) {
	path, disk := filepath.Join(t.TempDir(), "raft.db"), newCrashDisk()
	l, err := OpenOn(path, disk)
	if err != nil {
		t.Fatal(err)
	}
	want := func(n uint64) {
		t.Helper()
		if got, err := l.GetUint64([]byte("term")); got != n || err != nil {
			t.Errorf("the term is %d, %v, want %d", got, err, n)
		}
	}
	disk.before = func(op string) error {
		if op == "commit" || op == "reserve" {
			return syscall.ENOSPC
		}
		return nil
	}
	for n := range uint64(5) {
		if err := l.SetUint64([]byte("term"), n); err != nil {
			t.Fatalf("on a full disk: %v", err)
		}
	}
	for n := uint64(5); n < 50; n++ { // torn in all ways
		disk.before = func(op string) error {
			if op == "sync" {
				return errCrash
			}
			return nil
		}
		if err := l.SetUint64([]byte("term"), 99); !errors.Is(err, errCrash) {
			t.Fatal(err)
		}
		l.abandon()
		disk.before = func(string) error { return nil }
		left := n % 8
		disk.crash(func() bool { left--; return left%3 == 0 })
		if l, err = OpenOn(path, disk); err != nil {
			t.Fatal(err)
		}
		if got, err := l.GetUint64([]byte("term")); err != nil || got != n-1 && got != 99 {
			t.Fatalf("the term is %d, %v, want %d or 99", got, err, n-1)
		}
		if err := l.SetUint64([]byte("term"), n); err != nil {
			t.Fatal(err)
		}
		want(n)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if l, err = OpenOn(path, newCrashDisk()); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	want(49)
}

func TestDamagedEntryIsNamed(t *testing.T) {
	l := open(t, filepath.Join(t.TempDir(), "raft.db"))
	if err := l.StoreLog(entry(1)); err != nil {
		t.Fatal(err)
	}
	if err := l.DeleteRange(9, 9); err != nil { // brings the entry into the tree
		t.Fatal(err)
	}
	err := l.db.Update(func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucketLogs)
		return b.Put(key(1), b.Get(key(1))[:entryHead+2])
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.GetLog(1, new(raft.Log)); err == nil || !strings.Contains(err.Error(), "raft log 1 is damaged") {
		t.Errorf("a torn entry: %v", err)
	}
}

func BenchmarkStoreLogs(b *testing.B) {
	for _, n := range []int{1, 64, 512} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			l := open(b, filepath.Join(b.TempDir(), "raft.db"))
			next := uint64(1)
			for b.Loop() {
				batch := make([]*raft.Log, n)
				for i := range batch {
					batch[i] = &raft.Log{Index: next, Data: make([]byte, 256)}
					next++
				}
				if err := l.StoreLogs(batch); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(next)/b.Elapsed().Seconds(), "logs/s")
		})
	}
}

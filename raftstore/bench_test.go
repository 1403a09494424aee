package raftstore

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"slipway/api"
	"slipway/e2e/bench"
	"slipway/raftstore/boltlog"
	"slipway/raftstore/state"
)

// benchRounds is how often each measurement is made, between two of the disk alone.
const benchRounds = 5

// TestBench writes the rows of the replicated log to the file in SLIPWAY_BENCH_RAFT. The data is
// in the directory for temporary files, which must be on a disk.
func TestBench(t *testing.T) {
	rows := bench.To(t, "SLIPWAY_BENCH_RAFT")
	for _, clients := range []int{1, 64, 1024} {
		var ours, alone []float64 // commits/s, syncs/s
		var waits, syncs []time.Duration
		for range benchRounds {
			before := syncTimes(t)
			got := commitTimes(t, clients)
			after := syncTimes(t)
			ours, waits = append(ours, got.rate), append(waits, got.median)
			alone = append(alone, (before.rate+after.rate)/2)
			syncs = append(syncs, (before.median+after.median)/2)
		}
		note := fmt.Sprintf("one server, %d clients, median of %d rounds; p50 of a commit %s, of a sync %s", clients, benchRounds, bench.Median(waits), bench.Median(syncs))
		rows.Add(fmt.Sprintf("commits_one_server_over_disk_%d", clients), bench.Median(ours), "1/s", "fdatasync of 512 B, one after the other", bench.Median(alone), note)
		if clients == 1 {
			rows.Add("commit_p50_over_sync", float64(bench.Median(waits).Nanoseconds())/1e3, "us", "fdatasync of 512 B, p50", float64(bench.Median(syncs).Nanoseconds())/1e3, note)
		}
	}
	open, read := recovery(t)
	rows.Add("log_1gb_open_s", open.Seconds(), "s", "reading the file", read.Seconds(), "524,288 entries of 2 KiB, from Open to the first append that is durable; page cache warm")
}

// pace is how many a second, and how long one took.
type pace struct {
	rate   float64
	median time.Duration
}

func paceOf(times []time.Duration, all time.Duration) pace {
	return pace{float64(len(times)) / all.Seconds(), bench.Median(times)}
}

// syncTimes measures what the disk can do: 512 bytes written over, and synced.
func syncTimes(t *testing.T) pace {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "sync"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(make([]byte, 4<<20)); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	var times []time.Duration
	b, began := make([]byte, 512), time.Now()
	for i := 0; time.Since(began) < time.Second; i++ {
		at := time.Now()
		if _, err := f.WriteAt(b, int64(i%8192)*512); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Fdatasync(int(f.Fd())); err != nil {
			t.Fatal(err)
		}
		times = append(times, time.Since(at))
	}
	return paceOf(times, time.Since(began))
}

// commitTimes measures small changes of a store of one server, each of which waits until it is
// durable and applied.
func commitTimes(t *testing.T, clients int) pace {
	t.Helper()
	s, err := Open(Config{Dir: t.TempDir(), ID: "s1", Addr: "127.0.0.1:0", Bootstrap: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	wait(t, "leadership", s.IsLeader)
	const apps = 100
	for i := range apps {
		if _, err := s.Propose(t.Context(), createApp(fmt.Sprintf("a%d", i))); err != nil {
			t.Fatal(err)
		}
	}
	var mu sync.Mutex
	var all []time.Duration
	var wg sync.WaitGroup
	began := time.Now()
	for c := range clients {
		wg.Go(func() {
			var times []time.Duration
			for i := 0; time.Since(began) < 3*time.Second; i++ {
				at := time.Now()
				e := state.Entry{At: at, Actor: "ann", Command: state.LockApp{App: api.AppName(fmt.Sprintf("a%d", (c+i)%apps)), Locked: i%2 == 0}}
				if r, err := s.Propose(t.Context(), e); err != nil || r.Err != nil {
					t.Error(err, r.Err)
					return
				}
				times = append(times, time.Since(at))
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, times...)
		})
	}
	wg.Wait()
	return paceOf(all, time.Since(began))
}

// recovery measures how long a log of a gigabyte takes to open and to append to, and how long
// its file takes to read.
func recovery(t *testing.T) (open, read time.Duration) {
	path := filepath.Join(t.TempDir(), "raft.db")
	log, err := boltlog.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	const entries, batch = 512 << 10, 512
	index := uint64(1)
	for index <= entries {
		var b []*raft.Log
		for range batch {
			b = append(b, &raft.Log{Index: index, Term: 1, Data: make([]byte, 2<<10)})
			index++
		}
		if err := log.StoreLogs(b); err != nil {
			t.Fatal(err)
		}
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	b, err := os.ReadFile(path)
	if err != nil || len(b) < 1<<30 {
		t.Fatalf("the file has %d bytes, %v", len(b), err)
	}
	read, b = time.Since(began), nil
	began = time.Now()
	if log, err = boltlog.Open(path); err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	if err := log.StoreLog(&raft.Log{Index: index, Term: 1}); err != nil {
		t.Fatal(err)
	}
	return time.Since(began), read
}

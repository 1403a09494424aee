package server

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"slipway/api"
	"slipway/e2e/bench"
	"slipway/raftstore"
	"slipway/raftstore/state"
	"slipway/server/steps"
)

// A million processes: 1,000 services of 1,000 copies on 5,000 nodes.
const (
	millionServices = 1000
	millionCopies   = 1000
	millionNodes    = 5000
)

// TestBench writes the rows of the state to the file in SLIPWAY_BENCH_STATE: a million
// processes scheduled, written to the log, read from it and applied, by the code of the leader
// and of a replica, in memory and on one processor.
func TestBench(t *testing.T) {
	rows := bench.To(t, "SLIPWAY_BENCH_STATE")
	runtime.GOMAXPROCS(1)
	s := state.New()
	index := million(t, s)
	base, before := heap(), peakMemory(t)
	var scheduling, coding, applying time.Duration
	var bytes int
	decider := new(Decider)
	in := steps.Input{Now: time.Unix(1000, 0), IDs: api.NewIDs(1)}
	began, processor := time.Now(), processorTime(t)
	cmds, _ := decider.schedule(s.View(), state.Everything(), in)
	scheduling = time.Since(began)
	for len(cmds) > 0 {
		batch := cmds[:min(batchMax, len(cmds))]
		cmds = cmds[len(batch):]
		entries := make([]state.Entry, len(batch))
		for i, c := range batch {
			entries[i] = state.Entry{At: in.Now, Actor: "rack", Command: c}
		}
		clear(batch) // as the loop lets go of what the log has
		coded := time.Now()
		b, err := raftstore.Encode(entries)
		if err == nil {
			entries, err = raftstore.Decode(b)
		}
		if err != nil {
			t.Fatal(err)
		}
		bytes += len(b)
		applied := time.Now()
		coding += applied.Sub(coded)
		index++
		for _, r := range s.ApplyAll(index, entries) {
			if r.Err != nil || len(r.Dropped) > 0 {
				t.Fatalf("a plan was refused: %v %v", r.Err, r.Dropped)
			}
		}
		applying += time.Since(applied)
	}
	took, processor := time.Since(began), processorTime(t)-processor
	peak := peakMemory(t)
	live := 0
	for range s.View().LiveProcesses() {
		live++
	}
	if live != millionServices*millionCopies {
		t.Fatalf("%d processes are placed", live)
	}
	decider = nil
	used := heap() - base
	note := fmt.Sprintf("1,000 services x 1,000 copies, 5,000 nodes, one processor, of which it had %.2f s; %.0f/s; schedule %.2f s, encode and decode %.2f s (%d bytes a copy), apply %.2f s",
		processor.Seconds(), float64(live)/took.Seconds(), scheduling.Seconds(), coding.Seconds(), bytes/live, applying.Seconds())
	rows.Add("million_schedule_apply_s", took.Seconds(), "s", "limit", 5, note)
	rows.Add("million_schedule_apply_rss_mb", float64(peak)/(1<<20), "MB", "limit", 1024,
		fmt.Sprintf("the most that the process of the row above had; floor: %d MB, the program and the rack before plus the state after", (before+int(used))>>20))
	rows.Add("million_state_mb", float64(used)/(1<<20), "MB", "limit", 1024, fmt.Sprintf("of live heap with all indexes, %d bytes a process", used/uint64(live)))
	runtime.KeepAlive(s)
}

// million makes the rack: nodes, apps of ten services, and a release of each that is wanted.
func million(t *testing.T, s *state.State) (index uint64) {
	apply := func(c state.Command) {
		index++
		if r := s.Apply(index, state.Entry{At: time.Unix(int64(index), 0), Actor: "bench", Command: c}); r.Err != nil {
			t.Fatalf("%s: %v", c.Type(), r.Err)
		}
	}
	for i := range millionNodes {
		id := fmt.Sprintf("n%04d", i)
		apply(state.RegisterNode{Node: api.Node{
			ID: api.NodeID(id), Name: id, Pool: api.DefaultPool, Labels: map[string]string{"rack": fmt.Sprintf("r%d", i%25)},
			Capacity: api.Amount{CPU: 14_000, Memory: 32 * api.GiB},
		}})
	}
	for i := range millionServices / 10 {
		app := api.AppName(fmt.Sprintf("app%d", i))
		release := api.Release{ID: api.ReleaseID(fmt.Sprintf("R%09d", i)), App: app}
		for j := range 10 {
			spec := api.ServiceSpec{Name: api.ServiceName(fmt.Sprintf("s%d", j)), Spreads: []api.Spread{{Attribute: "node.label.rack", Weight: 50}}}
			spec.Scale = api.Scale{Count: millionCopies, Ask: api.Amount{CPU: api.MilliCPU(50 + 2*j), Memory: api.Bytes(64+16*j) * api.MiB}}
			release.Services = append(release.Services, spec)
		}
		apply(state.CreateApp{App: api.App{Name: app}})
		apply(state.CreateRelease{Release: release})
		for j := range 10 {
			apply(state.SetWant{Key: api.ServiceKey{App: app, Service: release.Services[j].Name}, Want: []api.Want{{Release: release.ID, Count: millionCopies}}})
		}
	}
	return index
}

// processorTime is how long the process has had a processor.
func processorTime(t *testing.T) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// heap is the memory that is in use.
func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// peakMemory is the most memory that the process has had, in bytes.
func peakMemory(t *testing.T) int {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			n, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil {
				t.Fatal(err)
			}
			return n << 10
		}
	}
	t.Fatal("the kernel tells no VmHWM")
	return 0
}

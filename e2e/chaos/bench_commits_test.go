package chaos

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"slipway/api"
	identity "slipway/api/machine"
	"slipway/e2e/bench"
	"slipway/raftstore"
	"slipway/raftstore/state"
	"slipway/server/auth"
	"slipway/server/link"
)

const (
	// commitRounds is how often each measurement is made, between two of the disk alone, and
	// commitTime how long each takes.
	commitRounds = 3
	commitTime   = 2 * time.Second
	// replicaEnv names the directory of a replica that runs in a process of its own.
	replicaEnv = "SLIPWAY_CHAOS_REPLICA"
	// benchApps is how many apps are written to.
	benchApps = 100
	// diskAlone is what the rows are held against.
	diskAlone = "fdatasync of 512 B, one after the other"
)

// TestBenchWrites measures what three servers, each a process of its own with a log on the disk and
// TLS in between, take of writes, beside what the disk syncs one after the other in the same
// minute. The rows go to the file in SLIPWAY_BENCH_WRITES.
func TestBenchWrites(t *testing.T) {
	rows := bench.To(t, "SLIPWAY_BENCH_WRITES")
	commitRows(t, rows)
	apiRows(t, rows)
}

func commitRows(t *testing.T, rows *bench.Report) {
	replicas := startReplicas(t)
	for _, clients := range []int{1, 64, 1024} {
		var rates, alone []float64
		var waits []time.Duration
		for range commitRounds {
			before := syncRate(t)
			got := replicas.measure(clients)
			alone = append(alone, (before+syncRate(t))/2)
			rates, waits = append(rates, float64(got.Count)/got.Took.Seconds()), append(waits, got.Median)
		}
		note := fmt.Sprintf("3 servers, each a process with its log on the one disk, %d clients, median of %d rounds; p50 of a commit %s", clients, commitRounds, bench.Median(waits))
		rows.Add(fmt.Sprintf("commits_over_disk_%d", clients), bench.Median(rates), "1/s", diskAlone, bench.Median(alone), note)
	}
}

// syncRate is how often a second the disk has 512 bytes written over and synced, one time after
// the other.
func syncRate(t *testing.T) float64 {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "sync"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err = f.Write(make([]byte, 4<<20)); err == nil {
		err = f.Sync()
	}
	n, b, began := 0, make([]byte, 512), time.Now()
	for ; err == nil && time.Since(began) < time.Second; n++ {
		if _, err = f.WriteAt(b, int64(n%8192)*512); err == nil {
			err = syscall.Fdatasync(int(f.Fd()))
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return float64(n) / time.Since(began).Seconds()
}

// replicas are three replicas in processes of their own.
type replicas struct {
	t   *testing.T
	all []*replicaProcess
}

// replicaProcess is one of them. It is told how many clients to have and answers with a measured.
type replicaProcess struct {
	in  io.Writer
	out *bufio.Scanner
}

// measured is what a replica says; Leads is false where it cannot measure.
type measured struct {
	Leads        bool
	Count        int
	Took, Median time.Duration
	Failed       string
}

// startReplicas founds a rack of three and starts them.
func startReplicas(t *testing.T) *replicas {
	t.Helper()
	ca, err := auth.NewCA("bench", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	r, epoch := &replicas{t: t}, raftstore.NewEpoch("")
	var members raft.Configuration
	var files []*os.File
	for i := range 3 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		f, err := l.(*net.TCPListener).File()
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		defer l.Close()
		files = append(files, f)
		members.Servers = append(members.Servers, raft.Server{ID: raft.ServerID(fmt.Sprint("s", i)), Address: raft.ServerAddress(l.Addr().String())})
	}
	for i, m := range members.Servers {
		dir := filepath.Join(t.TempDir(), string(m.ID))
		s := &server{net: newNetwork(1), id: string(m.ID), addr: m.Address, root: dir}
		err := s.found(members)
		if err == nil {
			err = raftstore.SetEpoch(s.dir(), epoch)
		}
		if err == nil {
			err = keepIdentity(ca, s.dir(), s.id)
		}
		if err != nil {
			t.Fatal(err)
		}
		r.start(s.dir(), s.id, files[i])
	}
	return r
}

// keepIdentity makes the certificate of a server.
func keepIdentity(ca *auth.CA, dir, id string) error {
	key, request, err := identity.NewRequest()
	if err != nil {
		return err
	}
	name := identity.Name{Cluster: "bench", Role: identity.RoleServer, ID: id}
	chain, err := ca.Machine(time.Now(), time.Hour, name, []string{"127.0.0.1"}, request)
	if err != nil {
		return err
	}
	_, err = identity.Keep(filepath.Join(dir, "machine"), key, chain, ca.PEM())
	return err
}

// start runs a replica until the test ends.
func (r *replicas) start(dir, id string, listener *os.File) {
	r.t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run", "^TestReplicaProcess$", "-test.timeout", "10m")
	cmd.Env = append(os.Environ(), replicaEnv+"="+dir, "SLIPWAY_CHAOS_ID="+id)
	cmd.ExtraFiles, cmd.Stderr = []*os.File{listener}, os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		r.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		r.t.Fatal(err)
	}
	r.all = append(r.all, &replicaProcess{in, bufio.NewScanner(out)})
	r.t.Cleanup(func() {
		in.Close() // the replica ends
		if err := cmd.Wait(); err != nil {
			r.t.Errorf("replica %s: %v", id, err)
		}
	})
}

// measure has so many clients write through whoever leads.
func (r *replicas) measure(clients int) measured {
	r.t.Helper()
	for deadline := time.Now().Add(calmMax); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) { // polls
		for _, p := range r.all {
			var got measured
			if _, err := fmt.Fprintln(p.in, clients); err != nil {
				r.t.Fatal(err)
			}
			if !p.out.Scan() {
				r.t.Fatalf("a replica has ended: %v", p.out.Err())
			}
			if err := json.Unmarshal(p.out.Bytes(), &got); err != nil {
				r.t.Fatalf("%v: %s", err, p.out.Bytes())
			}
			if got.Failed != "" {
				r.t.Fatal(got.Failed)
			}
			if got.Leads {
				return got
			}
		}
	}
	r.t.Fatalf("nobody leads within %s", calmMax)
	return measured{}
}

// TestReplicaProcess is one of the replicas above.
func TestReplicaProcess(t *testing.T) {
	dir := os.Getenv(replicaEnv)
	if dir == "" {
		t.Skip("the benchmark runs it")
	}
	store, err := openReplica(dir, os.Getenv("SLIPWAY_CHAOS_ID"))
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		var clients int
		if _, err := fmt.Sscan(in.Text(), &clients); err != nil {
			t.Fatal(err)
		}
		b, err := json.Marshal(commitLoad(store, clients))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Println(string(b))
	}
}

func openReplica(dir, id string) (*raftstore.Store, error) {
	epoch, err := raftstore.Epoch(dir)
	if err != nil {
		return nil, err
	}
	self, err := identity.Open(filepath.Join(dir, "machine"))
	if err != nil {
		return nil, err
	}
	l, err := net.FileListener(os.NewFile(3, "listener"))
	if err != nil {
		return nil, err
	}
	transport := link.New(l, self, epoch, slog.New(slog.DiscardHandler)).Transport()
	return raftstore.Open(raftstore.Config{Dir: dir, ID: id, Addr: l.Addr().String(), Transport: transport, Tune: timing})
}

// commitLoad has clients write for a while, each its next change when the one before is applied.
func commitLoad(s *raftstore.Store, clients int) measured {
	if !s.IsLeader() {
		return measured{}
	}
	ctx, cancel := context.WithTimeout(context.Background(), calmMax)
	defer cancel()
	name := func(i int) api.AppName { return api.AppName(fmt.Sprint("a", i%benchApps)) }
	for i := range benchApps {
		r, err := s.Propose(ctx, state.Entry{At: time.Now(), Actor: "ann", Command: state.CreateApp{App: api.App{Name: name(i)}}})
		if err != nil || r.Err != nil && r.Err.Code != api.CodeConflict {
			return measured{Failed: fmt.Sprint(err, r.Err)}
		}
	}
	var mu sync.Mutex
	var all []time.Duration
	var failed error
	var writing sync.WaitGroup
	began := time.Now()
	for c := range clients {
		writing.Go(func() {
			var times []time.Duration
			var err error
			for i := 0; err == nil && time.Since(began) < commitTime; i++ {
				at := time.Now()
				var r state.Result
				r, err = s.Propose(ctx, state.Entry{At: at, Actor: "ann", Command: state.LockApp{App: name(c + i), Locked: i%2 == 0}})
				if r.Err != nil {
					err = r.Err
				}
				times = append(times, time.Since(at))
			}
			mu.Lock()
			defer mu.Unlock()
			all, failed = append(all, times...), errors.Join(failed, err)
		})
	}
	writing.Wait()
	if failed != nil {
		return measured{Failed: failed.Error()}
	}
	took := time.Since(began)
	slices.Sort(all)
	return measured{Leads: true, Count: len(all), Took: took, Median: all[len(all)/2]}
}

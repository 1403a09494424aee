package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/raft"

	"slipway/api"
	"slipway/raftstore/state"
)

// calmMax is how long a rack may take, once nothing is wrong any more, until it takes a write
// and all its replicas are equal.
const calmMax = time.Minute

// rack is the servers of one test, in a bubble of virtual time.
type rack struct {
	t        *testing.T
	net      *network
	servers  []*server
	replicas []replica // of the servers, in their order, as clients see them
	watch    *watch

	mu      sync.Mutex
	rand    *rand.Rand
	numbers int
}

// directory returns a new directory, in memory where there is such a place: what is tested is
// what a program leaves behind, not the disk.
func directory(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "slipway-chaos-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	t.Setenv("TMPDIR", dir)
	return dir
}

// newRack starts n servers, which know one another. wrap stands between clients and a server;
// nil for nothing.
func newRack(t *testing.T, dir string, n int, seed uint64, wrap func(*rack, *server) replica) *rack {
	t.Helper()
	r := &rack{t: t, net: newNetwork(seed), rand: rand.New(rand.NewPCG(seed, 2)), watch: newWatch()}
	if wrap == nil {
		wrap = func(_ *rack, s *server) replica { return s }
	}
	small := r.fork().IntN(2) == 0
	var all raft.Configuration
	for i := range n {
		s := newServer(r.net, fmt.Sprint("s", i), dir, func(c *raft.Config) { tune(c, small) })
		s.began = r.watch.follow
		r.servers = append(r.servers, s)
		r.replicas = append(r.replicas, wrap(r, s))
		all.Servers = append(all.Servers, raft.Server{ID: raft.ServerID(s.id), Address: s.addr})
	}
	for _, s := range r.servers {
		if err := s.found(all); err != nil {
			t.Fatal(err)
		}
		if err := s.start(); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

// electionTimeout is half of that of the product: a history has the more elections.
const electionTimeout = 400 * time.Millisecond

func timing(c *raft.Config) {
	c.HeartbeatTimeout, c.ElectionTimeout, c.LeaderLeaseTimeout = electionTimeout, electionTimeout, electionTimeout/2
}

// tune makes snapshots frequent and logs short, so that a server that was away gets a snapshot, and, if
// small, appends so small that one that lags takes several.
func tune(c *raft.Config, small bool) {
	timing(c)
	c.SnapshotInterval, c.SnapshotThreshold, c.TrailingLogs = 5*time.Second, 64, 32
	if small {
		c.MaxAppendEntries = 3
	}
}

// fork returns a source of random numbers of its own.
func (r *rack) fork() *rand.Rand {
	r.mu.Lock()
	defer r.mu.Unlock()
	return rand.New(rand.NewPCG(r.rand.Uint64(), r.rand.Uint64()))
}

// number returns a number that nobody else gets.
func (r *rack) number() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.numbers++
	return r.numbers
}

// close stops everything that still runs.
func (r *rack) close() {
	for _, s := range r.servers {
		if err := s.stop(); err != nil {
			r.t.Errorf("stop %s: %v", s.id, err)
		}
	}
}

// must proposes a command until it is done.
func (r *rack) must(cmd state.Command) {
	r.t.Helper()
	c := r.client(newHistory())
	ctx, cancel := context.WithTimeout(context.Background(), calmMax)
	defer cancel()
	entry := state.Entry{Request: api.RequestID(fmt.Sprint("q", r.number())), Actor: "rack", Command: cmd}
	began := time.Now()
	err := c.insist(ctx, func(ctx context.Context, to replica) error {
		result, err := to.write(ctx, entry)
		if err == nil && result.Err != nil {
			r.t.Fatalf("%s: %v", cmd.Type(), result.Err)
		}
		return err
	})
	if err != nil {
		r.t.Fatalf("no write is taken for %s: %v\n%s", time.Since(began), err, r.picture())
	}
}

// converge waits until all servers have the same state and checks that it is: the same bytes,
// and no broken invariant.
func (r *rack) converge() {
	r.t.Helper()
	r.must(state.PutPool{Pool: api.Pool{Name: "calm", Strategy: api.BinPack}})
	deadline := time.Now().Add(calmMax)
	views := r.level()
	for ; views == nil; views = r.level() {
		if time.Now().After(deadline) {
			r.t.Fatalf("the replicas are not level after %s\n%s", calmMax, r.picture())
		}
		time.Sleep(10 * time.Millisecond) // virtual time
	}
	var first string
	for i, v := range views {
		var b strings.Builder
		if err := v.Encode(&b); err != nil {
			r.t.Fatal(err)
		}
		if broken := v.Check(); len(broken) > 0 {
			r.t.Errorf("%s: %s", r.servers[i].id, strings.Join(broken, "\n"))
		}
		if i == 0 {
			first = b.String()
		} else if diff := cmp.Diff(strings.Split(first, "\n"), strings.Split(b.String(), "\n")); diff != "" {
			r.t.Errorf("%s and %s differ at index %d:\n%s", r.servers[0].id, r.servers[i].id, v.Index(), diff)
		}
	}
}

// level returns the states of all servers once they are those of one moment, nil before.
func (r *rack) level() (views []*state.View) {
	leads := false
	for _, s := range r.servers {
		l := s.life()
		if l == nil {
			return nil
		}
		leads = leads || l.store.IsLeader()
		v := l.store.View()
		if len(views) > 0 && v.Index() != views[0].Index() {
			return nil
		}
		views = append(views, v)
	}
	if !leads {
		return nil
	}
	return views
}

// picture is what a failing test prints.
func (r *rack) picture() string {
	var b strings.Builder
	for _, s := range r.servers {
		l := s.life()
		if l == nil {
			fmt.Fprintf(&b, "%s is down\n", s.id)
			continue
		}
		_, leader := l.store.Leader()
		fmt.Fprintf(&b, "%s leads %t, follows %q, is at %d\n", s.id, l.store.IsLeader(), leader, l.store.View().Index())
	}
	r.net.mu.Lock()
	defer r.net.mu.Unlock()
	for t := range r.net.troubles {
		fmt.Fprintf(&b, "%+v\n", *t)
	}
	return b.String()
}

// watch follows the events of every life of every server.
type watch struct {
	mu       sync.Mutex
	segments []*segment
}

// segment is what one subscriber saw from one index to another, without a gap.
type segment struct {
	from, to uint64 // the first is excluded
	events   []api.Event
}

func newWatch() *watch { return &watch{} }

func (w *watch) begin(index uint64) *segment {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := &segment{from: index, to: index}
	w.segments = append(w.segments, s)
	return s
}

// follow subscribes to a server until it dies. A snapshot that is taken in, or a loss that is
// told, ends a segment.
func (w *watch) follow(l *life) {
	v, updates := l.store.Subscribe(l.end.ctx)
	go func() {
		s := w.begin(v.Index())
		for u := range updates {
			if u.Changes.All || u.Lost > 0 {
				s = w.begin(u.View.Index())
				continue
			}
			w.mu.Lock()
			s.events = append(s.events, u.Events...)
			s.to = u.View.Index()
			w.mu.Unlock()
		}
	}()
}

// check returns what is wrong with the events that were seen, and how many there were: the
// events of an index are the same on every server, they come in order, none is missing and none
// comes twice.
func (w *watch) check() (broken []string, seen int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	truth := map[uint64][]api.Event{}
	for _, s := range w.segments {
		mine := map[uint64][]api.Event{}
		for _, e := range s.events {
			mine[e.Index] = append(mine[e.Index], e)
		}
		for index, events := range mine {
			if len(events) > len(truth[index]) {
				truth[index] = events
			}
		}
		seen += len(s.events)
	}
	for _, s := range w.segments {
		at := 0
		for index := s.from + 1; index <= s.to; index++ {
			for _, e := range truth[index] {
				if at == len(s.events) || !same(s.events[at], e) {
					broken = append(broken, fmt.Sprintf("index %d: %v is missing; seen from %d to %d", index, e, s.from, s.to))
					continue
				}
				at++
			}
		}
		if at < len(s.events) {
			broken = append(broken, fmt.Sprintf("%v is out of order or comes twice", s.events[at]))
		}
	}
	return broken, seen
}

func same(a, b api.Event) bool {
	return a.Index == b.Index && a.Type == b.Type && a.Object == b.Object && a.App == b.App && a.At.Equal(b.At)
}

package raftstore

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"slipway/api"
	"slipway/raftstore/boltlog"
)

func TestJudge(t *testing.T) {
	now := time.Unix(100_000, 0)
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	leader := signs{now: now, awake: ago(time.Hour), leads: ago(time.Hour), others: true, loop: now}
	for name, c := range map[string]struct {
		with func(*signs)
		want step
	}{
		"all is well":                                {func(*signs) {}, stepNone},
		"a slow disk":                                {func(s *signs) { s.busy = ago(9 * time.Second) }, stepNone},
		"a disk that hangs":                          {func(s *signs) { s.busy = ago(10 * time.Second) }, stepOffer},
		"a disk that hangs, offered already":         {func(s *signs) { s.busy, s.offered = ago(12*time.Second), ago(2*time.Second) }, stepNone},
		"a disk that hangs after the offer":          {func(s *signs) { s.busy, s.offered = ago(15*time.Second), ago(5*time.Second) }, stepSilence},
		"a disk that hangs, silenced":                {func(s *signs) { s.leads, s.silenced, s.busy = time.Time{}, true, ago(20*time.Second) }, stepNone},
		"a disk that answered after it was too late": {func(s *signs) { s.leads, s.silenced = time.Time{}, true }, stepDie},
		"a disk that hangs for good":                 {func(s *signs) { s.leads, s.silenced, s.busy = time.Time{}, true, ago(time.Minute) }, stepDie},
		"a follower whose disk hangs":                {func(s *signs) { s.leads, s.busy = time.Time{}, ago(50*time.Second) }, stepNone},
		"a follower whose disk hangs for good":       {func(s *signs) { s.leads, s.busy = time.Time{}, ago(time.Minute) }, stepDie},
		"a lone server whose disk hangs":             {func(s *signs) { s.others, s.busy = false, ago(50*time.Second) }, stepNone},
		"a lone server whose disk hangs for good":    {func(s *signs) { s.others, s.busy = false, ago(time.Minute) }, stepDie},
		"a machine that stood still":                 {func(s *signs) { s.busy, s.loopWaits, s.loop, s.awake = ago(time.Hour), true, ago(time.Hour), now }, stepNone},
		"a disk that hangs since the machine stood":  {func(s *signs) { s.busy, s.awake = ago(time.Hour), ago(11*time.Second) }, stepOffer},
		"a disk that fails":                          {func(s *signs) { s.failed = syscall.EIO }, stepDie},
		"a full disk":                                {func(s *signs) { s.full = true }, stepOffer},
		"a full disk, offered a moment ago":          {func(s *signs) { s.full, s.offered = true, ago(59*time.Second) }, stepNone},
		"a full disk, offered long ago":              {func(s *signs) { s.full, s.offered = true, ago(time.Minute) }, stepOffer},
		"a full disk of a new leader":                {func(s *signs) { s.full, s.leads = true, ago(4*time.Second) }, stepNone},
		"a full disk of a follower":                  {func(s *signs) { s.full, s.leads = true, time.Time{} }, stepNone},
		"a full disk of a lone server":               {func(s *signs) { s.full, s.others = true, false }, stepNone},
		"a loop that is stuck":                       {func(s *signs) { s.loopWaits, s.loop = true, ago(30*time.Second) }, stepOffer},
		"a loop with nothing to do":                  {func(s *signs) { s.loop = ago(time.Hour) }, stepNone},
		"a loop that began with the election":        {func(s *signs) { s.loopWaits, s.loop, s.leads = true, ago(time.Hour), ago(20*time.Second) }, stepNone},
		"a loop that is stuck on a lone server":      {func(s *signs) { s.others, s.loopWaits, s.loop = false, true, ago(299*time.Second) }, stepNone},
		"a loop that is stuck for good":              {func(s *signs) { s.loopWaits, s.loop, s.offered = true, ago(300*time.Second), ago(time.Second) }, stepDie},
	} {
		s := leader
		c.with(&s)
		got, why := defaultLimits.judge(s)
		if got != c.want || (why == "") != (got == stepNone) {
			t.Errorf("%s: step %d (%s), want %d", name, got, why, c.want)
		}
	}
}

// faultDisk is the disk of the machine with faults.
type faultDisk struct {
	boltlog.OSDisk

	mu   sync.Mutex
	err  error         // of every write, sync and transaction
	left int           // transactions that succeed before err
	no   int           // how many operations had err
	hang chan struct{} // closed when operations may go on; nil while nothing hangs
}

func (d *faultDisk) set(err error, hang chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.err, d.hang = err, hang
}

func (d *faultDisk) ask() error {
	d.mu.Lock()
	err, hang := d.err, d.hang
	if err != nil {
		d.no++
	}
	d.mu.Unlock()
	if hang != nil {
		<-hang
	}
	return err
}

// refused returns how many operations were refused.
func (d *faultDisk) refused() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.no
}

func (d *faultDisk) Commit(transaction func() error) error {
	d.mu.Lock()
	spared := d.left > 0
	d.left = max(0, d.left-1)
	d.mu.Unlock()
	if spared {
		return d.OSDisk.Commit(transaction)
	}
	if err := d.ask(); err != nil {
		return err
	}
	return d.OSDisk.Commit(transaction)
}

func (d *faultDisk) Reserve(path string, size int64) error {
	if err := d.ask(); err != nil {
		return err
	}
	return d.OSDisk.Reserve(path, size)
}

func (d *faultDisk) Open(path string) (boltlog.File, error) {
	f, err := d.OSDisk.Open(path)
	if strings.HasSuffix(path, ".values") { // needs no room; without a term Raft ends the program by itself
		return f, err
	}
	return faultFile{f, d}, err
}

type faultFile struct {
	boltlog.File
	disk *faultDisk
}

func (f faultFile) WriteAt(p []byte, off int64) (int, error) {
	if err := f.disk.ask(); err != nil {
		return 0, err
	}
	return f.File.WriteAt(p, off)
}

func (f faultFile) Sync() error {
	if err := f.disk.ask(); err != nil {
		return err
	}
	return f.File.Sync()
}

// guarded is a cluster of three with disks that can fail, quick watchdogs and what they said.
type guarded struct {
	*cluster
	disks map[string]*faultDisk

	mu    sync.Mutex
	died  map[string]error
	stuck map[string]bool
}

var quick = limits{
	tick: 5 * time.Millisecond, hang: 300 * time.Millisecond, silent: 800 * time.Millisecond, dead: 5 * time.Second,
	settle: 50 * time.Millisecond, offer: 300 * time.Millisecond, loop: 500 * time.Millisecond,
}

func newGuarded(t *testing.T, ids ...string) *guarded {
	g := &guarded{cluster: newCluster(t, ids...), disks: map[string]*faultDisk{}, died: map[string]error{}, stuck: map[string]bool{}}
	g.prepare = func(id string, cfg *Config) {
		g.disks[id] = &faultDisk{}
		cfg.Disk, cfg.limits = g.disks[id], quick
		cfg.Died = func(err error) {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.died[id] = err
		}
		cfg.Loop = func() (time.Time, bool) {
			g.mu.Lock()
			defer g.mu.Unlock()
			return time.Time{}, g.stuck[id]
		}
	}
	g.start(ids...)
	return g
}

func (g *guarded) dead(id string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.died[id]
}

// other waits for a leader that is not id.
func (g *guarded) other(id string) (leader string) {
	g.t.Helper()
	wait(g.t, "another leader than "+id, func() bool {
		for name, s := range g.stores {
			if name != id && s.IsLeader() {
				leader = name
				return true
			}
		}
		return false
	})
	return leader
}

// propose writes through one server.
func (g *guarded) propose(id, app string) error {
	r, err := g.stores[id].Propose(g.t.Context(), createApp(app))
	if err == nil {
		err = r.Err
	}
	return errOrNil(err)
}

// errOrNil turns a nil *api.Error in an interface into nil.
func errOrNil(err error) error {
	if e, ok := err.(*api.Error); ok && e == nil {
		return nil
	}
	return err
}

// TestALeaderWhoseDiskHangsIsReplaced holds every sync of the leader, whose heartbeats would go
// on forever.
func TestALeaderWhoseDiskHangsIsReplaced(t *testing.T) {
	g := newGuarded(t, "s1", "s2", "s3")
	g.create("a", 3)
	old := g.leader()
	changes := g.stores[old].LeaderChanges()
	for len(changes) > 0 {
		<-changes
	}
	release := make(chan struct{})
	g.disks[old].set(nil, release)
	freed := sync.OnceFunc(func() { g.disks[old].set(nil, nil); close(release) })
	defer freed()
	go g.stores[old].Propose(t.Context(), createApp("hangs"))
	leader := g.other(old)
	if err := g.propose(leader, "b"); err != nil {
		t.Errorf("a write after the change: %v", err)
	}
	select {
	case leads := <-changes:
		if leads {
			t.Error("the server that hangs says that it leads")
		}
	case <-time.After(5 * time.Second):
		t.Error("the server that hangs was not told that it leads no more")
	}
	wait(t, "end of the server that hangs", func() bool { return g.dead(old) != nil })
	if err := g.dead(old); api.CodeOf(err) != api.CodeUnavailable || !strings.Contains(err.Error(), "the disk has not answered") {
		t.Errorf("it ends with %v", err)
	}
	freed()
	g.stop(old)
	g.start(old) // as systemd does
	wait(t, "the same state everywhere", func() bool {
		return slices.Equal(apps(g.stores[old]), apps(g.stores[leader])) && slices.Contains(apps(g.stores[old]), "b")
	})
}

// TestHeartbeatsGoOnWhileTheDiskHangs shows what the watchdog is there for.
func TestHeartbeatsGoOnWhileTheDiskHangs(t *testing.T) {
	g := newGuarded(t, "s1", "s2", "s3")
	prepare := g.prepare
	g.prepare = func(id string, cfg *Config) {
		prepare(id, cfg)
		cfg.limits = limits{tick: time.Hour}
	}
	for id := range g.dirs {
		g.stop(id)
	}
	g.start("s1", "s2", "s3")
	g.create("a", 1)
	old := g.leader()
	release := make(chan struct{})
	g.disks[old].set(nil, release)
	defer func() { g.disks[old].set(nil, nil); close(release) }()
	go g.stores[old].Propose(t.Context(), createApp("hangs"))
	wait(t, "operation that hangs", func() bool { return !g.stores[old].log.BusySince().IsZero() })
	deadline := time.Now().Add(20 * 100 * time.Millisecond) // twenty times the election timeout
	for time.Now().Before(deadline) {
		for id, s := range g.stores {
			if id != old && s.raft.State() == raft.Leader {
				t.Fatalf("%s leads: the watchdog is not needed for this any more", id)
			}
		}
		time.Sleep(time.Millisecond) // polls
	}
}

// TestALeaderWithAFullDiskHandsOver fills the disk of the leader, and empties it again.
func TestALeaderWithAFullDiskHandsOver(t *testing.T) {
	g := newGuarded(t, "s1", "s2", "s3")
	g.create("a", 3)
	old := g.leader()
	g.disks[old].set(syscall.ENOSPC, nil)
	err := g.propose(old, "refused")
	if code := api.CodeOf(err); code != api.CodeExhausted && code != api.CodeUnavailable && code != api.CodeNotLeader {
		t.Errorf("a write to the full disk: %v", err)
	}
	leader := g.other(old)
	for _, app := range []string{"b", "c", "d"} {
		wait(t, "write without the full server", func() bool { return g.propose(leader, app) == nil || g.propose(g.other(old), app) == nil })
	}
	if slices.Contains(apps(g.stores[old]), "d") {
		t.Error("the full server has stored something")
	}
	g.disks[old].set(nil, nil)
	wait(t, "the same state without a restart", func() bool {
		return slices.Equal(apps(g.stores[old]), apps(g.stores[g.leader()])) && slices.Contains(apps(g.stores[old]), "d")
	})
	wait(t, "room", func() bool { return !g.stores[old].log.Low() })
	if err := g.dead(old); err != nil {
		t.Errorf("it died of a full disk: %v", err)
	}
	for id := range g.dirs { // the one that was full is needed for every write now
		if id != old {
			g.stop(id)
			break
		}
	}
	g.create("e", 3)
}

// TestAFullDiskOfALoneServer goes on when there is room again.
func TestAFullDiskOfALoneServer(t *testing.T) {
	g := newGuarded(t, "s1")
	g.create("a", 1)
	g.disks["s1"].set(syscall.ENOSPC, nil)
	wait(t, "refusal", func() bool {
		err := g.propose("s1", "b")
		return api.CodeOf(err) == api.CodeExhausted && strings.Contains(err.Error(), "free space")
	})
	g.disks["s1"].set(nil, nil)
	wait(t, "a write with room again", func() bool { return g.propose("s1", "b") == nil })
	if err := g.dead("s1"); err != nil {
		t.Errorf("it died of a full disk: %v", err)
	}
}

// TestAFullFollowerWithAnotherHistoryCatchesUp gives a follower entries that nobody else has and a
// disk that is full when it is to replace them, at once or after some transactions.
func TestAFullFollowerWithAnotherHistoryCatchesUp(t *testing.T) {
	for left := range 3 {
		t.Run(fmt.Sprintf("after %d transactions", left), func(t *testing.T) {
			g := newGuarded(t, "s1", "s2", "s3")
			g.leader()
			g.stop("s3")
			g.create("a", 10)
			log, _ := g.files("s3")
			last, err := log.LastIndex()
			if err != nil {
				t.Fatal(err)
			}
			for i := last + 1; i < last+20; i++ {
				if err := log.StoreLog(&raft.Log{Index: i, Term: 1, Type: raft.LogNoop}); err != nil {
					t.Fatal(err)
				}
			}
			log.Close()
			prepare := g.prepare
			full := &faultDisk{err: syscall.ENOSPC, left: left}
			g.prepare = func(id string, cfg *Config) {
				prepare(id, cfg)
				cfg.Disk = full
			}
			g.start("s3")
			g.create("b", 3)
			wait(t, "refusals", func() bool { return full.refused() > 3 })
			full.set(nil, nil)
			wait(t, "the same state without a restart", func() bool { return len(apps(g.stores["s3"])) == 13 })
		})
	}
}

// TestAServerWhoseDiskFailsEnds refuses a sync for good.
func TestAServerWhoseDiskFailsEnds(t *testing.T) {
	g := newGuarded(t, "s1", "s2", "s3")
	g.create("a", 3)
	old := g.leader()
	g.disks[old].set(syscall.EIO, nil)
	if err := g.propose(old, "b"); err == nil {
		t.Error("a write to a disk that fails was acknowledged")
	}
	wait(t, "end of the server", func() bool { return g.dead(old) != nil })
	if err := g.dead(old); !strings.Contains(err.Error(), "input/output error") {
		t.Errorf("it ends with %v", err)
	}
	if err := g.propose(g.other(old), "c"); err != nil {
		t.Errorf("a write after the change: %v", err)
	}
}

// TestALeaderWhoseLoopIsStuckIsReplaced has changes wait for a loop that does not come.
func TestALeaderWhoseLoopIsStuckIsReplaced(t *testing.T) {
	g := newGuarded(t, "s1", "s2", "s3")
	g.create("a", 1)
	old := g.leader()
	g.mu.Lock()
	g.stuck[old] = true
	g.mu.Unlock()
	leader := g.other(old)
	if err := g.dead(old); err != nil {
		t.Errorf("it died: %v", err)
	}
	if err := g.propose(leader, "b"); err != nil {
		t.Errorf("a write after the change: %v", err)
	}
}

func TestASilencedReplicaSendsNothing(t *testing.T) {
	_, inner := raft.NewInmemTransport("a")
	g := &gate{}
	tr := g.around(inner)
	g.shut.Store(true)
	_, pipe := tr.AppendEntriesPipeline("b", "b")
	vote, ok := tr.(raft.WithPreVote)
	if !ok {
		t.Fatal("the transport lost its pre-votes")
	}
	for what, err := range map[string]error{
		"entries": tr.AppendEntries("b", "b", nil, nil), "pipeline": pipe, "vote": tr.RequestVote("b", "b", nil, nil),
		"snapshot": tr.InstallSnapshot("b", "b", nil, nil, nil), "transfer": tr.TimeoutNow("b", "b", nil, nil), "pre-vote": vote.RequestPreVote("b", "b", nil, nil),
	} {
		if !errors.Is(err, errSilenced) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

package server

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"slipway/api"
	"slipway/raftstore"
	"slipway/raftstore/state"
)

// fakeStore is a log of one replica: what is proposed is applied at once, and the subscriber
// is told.
type fakeStore struct {
	t       *testing.T
	updates chan raftstore.Update
	fail    error // what proposals fail with

	mu      sync.Mutex
	state   *state.State
	index   uint64
	batches []int // entries per proposal
}

func newFakeStore(t *testing.T) *fakeStore {
	return &fakeStore{t: t, state: state.New(), updates: make(chan raftstore.Update, 1)}
}

func (f *fakeStore) View() *state.View {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.state.View()
}

func (f *fakeStore) Follow(context.Context, func(state.Changes) state.Changes) (*state.View, <-chan raftstore.Update) {
	return f.View(), f.updates
}

func (f *fakeStore) ProposeEach(_ context.Context, entries []state.Entry) ([]state.Result, error) {
	if f.fail != nil {
		return nil, f.fail
	}
	f.mu.Lock()
	f.batches = append(f.batches, len(entries))
	f.mu.Unlock()
	var results []state.Result
	for _, e := range entries {
		results = append(results, f.apply(e.Command))
	}
	return results, nil
}

// apply puts a command through the log and merges it into what waits for the subscriber.
func (f *fakeStore) apply(c state.Command) state.Result {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.index++
	r := f.state.Apply(f.index, state.Entry{At: time.Now(), Actor: "test", Command: c})
	u := raftstore.Update{View: f.state.View(), Changes: r.Changes}
	select {
	case old := <-f.updates:
		u.Changes.Merge(old.Changes)
	default:
	}
	f.updates <- u
	return r
}

func (f *fakeStore) must(c state.Command) {
	f.t.Helper()
	if r := f.apply(c); r.Err != nil {
		f.t.Fatal(r.Err)
	}
}

func (f *fakeStore) loop(heartbeats map[api.NodeID]time.Time) *loop {
	return &loop{
		store: f, heartbeats: func() map[api.NodeID]time.Time { return heartbeats }, now: time.Now,
		seed: func() uint64 { return f.View().Index() + 1 }, log: slog.New(slog.DiscardHandler),
	}
}

// lead runs a loop until the function returns, and checks that it ends with its context.
func (f *fakeStore) lead(l *loop, during func()) {
	f.t.Helper()
	lost := errors.New("leadership lost")
	ctx, cancel := context.WithCancelCause(f.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- l.run(ctx) }()
	during()
	cancel(lost)
	if err := <-ended; !errors.Is(err, lost) {
		f.t.Errorf("the loop ended with %v, want %v", err, lost)
	}
}

func (f *fakeStore) node(id api.NodeID) {
	f.must(state.RegisterNode{Node: api.Node{ID: id, Name: string(id), Capacity: api.Amount{CPU: 4000, Memory: api.GiB}}})
}

func (f *fakeStore) promote(app api.AppName, count int) {
	f.must(state.CreateApp{App: api.App{Name: app}})
	release := api.ReleaseID("R" + app)
	f.must(state.CreateRelease{Release: api.Release{ID: release, App: app, Services: []api.ServiceSpec{{
		Name: "worker", Minimum: 50, Maximum: 200, Scale: api.Scale{Count: count, Ask: api.Amount{CPU: 1, Memory: 1}},
	}}}})
	f.must(state.CreateDeployment{Deployment: api.Deployment{ID: api.DeploymentID("D" + app), App: app, Release: release}})
}

func (f *fakeStore) live() int {
	n := 0
	for range f.View().LiveProcesses() {
		n++
	}
	return n
}

func TestLoopActsOnWhatIsThereAndOnChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeStore(t)
		f.node("n1")
		f.promote("before", 2) // the update of it may be lost: the loop looks at everything first
		<-f.updates
		f.lead(f.loop(map[api.NodeID]time.Time{}), func() {
			synctest.Wait()
			if n := f.live(); n != 2 {
				t.Errorf("%d processes live after the first pass, want 2", n)
			}
			f.promote("after", 3)
			synctest.Wait()
			if n := f.live(); n != 5 {
				t.Errorf("%d processes live after a change, want 5", n)
			}
			batches := len(f.batches)
			time.Sleep(5 * time.Second) // virtual
			synctest.Wait()
			if n := len(f.batches) - batches; n != 0 {
				t.Errorf("a rack at rest has %d proposals", n)
			}
		})
	})
}

// A pass over one app must not forget what another one waits for: here a process without a
// check, which is ready when it has stayed for a while.
func TestLoopKeepsTheEarliestWakeUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeStore(t)
		f.node("n1")
		f.promote("shop", 1)
		ready := func() bool {
			for p := range f.View().LiveProcesses() {
				return p.Ready
			}
			return false
		}
		f.lead(f.loop(map[api.NodeID]time.Time{}), func() {
			synctest.Wait()
			for p := range f.View().LiveProcesses() {
				f.must(state.UpdateProcesses{Node: "n1", Statuses: map[api.ProcessID]api.ProcessStatus{
					p.ID: {State: api.StateRunning, Health: api.HealthHealthy, Started: time.Now()},
				}})
			}
			for i := range 9 { // changes that have nothing to do with it
				time.Sleep(200 * time.Millisecond) // virtual
				f.must(state.CreateApp{App: api.App{Name: api.AppName("a" + string(rune('a'+i)))}})
			}
			synctest.Wait()
			if ready() {
				t.Error("the process is ready too soon")
			}
			time.Sleep(300 * time.Millisecond) // virtual
			synctest.Wait()
			if !ready() {
				t.Error("the process is not ready after its time")
			}
		})
	})
}

func TestLoopBoundsItsProposals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeStore(t)
		f.node("n1")
		for i := range 3 * batchMax {
			f.promote(api.AppName("a"+string(rune('a'+i/26))+string(rune('a'+i%26))), 1)
		}
		f.lead(f.loop(map[api.NodeID]time.Time{}), func() {
			synctest.Wait()
			if n := f.live(); n != 3*batchMax {
				t.Errorf("%d processes live, want %d", n, 3*batchMax)
			}
			for _, n := range f.batches {
				if n > batchMax {
					t.Errorf("a batch of %d entries, the limit is %d", n, batchMax)
				}
			}
		})
	})
}

func TestLoopEndsWhenItCannotPropose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeStore(t)
		f.node("n1")
		f.promote("shop", 1)
		f.fail = api.Errorf(api.CodeNotLeader, "this server does not lead the rack")
		if err := f.loop(map[api.NodeID]time.Time{}).run(t.Context()); api.CodeOf(err) != api.CodeNotLeader {
			t.Errorf("the loop ended with %v", err)
		}
	})
}

// TestLoopRestsAfterItThought: while changes come without end, what a pass costs does not keep the
// leader busy; a change after a quiet time is looked at at once.
func TestLoopRestsAfterItThought(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const thinks = 100 * time.Millisecond
		f := newFakeStore(t)
		l := f.loop(nil)
		l.seed = func() uint64 {
			time.Sleep(thinks) // virtual: a pass that costs so much
			return 1
		}
		var passes []time.Time
		l.passed = func(time.Duration) { passes = append(passes, time.Now()) }
		f.lead(l, func() {
			time.Sleep(time.Minute) // virtual
			synctest.Wait()
			passes = nil
			began := time.Now()
			for i := range 20 {
				f.must(state.CreateApp{App: api.App{Name: api.AppName("a" + string(rune('a'+i)))}})
				time.Sleep(thinks / 4) // virtual
			}
			synctest.Wait()
			if len(passes) != 2 || passes[0].Sub(began) != thinks || passes[1].Sub(began) != (2+restShare)*thinks {
				t.Errorf("passes at %v of %v on", passes, began)
			}
		})
	})
}

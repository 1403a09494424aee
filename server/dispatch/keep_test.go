package dispatch

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"slipway/api"
	"slipway/api/pb"
	"slipway/raftstore"
	"slipway/raftstore/state"
)

// TestWorkIsPaced: a little may begin at once, more of it not before its turn.
func TestWorkIsPaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, one := &keeper{queue: nobody}, []*session{{wake: make(chan struct{}, 1)}}
		for i, want := range []time.Duration{0, 0, aheadMax, 2 * aheadMax} {
			if got := k.turn(time.Now(), 0); got != want {
				t.Errorf("work %d waits for %s, want %s", i, got, want)
			}
			k.poke(one, aheadMax)
		}
		time.Sleep(time.Hour) // virtual
		if got := k.turn(time.Now(), 0); got != 0 {
			t.Errorf("after a rest, work waits for %s", got)
		}
	})
}

// TestCrowdsBeginInTurn: the next are not woken while many goroutines wait for a processor, and nobody
// waits for a machine that is busy with something else.
func TestCrowdsBeginInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const cost = 100 * time.Microsecond
		queue := max(batch(cost), queueMin) + 1
		k := &keeper{queue: func() int { return queue }}
		k.poke(nil, 0)
		if got := k.turn(time.Now(), cost); got <= 0 {
			t.Error("more are woken while the queue is long")
		}
		queue--
		if got := k.turn(time.Now(), cost); got != 0 {
			t.Errorf("with a short queue, the next wait for %s", got)
		}
		queue++
		began := time.Now()
		if !k.rest(t.Context(), cost) || time.Since(began) != wakeMax {
			t.Errorf("they waited for %s", time.Since(began))
		}
	})
}

// TestBatchesAreShort: of sessions that cost more, fewer are woken at once.
func TestBatchesAreShort(t *testing.T) {
	for _, c := range []struct {
		cost time.Duration
		want int
	}{{0, batchMax}, {time.Microsecond, batchMax}, {batchWork / 100, 100}, {batchWork, batchMin}} {
		if got := batch(c.cost); got != c.want {
			t.Errorf("%d sessions that cost %s each, want %d", got, c.cost, c.want)
		}
	}
	if n := runnable(); n < 0 || n > 1e6 {
		t.Errorf("%d goroutines wait for a processor", n)
	}
}

// TestShortRoundsFollowAtOnce: a rack of few nodes is told of every change at once, until what was begun is
// more than may be ahead; one of many after the messages of the one before.
func TestShortRoundsFollowAtOnce(t *testing.T) {
	for _, c := range []struct{ sessions, atOnce int }{{1000, 4}, {10_000, 1}} {
		synctest.Test(t, func(t *testing.T) {
			s, st := New(Config{}), state.New()
			all := crowd(s, c.sessions)
			d, updates := keeping(t, s, st.View())
			synctest.Wait()
			n := 0
			d.servers = func() *pb.Servers { // a document that moves
				n++
				return &pb.Servers{Server: []*pb.ServerAddress{{Addr: fmt.Sprint(n)}}}
			}
			written := n
			began := time.Now()
			for range 20 {
				updates <- raftstore.Update{View: st.View(), Changes: state.Changes{Named: map[api.ServiceKey]bool{{App: "shop", Service: "web"}: true}}}
				time.Sleep(time.Microsecond) // virtual
				synctest.Wait()
				for _, c := range all {
					select {
					case <-c.wake:
					default:
					}
				}
			}
			if took := time.Since(began); n-written != c.atOnce {
				t.Errorf("%d sessions: documents were written %d times at once, want %d (%s)", c.sessions, n-written, c.atOnce, took)
			}
			close(updates)
		})
	}
}

// TestPeersWaitForOneAnother: machines that join in a crowd are told of together, at the latest
// with the next document that is in a hurry.
func TestPeersWaitForOneAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const sessions = 500 // which are woken at once
		s, st := New(Config{}), state.New()
		crowd(s, sessions)
		apply := func(c state.Command) raftstore.Update {
			r := st.Apply(st.View().Index()+1, state.Entry{At: time.Now(), Command: c})
			if r.Err != nil {
				t.Fatal(r.Err)
			}
			return raftstore.Update{View: st.View(), Changes: r.Changes}
		}
		apply(state.ConfigureRack{Rack: state.Rack{Name: "shop", Domain: "shop.test", Network: "10.0.0.0/8"}})
		d, updates := keeping(t, s, st.View())
		told := func() bool {
			synctest.Wait()
			select {
			case <-s.sessions["s0"].wake:
				return true
			default:
				return false
			}
		}
		join := func(id api.NodeID) {
			updates <- apply(state.RegisterNode{Node: api.Node{ID: id, Name: string(id), Addr: "192.0.2.1", Capacity: api.Amount{CPU: 1000, Memory: api.GiB}}})
		}
		told()
		join("n1")
		if !told() {
			t.Error("nobody is told of the first machine")
		}
		join("n2")
		time.Sleep(sessions*peersCost - 1) // virtual
		if told() {
			t.Error("a second machine is told of at once")
		}
		time.Sleep(1) // virtual
		if !told() || d.peers.all["n2"] == nil {
			t.Errorf("nobody is told of the second machine; known are %v", d.peers.all)
		}
		join("n3")
		updates <- raftstore.Update{View: st.View(), Changes: state.Changes{Named: map[api.ServiceKey]bool{{App: "shop", Service: "web"}: true}}}
		time.Sleep(sessions * documentCost) // virtual
		if !told() || d.peers.all["n3"] == nil {
			t.Errorf("a name did not take the third machine along; known are %v", d.peers.all)
		}
		close(updates)
	})
}

// TestAssignmentsComeFirst: who has a new assignment does not wait until all others were told of a
// document, who still hear of it.
func TestAssignmentsComeFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const sessions = 20 * batchMax
		s, st := New(Config{}), state.New()
		all := crowd(s, sessions)
		d, updates := keeping(t, s, st.View())
		woken := func() (n int) {
			synctest.Wait()
			for _, c := range all {
				n += len(c.wake)
			}
			return n
		}
		synctest.Wait()
		d.servers = func() *pb.Servers { return &pb.Servers{Server: []*pb.ServerAddress{{Addr: "192.0.2.1:1"}}} } // a document that moves
		updates <- raftstore.Update{View: st.View()}
		for woken() == 0 {
			time.Sleep(time.Millisecond) // virtual
		}
		if n := woken(); n > sessions/2 {
			t.Fatalf("%d sessions are woken at once", n)
		}
		var late *session
		for _, c := range all {
			if len(c.wake) == 0 {
				late = c
			}
		}
		updates <- raftstore.Update{View: st.View(), Changes: state.Changes{Assigned: map[api.NodeID]bool{late.node: true}}}
		before := woken()
		time.Sleep(wakeMax) // virtual: those who were woken have not looked
		synctest.Wait()
		if len(late.wake) == 0 || before > sessions/2 {
			t.Errorf("the assigned session waits, while %d of %d are woken", woken(), sessions)
		}
		time.Sleep(sessions*(documentCost+peerCost) + 20*wakeMax) // virtual
		if n := woken(); n != sessions {
			t.Errorf("%d of %d sessions were told", n, sessions)
		}
		close(updates)
	})
}

// keeping has s keep what agents are told from v on, until updates are closed.
func keeping(t *testing.T, s *Server, v *state.View) (*desk, chan raftstore.Update) {
	d := &desk{servers: func() *pb.Servers { return nil }}
	d.see(v, state.Everything())
	d.write()
	updates := make(chan raftstore.Update)
	go (&keeper{server: s, desk: d, queue: nobody}).keep(t.Context(), updates)
	return d, updates
}

// nobody is a queue that is empty.
func nobody() int { return 0 }

// crowd attaches n sessions.
func crowd(s *Server, n int) (all []*session) {
	for i := range n {
		c := &session{node: api.NodeID(fmt.Sprint("s", i)), wake: make(chan struct{}, 1)}
		s.sessions[c.node] = c
		all = append(all, c)
	}
	return all
}

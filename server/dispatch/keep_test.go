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
		k, one := &keeper{}, []*session{{wake: make(chan struct{}, 1)}}
		for i, want := range []time.Duration{0, 0, aheadMax, 2 * aheadMax} {
			if got := k.turn(time.Now()); got != want {
				t.Errorf("work %d waits for %s, want %s", i, got, want)
			}
			k.poke(one, aheadMax)
		}
		time.Sleep(time.Hour) // virtual
		if got := k.turn(time.Now()); got != 0 {
			t.Errorf("after a rest, work waits for %s", got)
		}
	})
}

// TestCrowdsBeginInTurn: the next many are not woken before most of those before have begun, and nobody
// waits for sessions that never do.
func TestCrowdsBeginInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, many := &keeper{}, crowd(New(Config{}), wakeBatch)
		k.poke(many, 0)
		if got := k.turn(time.Now()); got <= 0 {
			t.Error("more are woken while nobody has begun")
		}
		for _, c := range many[wakeBatch/4:] {
			<-c.wake
		}
		if got := k.turn(time.Now()); got != 0 {
			t.Errorf("with three of four begun, the next wait for %s", got)
		}
		k.poke(many, 0)
		began := time.Now()
		if !k.rest(t.Context()) || time.Since(began) != wakeMax {
			t.Errorf("they waited for %s", time.Since(began))
		}
	})
}

// TestAssignmentsComeFirst: who has a new assignment does not wait until all others were told of names,
// which still hear of them.
func TestAssignmentsComeFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const sessions = 20 * wakeBatch
		s, st := New(Config{}), state.New()
		all := crowd(s, sessions)
		d := &desk{servers: func() *pb.Servers { return nil }}
		d.see(st.View(), state.Everything())
		d.write()
		updates := make(chan raftstore.Update)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			s.keep(t.Context(), d, updates)
		}()
		woken := func() (n int) {
			synctest.Wait()
			for _, c := range all {
				n += len(c.wake)
			}
			return n
		}
		list := &pb.Servers{Server: []*pb.ServerAddress{{Addr: "192.0.2.1:1"}}}
		synctest.Wait()
		d.servers = func() *pb.Servers { return list } // a document that moves
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
		if len(late.wake) == 0 {
			time.Sleep(aheadMax) // virtual
			woken()
		}
		if len(late.wake) == 0 || before > sessions/2 {
			t.Errorf("the assigned session waits, while %d of %d are woken", woken(), sessions)
		}
		time.Sleep(sessions*(documentCost+peerCost) + 20*wakeMax) // virtual
		if n := woken(); n != sessions {
			t.Errorf("%d of %d sessions were told", n, sessions)
		}
		close(updates)
		<-ended
	})
}

// crowd attaches n sessions.
func crowd(s *Server, n int) (all []*session) {
	for i := range n {
		c := &session{node: api.NodeID(fmt.Sprint("s", i)), wake: make(chan struct{}, 1)}
		s.sessions[c.node] = c
		all = append(all, c)
	}
	return all
}

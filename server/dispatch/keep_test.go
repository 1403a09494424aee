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
		const sessions = 20 * wakeBatch
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
	go s.keep(t.Context(), d, updates)
	return d, updates
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

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

// TestPeersWaitForOneAnother: machines that join in a crowd are told of together, at the latest
// with the next document that is in a hurry.
func TestPeersWaitForOneAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const sessions = 500 // which are woken at once
		s, st := New(Config{}), state.New()
		for i := range sessions {
			s.sessions[api.NodeID(fmt.Sprint("s", i))] = &session{wake: make(chan struct{}, 1)}
		}
		apply := func(c state.Command) raftstore.Update {
			r := st.Apply(st.View().Index()+1, state.Entry{At: time.Now(), Command: c})
			if r.Err != nil {
				t.Fatal(r.Err)
			}
			return raftstore.Update{View: st.View(), Changes: r.Changes}
		}
		apply(state.ConfigureRack{Rack: state.Rack{Name: "shop", Domain: "shop.test", Network: "10.0.0.0/8"}})
		d := &desk{servers: func() *pb.Servers { return nil }}
		d.see(st.View(), state.Everything())
		d.write()
		updates := make(chan raftstore.Update)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			s.keep(t.Context(), d, updates)
		}()
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
		<-ended
	})
}

// TestLargeRacksSpeakLess: agents are asked for as many heartbeats as a server can hear.
func TestLargeRacksSpeakLess(t *testing.T) {
	for n, want := range map[int]time.Duration{0: time.Second, 5000: time.Second, 7500: 1500 * time.Millisecond, 20_000: 2 * time.Second} {
		s := New(Config{})
		for i := range n {
			s.sessions[api.NodeID(fmt.Sprint("s", i))] = nil
		}
		if got := s.interval(); got != want {
			t.Errorf("%d nodes speak every %s, want %s", n, got, want)
		}
	}
}

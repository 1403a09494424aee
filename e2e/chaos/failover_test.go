package chaos

import (
	"testing"
	"time"
)

// TestAKilledLeaderIsFollowedAtOnce: the network refuses connections to the dead, so the others do not wait
// until they would miss a leader that cannot be reached.
func TestAKilledLeaderIsFollowedAtOnce(t *testing.T) {
	scene(t, func(r *rack, leader *server, followers []*server) {
		began := time.Now()
		if err := leader.kill(nil); err != nil {
			r.t.Fatal(err)
		}
		r.await("next leader", func() bool { return followers[0].leads() || followers[1].leads() })
		if took := time.Since(began); took >= electionTimeout {
			r.t.Errorf("the next leader took %s, as long as if nobody had told", took)
		}
	})
}

// TestALeaderThatIsHeardStays: one follower is cut off from the leader by something
// that answers for it that nobody listens. The other one hears the leader.
func TestALeaderThatIsHeardStays(t *testing.T) {
	scene(t, func(r *rack, leader *server, followers []*server) {
		defer r.net.begin(trouble{from: leader.addr, to: followers[0].addr, cut: true})()
		defer r.net.begin(trouble{from: followers[0].addr, to: leader.addr, cut: true})()
		for began := time.Now(); time.Since(began) < 10*electionTimeout; time.Sleep(time.Millisecond) { // virtual time
			if !leader.leads() {
				r.t.Fatalf("after %s the leader leads no more", time.Since(began))
			}
		}
	})
}

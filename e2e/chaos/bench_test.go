package chaos

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"slipway/api"
	"slipway/e2e/bench"
	"slipway/raftstore/state"
)

// leaderKills is how many leaders the measurement kills.
const leaderKills = 50

// TestBenchLeaderLoss measures, in real time, on a real disk and with the timeouts of the product,
// how long a rack of three takes no write when its leader is killed. The rows go to the file in
// SLIPWAY_BENCH_LEADER.
func TestBenchLeaderLoss(t *testing.T) {
	rows := bench.To(t, "SLIPWAY_BENCH_LEADER")
	r := newRack(t, t.TempDir(), 3, 1, nil)
	defer r.close()
	for _, s := range r.servers {
		s.tune = timing
		if err := s.stop(); err != nil {
			t.Fatal(err)
		}
		if err := s.start(); err != nil {
			t.Fatal(err)
		}
	}
	var took []time.Duration
	for n := range leaderKills {
		r.converge()
		took = append(took, r.leaderLoss(n))
	}
	slices.Sort(took)
	note := fmt.Sprintf("leader of 3 killed to the next write accepted, %d kills, in one process with a network of at most %s, disk real; %.2f to %.2f s",
		leaderKills, latencyMax, took[0].Seconds(), took[leaderKills-1].Seconds())
	rows.Add("leader_loss_s_p50", took[leaderKills/2].Seconds(), "s", "limit", 1, note)
	rows.Add("leader_loss_s_p99", took[leaderKills-1].Seconds(), "s", "limit", 2, note)
}

// leaderLoss kills the leader and returns how long it was until a write was accepted.
func (r *rack) leaderLoss(n int) time.Duration {
	r.t.Helper()
	var leader *server
	var others []*server
	for _, s := range r.servers {
		if s.leads() {
			leader = s
		} else {
			others = append(others, s)
		}
	}
	ended := make(chan error, 1)
	began := time.Now()
	go func() { ended <- leader.kill(nil) }()
	entry := state.Entry{Request: api.RequestID(fmt.Sprint("after kill ", n)), Actor: "ann", Command: state.PutPool{
		Pool: api.Pool{Name: "bench", Strategy: api.BinPack},
	}}
	var took time.Duration
	for i := 0; took == 0; i++ {
		if time.Since(began) > calmMax {
			r.t.Fatalf("no write within %s\n%s", calmMax, r.picture())
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		if _, err := others[i%len(others)].write(ctx, entry); err == nil {
			took = time.Since(began)
		}
		cancel()
	}
	if err := <-ended; err != nil {
		r.t.Fatal(err)
	}
	if err := leader.start(); err != nil {
		r.t.Fatal(err)
	}
	return took
}

package chaos

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"slipway/api"
	rackapi "slipway/api/client"
	"slipway/e2e/bench"
)

// leaderKills is how many leaders the measurement kills.
const leaderKills = 50

// TestBenchLeaderLoss measures how long a rack of three server processes, each on a host of its own,
// takes no write when its leader is killed. The rows go to the file in SLIPWAY_BENCH_LEADER.
func TestBenchLeaderLoss(t *testing.T) {
	rows := bench.To(t, "SLIPWAY_BENCH_LEADER")
	m := newMachines(t, 3)
	ctx, cancel := context.WithTimeout(t.Context(), settleMax)
	defer cancel()
	c := m.client(0)
	defer c.Close()
	if _, err := c.CreateApp(ctx, appOf(0)); err != nil {
		t.Fatal(err)
	}
	var took []time.Duration
	for n := range leaderKills {
		m.settle()
		took = append(took, m.leaderLoss(n))
	}
	slices.Sort(took)
	note := fmt.Sprintf("leader of 3 server processes killed to the next change of an environment acknowledged by another, with the retries of the client, %d kills; %.2f to %.2f s",
		leaderKills, took[0].Seconds(), took[leaderKills-1].Seconds())
	rows.Add("leader_loss_s_p50", took[leaderKills/2].Seconds(), "s", "limit", 1, note)
	rows.Add("leader_loss_s_p99", took[leaderKills-1].Seconds(), "s", "limit", 2, note)
}

// leaderLoss kills the leader and returns how long it was until a write was accepted. The leader
// starts again then.
func (m *machines) leaderLoss(n int) time.Duration {
	m.t.Helper()
	leader := m.leader()
	c := m.client((leader + 1) % len(m.all))
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), settleMax)
	defer cancel()
	write := func(value string) {
		m.t.Helper()
		if _, err := c.SetEnv(ctx, appOf(0), rackapi.EnvChange{Set: map[string]string{value: "1"}}); err != nil {
			m.t.Fatalf("%v\n%s", err, m.picture())
		}
	}
	write(fmt.Sprint("BEFORE", n)) // the client is connected
	began := time.Now()
	if err := m.all[leader].kill(); err != nil {
		m.t.Fatal(err)
	}
	write(fmt.Sprint("AFTER", n))
	took := time.Since(began)
	if err := m.all[leader].start(); err != nil {
		m.t.Fatal(err)
	}
	return took
}

// leader returns which of the servers leads.
func (m *machines) leader() int {
	m.t.Helper()
	c := m.client(0)
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), settleMax)
	defer cancel()
	list, err := c.Servers(ctx)
	i := slices.IndexFunc(list, func(s api.Server) bool { return s.Leader })
	if err != nil || i < 0 {
		m.t.Fatalf("nobody leads: %+v %v\n%s", list, err, m.picture())
	}
	return slices.IndexFunc(m.all, func(s *machine) bool { return s.addr() == list[i].Addr })
}

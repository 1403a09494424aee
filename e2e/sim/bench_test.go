package sim

import (
	"fmt"
	"testing"
	"time"

	"slipway/e2e/bench"
)

// TestBench writes how fast racks are simulated to the file in SLIPWAY_BENCH_SIM.
func TestBench(t *testing.T) {
	rows := bench.To(t, "SLIPWAY_BENCH_SIM")
	for _, nodes := range []int{100, 1000} {
		began := time.Now()
		r := Run(Config{Seed: 1, Servers: 5, Nodes: nodes, Hours: 1, Faults: Faults})
		if len(r.Broken) > 0 {
			t.Fatalf("%s\n%s", r.Text(), r.Trace)
		}
		took := time.Since(began)
		rate := float64(time.Hour) * float64(r.Hour) / float64(took)
		rows.Add(fmt.Sprintf("sim_hours_per_hour_%d", nodes), rate, "h/h", "real time", 1, fmt.Sprintf(
			"5 servers, %d nodes, one hour with every fault, seed 1, one goroutine: %.1f s, %d commits", nodes, took.Seconds(), r.World.Commits))
	}
	rows.Add("node_loss_false_positives", float64(falsePositives(t, 1000)), "nodes", "limit", 0,
		"given up although they live: an hour, 1,000 nodes, 1 % of packets lost, pauses of 200 ms every 10 s of each node and of the leader")
}

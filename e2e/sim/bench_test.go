package sim

import (
	"encoding/json"
	"fmt"
	"os"
	"testing"
	"time"
)

// TestBench writes how fast racks are simulated to the file in SLIPWAY_BENCH_SIM.
func TestBench(t *testing.T) {
	file := os.Getenv("SLIPWAY_BENCH_SIM")
	if file == "" {
		t.Skip("set SLIPWAY_BENCH_SIM to a file, or run: make bench")
	}
	var rows []map[string]any
	for _, nodes := range []int{100, 1000} {
		began := time.Now()
		r := Run(Config{Seed: 1, Servers: 5, Nodes: nodes, Hours: 1, Faults: Faults})
		if len(r.Broken) > 0 {
			t.Fatalf("%s\n%s", r.Text(), r.Trace)
		}
		took := time.Since(began)
		rate := float64(time.Hour) * float64(r.Hour) / float64(took)
		rows = append(rows, map[string]any{
			"name": fmt.Sprintf("sim_hours_per_hour_%d", nodes), "value": rate, "unit": "h/h", "against": "real time", "against_value": 1, "ratio": rate,
			"note": fmt.Sprintf("5 servers, %d nodes, one hour with every fault, seed 1, one goroutine: %.1f s, %d commits", nodes, took.Seconds(), r.World.Commits),
		})
	}
	b, err := json.MarshalIndent(rows, "", "  ")
	if err == nil {
		err = os.WriteFile(file, b, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

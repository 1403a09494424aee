package fleet

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"slipway/api"
	"slipway/e2e/bench"
)

// benchLimit bounds each measurement.
const benchLimit = 4 * time.Minute

// TestBenchMillion measures a million processes from their promotion until all is durable. The rows
// go to the file in SLIPWAY_BENCH_MILLION.
func TestBenchMillion(t *testing.T) {
	rows := bench.To(t, "SLIPWAY_BENCH_MILLION")
	r := start(t, benchLimit)
	f := r.fleet(Config{Nodes: 5000, Capacity: roomy})
	m := r.deploy(f, Load{Name: "app", Apps: 100, Services: 10, Copies: 1000, CPU: 50, Memory: 64 * api.MiB})
	rows.Add("million_s", m.Durable.Seconds(), "s", "limit", 60, fmt.Sprintf(
		"1,000 services x 1,000 copies on 5,000 simulated agents over mutual TLS, 3 servers on one disk: promoted in %.1f s, every agent has its processes at %.1f s, every report durable at %.1f s, every receipt at %.1f s; the servers had a processor for %.1f s",
		m.Submit.Seconds(), m.Delivered.Seconds(), m.Durable.Seconds(), m.Settled.Seconds(), m.Busy.Seconds()))
	rows.Add("million_rss_mb", float64(m.Peak)/(1<<20), "MB", "limit", 4096, "the most that the largest of the three servers of the row above had")
}

// TestBenchNodes measures what many nodes are told, and when one is gone. The rows go to the file in
// SLIPWAY_BENCH_NODES.
func TestBenchNodes(t *testing.T) {
	rows := bench.To(t, "SLIPWAY_BENCH_NODES")
	r := start(t, benchLimit)
	w := newWitness(nameOf(fan.app(0), "s0"))
	f := r.fleet(Config{Nodes: 100, Capacity: roomy, Addresses: true, Assigned: w.assigned, Names: w.names})
	r.addLoss(rows, "node_loss_s_p99_100", f, w)
	r.grow(f, 1000)
	took := r.fanOut(f, w, 1000, 30)
	rows.Add("fanout_1000_ms_p99", ms(p99(took)), "ms", "limit", 50, fmt.Sprintf(
		"a process runs, to its address at each of 1,000 nodes, 30 times; median %.1f ms, longest %.1f ms", ms(bench.Median(took)), ms(slices.Max(took))))
	r.addLoss(rows, "node_loss_s_p99_1000", f, w)
}

// TestBenchNodes10k measures the loss of nodes among ten thousand. The rows go to the file in
// SLIPWAY_BENCH_NODES10K.
func TestBenchNodes10k(t *testing.T) {
	rows := bench.To(t, "SLIPWAY_BENCH_NODES10K")
	r := start(t, benchLimit)
	w := newWitness("")
	f := r.fleet(Config{Nodes: 10_000, Capacity: roomy, Addresses: true, Assigned: w.assigned, Names: w.names})
	r.addLoss(rows, "node_loss_s_p99", f, w)
}

// addLoss measures the loss of nodes of a fleet.
func (r *rack) addLoss(rows *bench.Report, name string, f *Fleet, w *witness) {
	r.t.Helper()
	n := f.Alive()
	took := r.nodeLoss(f, w, n)
	rows.Add(name, p99(took).Seconds(), "s", "limit", 5, fmt.Sprintf(
		"power of a node gone, to each of its processes assigned elsewhere; %d of %d nodes, %d processes; median %.2f s, longest %.2f s",
		lost, n, len(took), bench.Median(took).Seconds(), slices.Max(took).Seconds()))
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// p99 is what one of a hundred takes longer than.
func p99(took []time.Duration) time.Duration {
	took = slices.Sorted(slices.Values(took))
	return took[(len(took)*99+99)/100-1]
}

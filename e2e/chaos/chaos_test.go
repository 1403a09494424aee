package chaos

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

var (
	seedFlag   = flag.Uint64("seed", 0, "run this one seed instead of the usual ones")
	faultsFlag = flag.Int("faults", 1200, "faults in all")
)

const (
	faultsPerSeed = 150
	faultsPerEra  = 25
	clientsAtOnce = 6
)

// TestReplicasUnderFaults is what the package is for.
func TestReplicasUnderFaults(t *testing.T) {
	seeds := []uint64{*seedFlag}
	if *seedFlag == 0 {
		seeds = nil
		for s := range max(1, *faultsFlag/faultsPerSeed) {
			seeds = append(seeds, uint64(s)+1)
		}
	}
	total := outcome{}
	for _, seed := range seeds {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			o := trial{seed: seed, servers: 3, faults: faultsPerSeed}.run(t)
			t.Log(o)
			report(t, check(o.histories...), fmt.Sprintf("-run TestReplicasUnderFaults -args -seed %d", seed))
			total.add(o)
		})
	}
	t.Logf("in all: %s", total)
}

// trial is one rack under faults.
type trial struct {
	seed    uint64
	servers int
	faults  int
	wrap    func(*rack, *server) replica
}

// outcome is what came of a trial.
type outcome struct {
	histories             []*history
	faults                int
	text                  string
	acked, unknown, reads int
	events                int
	messages              map[string]int
	lasted                time.Duration // virtual
	took                  time.Duration
}

func (o *outcome) add(p outcome) {
	o.faults += p.faults
	o.acked, o.unknown, o.reads, o.events = o.acked+p.acked, o.unknown+p.unknown, o.reads+p.reads, o.events+p.events
	o.lasted, o.took = o.lasted+p.lasted, o.took+p.took
	if o.messages == nil {
		o.messages = map[string]int{}
	}
	for k, v := range p.messages {
		o.messages[k] += v
	}
}

// String tells how much was done.
func (o outcome) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d faults", o.faults)
	if o.text != "" {
		fmt.Fprintf(&b, " (%s)", o.text)
	}
	fmt.Fprintf(&b, "; %d writes acknowledged, %d without an outcome, %d reads, %d events seen;", o.acked, o.unknown, o.reads, o.events)
	for _, k := range slices.Sorted(maps.Keys(o.messages)) {
		fmt.Fprintf(&b, " %d messages %s,", o.messages[k], k)
	}
	fmt.Fprintf(&b, " %s of virtual time in %s", o.lasted.Round(time.Second), o.took.Round(100*time.Millisecond))
	return b.String()
}

// run runs a trial in a bubble. Histories are checked outside of it, where time passes.
func (c trial) run(t *testing.T) (o outcome) {
	dir, began := directory(t), time.Now()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		r := newRack(t, dir, c.servers, c.seed, c.wrap)
		defer r.close()
		n := newNemesis(r)
		for era := 0; o.faults < c.faults; era++ {
			count := min(faultsPerEra, c.faults-o.faults)
			o.histories = append(o.histories, r.era(n, era, count))
			o.faults += count
			if t.Failed() {
				return
			}
		}
		broken, seen := r.watch.check()
		for _, b := range broken {
			t.Errorf("events: %s", b)
		}
		o.events, o.text, o.messages, o.lasted = seen, n.text(), r.net.tally(), time.Since(start)
	})
	for _, h := range o.histories {
		o.acked, o.unknown, o.reads = o.acked+h.acked, o.unknown+h.unknown, o.reads+h.reads
	}
	o.took = time.Since(began)
	return o
}

// era has clients call objects of its own while faults happen; then the faults end, everything
// has to work again, and every object is read for a last time.
func (r *rack) era(n *nemesis, era, count int) *history {
	h, keys := newHistory(), keys(era)
	for _, key := range keys {
		for _, cmd := range prepare(key) {
			r.must(cmd)
		}
	}
	ctx, stop := context.WithCancel(context.Background())
	var calling sync.WaitGroup
	for range clientsAtOnce {
		c := r.client(h)
		calling.Go(func() { c.run(ctx, keys) })
	}
	err := n.rage(count)
	stop()
	calling.Wait()
	if err != nil {
		r.t.Errorf("%v\n%s", err, r.picture())
		return h
	}
	r.converge()
	last := r.client(h)
	for _, key := range keys {
		if out := last.call(input{key: key, op: "get"}, calmMax); !out.known {
			r.t.Errorf("%s cannot be read after the faults\n%s", key, r.picture())
		}
	}
	return h
}

package sim

import (
	"flag"
	"fmt"
	"testing"
	"time"

	"slipway/api"
	"slipway/raftstore/state"
)

var seed = flag.Uint64("seed", 0, "run this one seed instead of the usual ones")

// TestFaults runs many racks through crashes, restarts, partitions, drains, slow pulls, bad
// releases and changes of the leader. When the faults stop, every rack must converge.
func TestFaults(t *testing.T) {
	seeds := []uint64{*seed}
	if *seed == 0 {
		seeds = seeds[:0]
		for s := uint64(1); s <= 150; s++ {
			seeds = append(seeds, s)
		}
	}
	for _, s := range seeds {
		t.Run(fmt.Sprint("seed ", s), func(t *testing.T) {
			t.Parallel()
			w := NewWorld(s, 4)
			storm(w, api.NewIDs(s^0xfeed))
			if broken := w.Broken(); len(broken) > 0 {
				t.Fatalf("seed %d broke %q\n%s", s, broken, w.Trace())
			}
			if !w.RunUntil(20*time.Minute, Converged) {
				t.Fatalf("seed %d does not converge; broken %q\n%s", s, w.Broken(), w.Trace())
			}
			w.Run(time.Minute)
			for n := range w.State.View().Nodes() {
				if n.Status != api.NodeReady {
					t.Errorf("seed %d: node %s is %s although nothing is wrong with it\n%s", s, n.ID, n.Status, w.Trace())
				}
			}
		})
	}
}

// storm lets an hour pass in which something happens every few seconds, and ends with all
// machines up and a good release promoted.
func storm(w *World, r *api.IDs) {
	w.faulty = true
	pick := func(n int) int { return int(r.Uint64() % uint64(n)) }
	apps := []api.AppName{"shop", "blog"}
	counts := []int{2, 3}
	for i, a := range apps {
		w.App(a)
		w.Promote(a, w.Release(a, good, Web(counts[i], 50, 200)))
	}
	bad := []Behaviour{
		{Boot: time.Second, Crash: 200 * time.Millisecond, Linger: time.Millisecond}, {Never: true, Linger: time.Second},
		{Boot: 300 * time.Millisecond, Fade: 3 * time.Second, Linger: time.Millisecond},
		{BadName: true}, {Boot: 20 * time.Second, Linger: 20 * time.Second, Drain: 40 * time.Second},
	}
	for end := w.Now.Add(time.Hour); w.Now.Before(end) && len(w.Broken()) == 0; {
		i := pick(len(apps))
		switch n := w.nodes[pick(len(w.nodes))]; pick(11) {
		case 0:
			if n.up {
				n.kill()
			} else {
				n.reboot()
			}
		case 1:
			if n.up {
				n.restartAgent()
			}
		case 2:
			w.Elect()
		case 3, 4:
			b := good
			b.Pull = time.Duration(pick(20000)) * time.Millisecond
			w.Promote(apps[i], w.Release(apps[i], b, Web(counts[i], 50, 200)))
		case 5:
			w.Promote(apps[i], w.Release(apps[i], bad[pick(len(bad))], Web(counts[i], 50, 200)))
		case 6:
			count := pick(6)
			w.Apply("ann", state.SetScale{Key: api.ServiceKey{App: apps[i], Service: "web"}, Override: &api.ScaleOverride{Count: &count}})
		case 7:
			w.Apply("ann", state.RestartService{Key: api.ServiceKey{App: apps[i], Service: "web"}})
		case 8:
			w.Apply("ann", state.CancelDeployment{App: apps[i]})
		case 9:
			switch {
			case n.up && n.cut:
				n.heal()
			case n.up:
				n.silence()
			}
		case 10:
			v, _ := w.State.View().Node(n.id)
			w.drain(n, !v.Draining)
		}
		w.Run(time.Duration(1+pick(60)) * time.Second)
	}
	for _, n := range w.nodes {
		switch {
		case !n.up:
			n.reboot()
		case n.cut:
			n.heal()
		}
		w.drain(n, false)
	}
	for i, a := range apps {
		w.Promote(a, w.Release(a, good, Web(counts[i], 50, 200)))
	}
}

// drain begins or ends the draining of a node.
func (w *World) drain(n *node, drain bool) {
	w.Apply("ann", state.UpdateNode{Node: n.id, Draining: &drain})
}

func TestSameSeedSameHistory(t *testing.T) {
	history := func() string {
		w := NewWorld(42, 4)
		storm(w, api.NewIDs(42))
		return w.Trace()
	}
	if a, b := history(), history(); a != b {
		t.Errorf("two runs of one seed differ:\n%s\n\n%s", a, b)
	}
}

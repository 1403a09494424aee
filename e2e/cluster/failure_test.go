package cluster

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"
)

// copies is how many the app under load has.
const copies = 6

// TestFailuresThatNobodyNotices has one thing after another fail under the load of 50 clients.
func TestFailuresThatNobodyNotices(t *testing.T) {
	r := start(t, 3, 3)
	r.deploy("shop", copies)
	r.complete("shop", copies)
	l := r.loaded("shop", 50, 0)
	l.begun(r)
	for _, c := range []struct {
		name string
		do   func() []string // returns the routers that may have lost requests
	}{
		{"leader killed", func() []string { r.restart(r.leader(), (*Part).Kill); return nil }},
		{"agent killed", func() []string { r.restart(r.Cluster.Nodes()[1], (*Part).Kill); return nil }},
		{"every server restarted", func() []string {
			for _, s := range r.Cluster.Servers() {
				r.restart(s, (*Part).Stop)
				r.whole("shop", copies)
			}
			return nil
		}},
		{"node drained", r.drained},
		{"containerd killed", func() []string { r.killed(2, "containerd"); return nil }},
		{"router killed", func() []string { r.killed(0, "router"); return []string{"node1"} }},
		{"node without power", r.powerless},
	} {
		began := time.Now()
		excused := c.do()
		r.whole("shop", copies)
		time.Sleep(time.Second) // what would fail now, would fail because of it
		t.Logf("%s: whole again after %s", c.name, time.Since(began).Round(100*time.Millisecond))
		l.unharmed(c.name, excused...)
		if t.Failed() {
			return
		}
	}
}

// leader returns the server that leads.
func (r *rack) leader() (leader *Part) {
	r.t.Helper()
	r.await("leader", 20*time.Second, func() (string, bool) {
		servers, err := r.Client.Servers(r.t.Context())
		for _, s := range servers {
			for _, p := range r.Cluster.Servers() {
				if s.Leader && s.Name == p.Name() {
					leader = p
				}
			}
		}
		return fmt.Sprint(servers, err), leader != nil
	})
	return leader
}

// restart ends a part and starts it again a little later, when the rest has noticed.
func (r *rack) restart(p *Part, end func(*Part)) {
	r.t.Helper()
	end(p)
	time.Sleep(3 * time.Second) // the rest shall notice
	if err := p.Start(); err != nil {
		r.t.Fatal(err)
	}
}

// drained drains a node and lets it back in.
func (r *rack) drained() []string {
	r.t.Helper()
	r.must("nodes", "drain", "node2", "--yes")
	out := r.must("ps", "-a", "shop", "--json")
	if strings.Contains(out, `"node2"`) {
		r.t.Errorf("node2 is drained and runs %s", out)
	}
	r.must("nodes", "uncordon", "node2")
	return nil
}

// killed kills a program of a node, by what its command line says, and waits until another has
// taken its place.
func (r *rack) killed(node int, word string) {
	r.t.Helper()
	find := func() (pids []int) {
		list, err := r.Cluster.Nodes()[node].Processes()
		if err != nil {
			r.t.Fatal(err)
		}
		for _, p := range list {
			if len(p.Args) > 0 && strings.HasSuffix(p.Args[0], "/"+word) || len(p.Args) > 1 && p.Args[1] == word {
				pids = append(pids, p.PID)
			}
		}
		return pids
	}
	before := find()
	if len(before) != 1 {
		r.t.Fatalf("%d processes are a %s", len(before), word)
	}
	if err := syscall.Kill(before[0], syscall.SIGKILL); err != nil {
		r.t.Fatal(err)
	}
	r.await("another "+word, 20*time.Second, func() (string, bool) {
		now := find()
		return fmt.Sprint(now), len(now) == 1 && now[0] != before[0]
	})
}

// powerless takes the power of a node and gives it back once its work is done elsewhere.
func (r *rack) powerless() []string {
	r.t.Helper()
	node := r.Cluster.Nodes()[2]
	if err := node.PowerOff(); err != nil {
		r.t.Fatal(err)
	}
	node.wait()
	r.complete("shop", copies)
	if err := node.PowerOn(); err != nil {
		r.t.Fatal(err)
	}
	if err := node.Start(); err != nil {
		r.t.Fatal(err)
	}
	return []string{node.Name()}
}

package fleet

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"slipway/api"
	"slipway/api/client"
	"slipway/api/pb"
)

// slot is one of the copies that a service is to have.
type slot struct {
	app     api.AppName
	service api.ServiceName
	slot    int
}

// witness notes when nodes learn of something.
type witness struct {
	mu   sync.Mutex
	has  map[api.NodeID][]slot // that a node was ever assigned
	gone map[slot]time.Time    // without a place since
	took []time.Duration       // that slots were without a place, or nodes without a name

	// How many addresses of a name each node knows, who knows as many as all should, and since when.
	name  string
	known map[api.NodeID]int
	count int
	since time.Time
	knows map[api.NodeID]bool
}

// newWitness returns one that watches a name.
func newWitness(name string) *witness {
	return &witness{name: name, has: map[api.NodeID][]slot{}, gone: map[slot]time.Time{}, known: map[api.NodeID]int{}}
}

// assigned is told of each process that a node learns of.
func (w *witness) assigned(node api.NodeID, app api.AppName, service api.ServiceName, n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := slot{app, service, n}
	w.has[node] = append(w.has[node], s)
	if since, ok := w.gone[s]; ok {
		w.took = append(w.took, time.Since(since))
		delete(w.gone, s)
	}
	if w.name == nameOf(app, service) {
		w.since = time.Now()
	}
}

func nameOf(app api.AppName, service api.ServiceName) string {
	return string(service) + "." + string(app)
}

// names is told of each message with names.
func (w *witness) names(node api.NodeID, m *pb.Names) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !m.Change {
		w.known[node] = 0
	}
	for _, n := range m.Name {
		if n.Name == w.name {
			added, _ := pb.UnpackEndpoints(n.Added) // what cannot be read is not known
			removed, _ := pb.UnpackEndpoints(n.Removed)
			w.known[node] += len(added) - len(removed)
		}
	}
	if w.count == 0 || w.known[node] < w.count || w.knows[node] {
		return
	}
	w.knows[node] = true
	w.took = append(w.took, time.Since(w.since))
}

// begin forgets the times that were noted.
func (w *witness) begin() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.took = nil
}

func (w *witness) taken() []time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.took)
}

// lose notes that a node is lost, before it is.
func (w *witness) lose(node api.NodeID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.has[node] {
		w.gone[s] = time.Now()
	}
	delete(w.has, node)
}

// homeless counts the slots without a place.
func (w *witness) homeless() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return int64(len(w.gone))
}

// hosts returns the nodes that have processes of an app, in order.
func (w *witness) hosts(app api.AppName) (out []api.NodeID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, node := range slices.Sorted(maps.Keys(w.has)) {
		if slices.ContainsFunc(w.has[node], func(s slot) bool { return s.app == app }) {
			out = append(out, node)
		}
	}
	return out
}

// expect waits from now on for the nodes to know so many addresses of the name.
func (w *witness) expect(count int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.count, w.since, w.knows = count, time.Now(), map[api.NodeID]bool{}
}

func (w *witness) knowing() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return int64(len(w.knows))
}

// lost is how many nodes lose their power while a loss is measured, at most one of lossShare at a time,
// for a process of theirs may be placed anew on the next; one each lossGap, not all at the same moment
// between two heartbeats.
const (
	lost      = 20
	lossShare = 50
	lossGap   = 130 * time.Millisecond
)

// nodeLoss gives each of n nodes three processes on average, takes the power of some, and returns how
// long each process that was lost had no place.
func (r *rack) nodeLoss(f *Fleet, w *witness, n int) []time.Duration {
	r.t.Helper()
	apps := max(1, n/1000)
	l := Load{Name: fmt.Sprintf("of%dn", n), Apps: apps, Services: 1, Copies: 3 * n / apps, CPU: 3000, Memory: api.GiB}
	r.deploy(f, l)
	w.begin()
	hosts := w.hosts(l.app(0))
	for i := range lost {
		node := hosts[i*len(hosts)/lost]
		w.lose(node)
		f.Kill(node)
		time.Sleep(lossGap) // on purpose, see there
		if (i+1)%max(1, n/lossShare) == 0 || i == lost-1 {
			r.await(f, "lost processes that have a place", func() int64 { return -w.homeless() }, 0)
		}
	}
	return w.taken()
}

// fan is the load whose addresses are watched.
var fan = Load{Name: "fan", Apps: 1, Services: 1, Copies: 1, CPU: 50, Memory: 64 * api.MiB}

// fanOut starts one process after the other and returns how long each of n nodes took to know its
// address, from when it ran.
func (r *rack) fanOut(f *Fleet, w *witness, n, times int) []time.Duration {
	r.t.Helper()
	l := fan
	r.deploy(f, l)
	w.begin()
	for i := range times {
		count := 2 + i
		w.expect(count)
		if _, err := r.Scale(r.ctx, l.app(0), "s0", client.Scale{Count: &count}); err != nil {
			r.t.Fatal(err)
		}
		r.await(f, "nodes that know the address", w.knowing, n)
	}
	return w.taken()
}

package chaos

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// clients is where all clients are, as an address.
const clients raft.ServerAddress = "clients"

// latencyMax bounds what a message takes on a good day. It is drawn anew for each, so that
// messages overtake one another.
const latencyMax = 2 * time.Millisecond

var (
	errRefused = errors.New("connection refused")
	errReset   = errors.New("connection reset")
)

// trouble is what one fault does to messages. The zero addresses stand for every address.
type trouble struct {
	from, to raft.ServerAddress
	cut      bool
	lose     float64       // the share of messages that is lost
	repeat   float64       // the share of messages that comes twice
	delay    time.Duration // the most that a message is late
	// only chooses requests, and with them their answers; nil takes all.
	only func(request any) bool
	// hold keeps a message until something is received from it.
	hold <-chan struct{}
}

// message is a request or, on its way back, the answer to it. Calls of clients have no request.
type message struct {
	from, to raft.ServerAddress
	request  any
}

func (t *trouble) on(m message) bool {
	return (t.from == "" || t.from == m.from) && (t.to == "" || t.to == m.to) && (t.only == nil || t.only(m.request))
}

// network carries messages between the servers of a rack and their clients.
type network struct {
	mu       sync.Mutex
	rand     *rand.Rand
	ends     map[raft.ServerAddress]*end
	troubles map[*trouble]bool
	counts   map[string]int // messages carried, lost, repeated
	// patience is how long a server waits for the answer of another.
	patience time.Duration
}

// patienceOf is shorter than that of the product's transport: what waits for a message that is
// lost here would have it, in life, when the cut is over.
const patienceOf = 2 * time.Second

func newNetwork(seed uint64) *network {
	return &network{
		rand: rand.New(rand.NewPCG(seed, 1)), ends: map[raft.ServerAddress]*end{}, troubles: map[*trouble]bool{},
		counts: map[string]int{}, patience: patienceOf,
	}
}

// wait sets how long servers wait from now on.
func (n *network) wait(patience time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.patience = patience
}

func (n *network) waits() time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.patience
}

// begin puts a trouble into force; the returned function ends it.
func (n *network) begin(t trouble) func() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.troubles[&t] = true
	return func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.troubles, &t)
	}
}

// fate is what happens to one message.
type fate struct {
	lost, again bool
	delay       time.Duration
	hold        <-chan struct{}
}

func (n *network) fate(m message) (f fate) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f.delay = time.Duration(n.rand.Int64N(int64(latencyMax)))
	n.counts["carried"]++
	for t := range n.troubles {
		if !t.on(m) {
			continue
		}
		f.lost = f.lost || t.cut || n.rand.Float64() < t.lose
		f.again = f.again || n.rand.Float64() < t.repeat
		if t.delay > 0 {
			f.delay += time.Duration(n.rand.Int64N(int64(t.delay)))
		}
		if t.hold != nil {
			f.hold = t.hold
		}
	}
	if f.lost {
		n.counts["lost"]++
		f.again = false
	}
	if f.again {
		n.counts["repeated"]++
	}
	return f
}

// carry takes as long as a message is on its way, and reports whether it comes again. A lost
// message never arrives: its sender waits for as long as it has patience.
func (n *network) carry(ctx context.Context, m message) (again bool, err error) {
	f := n.fate(m)
	if f.lost {
		<-ctx.Done()
		return false, context.Cause(ctx)
	}
	if f.hold != nil {
		select {
		case <-f.hold:
		case <-ctx.Done():
			return false, context.Cause(ctx)
		}
	}
	timer := time.NewTimer(f.delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return f.again, nil
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
}

// attach makes e the one that is reached at its address.
func (n *network) attach(e *end) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ends[e.addr] = e
}

// detach makes the address of e refuse connections.
func (n *network) detach(e *end) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ends[e.addr] == e {
		delete(n.ends, e.addr)
	}
}

func (n *network) at(addr raft.ServerAddress) *end {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.ends[addr]
}

// tally returns the counts of messages.
func (n *network) tally() map[string]int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return maps.Clone(n.counts)
}

// gate holds up whatever passes a paused server. Its zero value is open.
type gate struct {
	mu   sync.Mutex
	open chan struct{} // nil while open, closed when it opens again
}

func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open == nil {
		g.open = make(chan struct{})
	}
}

func (g *gate) reopen() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open != nil {
		close(g.open)
		g.open = nil
	}
}

// pass waits until the gate is open.
func (g *gate) pass(ctx context.Context) error {
	for {
		g.mu.Lock()
		open := g.open
		g.mu.Unlock()
		if open == nil {
			return context.Cause(ctx)
		}
		select {
		case <-open:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// copyOf returns a message as it comes out of a wire: nothing of it is shared with the sender.
func copyOf(message any) any {
	switch m := message.(type) {
	case *raft.AppendEntriesRequest:
		c := *m
		c.Entries = make([]*raft.Log, len(m.Entries))
		for i, l := range m.Entries {
			entry := *l
			entry.Data, entry.Extensions = slices.Clone(l.Data), slices.Clone(l.Extensions)
			c.Entries[i] = &entry
		}
		return &c
	case *raft.RequestVoteRequest:
		c := *m
		return &c
	case *raft.RequestPreVoteRequest:
		c := *m
		return &c
	case *raft.InstallSnapshotRequest:
		c := *m
		return &c
	case *raft.TimeoutNowRequest:
		c := *m
		return &c
	}
	panic(message)
}

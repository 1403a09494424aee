package router

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"slipway/api"
)

// targetID is what makes two targets the same one across tables: its counters and connections
// are kept.
type targetID struct {
	process api.ProcessID
	addr    string
	scheme  api.Scheme
}

// retired is the bit of target.state that says that no table names the target any more. The
// bits below it count the requests in flight.
const retired = 1 << 62

// target is one process that receives requests, now or until it has drained.
type target struct {
	id targetID
	// state is retired | requests in flight, one word, so that counting a request and learning
	// that the target is gone are one step.
	state atomic.Int64
	// suspect is the time (Unix nanoseconds) until which other targets are preferred, because
	// a connection could not be made.
	suspect atomic.Int64
	// settled is told, without waiting, when a retired target has no more requests.
	settled chan<- struct{}
	// drain is the limit of the route that named the target last. Guarded by Router.mu.
	drain time.Duration

	mu sync.Mutex

	idle    []*conn // the most recently used last
	tunnels map[*tunnel]struct{}
}

func newTarget(id targetID, settled chan<- struct{}) *target {
	return &target{id: id, settled: settled, tunnels: make(map[*tunnel]struct{})}
}

// acquire counts a request. It reports false, and counts nothing, if the target is retired.
func (t *target) acquire() bool {
	if t.state.Add(1)&retired == 0 {
		return true
	}
	t.release()
	return false
}

// release ends what acquire began.
func (t *target) release() {
	if t.state.Add(-1) == retired {
		select {
		case t.settled <- struct{}{}:
		default: // a wake is under way already
		}
	}
}

func (t *target) inFlight() int   { return int(t.state.Load() &^ retired) }
func (t *target) retire()         { t.state.Or(retired) }
func (t *target) revive()         { t.state.And(^retired) }
func (t *target) isRetired() bool { return t.state.Load()&retired != 0 }
func (t *target) suspected() bool { s := t.suspect.Load(); return s != 0 && time.Now().UnixNano() < s }
func (t *target) setSuspect()     { t.suspect.Store(time.Now().Add(suspectFor).UnixNano()) }
func (t *target) clearSuspect() {
	if t.suspect.Load() != 0 {
		t.suspect.Store(0)
	}
}

// get returns a connection that may carry a request: an idle one that still seems alive, or,
// with fresh set or none idle, a new one.
func (t *target) get(ctx context.Context, fresh bool) (*conn, error) {
	now := time.Now()
	for !fresh {
		c := t.pop()
		if c == nil {
			break
		}
		idle := now.Sub(c.since)
		if idle < upstreamIdleMax && (idle < aliveCheckAfter || c.alive()) {
			c.reused = true
			return c, nil
		}
		c.Close()
	}
	c, err := t.dial(ctx)
	if err != nil {
		if ctx.Err() == nil {
			t.setSuspect()
		}
		return nil, err
	}
	t.clearSuspect()
	return c, nil
}

// put keeps a connection for the next request, or closes it where that is of no use.
func (t *target) put(c *conn) {
	c.since = time.Now()
	t.mu.Lock()
	if keep := len(t.idle) < upstreamIdleTop && !t.isRetired(); keep {
		t.idle = append(t.idle, c)
		c = nil
	}
	t.mu.Unlock()
	if c != nil {
		c.Close()
	}
}

func (t *target) pop() *conn {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.idle) == 0 {
		return nil
	}
	c := t.idle[len(t.idle)-1]
	t.idle[len(t.idle)-1] = nil
	t.idle = t.idle[:len(t.idle)-1]
	return c
}

// sweep closes the connections that were idle since before the given time.
func (t *target) sweep(before time.Time) {
	t.mu.Lock()
	n := 0
	for n < len(t.idle) && t.idle[n].since.Before(before) {
		n++
	}
	old := append([]*conn(nil), t.idle[:n]...)
	t.idle = append(t.idle[:0], t.idle[n:]...)
	clear(t.idle[len(t.idle):cap(t.idle)])
	t.mu.Unlock()
	for _, c := range old {
		c.Close()
	}
}

func (t *target) dial(ctx context.Context) (*conn, error) {
	ctx, cancel := context.WithTimeout(ctx, connectMax)
	defer cancel()
	nc, err := (&net.Dialer{}).DialContext(ctx, "tcp", t.id.addr)
	if err != nil {
		return nil, err
	}
	c := newConn(nc)
	if t.id.scheme == api.SchemeHTTPS {
		// The process is known by its address in the rack, not by a name that an authority
		// would sign: the certificate it made for itself is not checked.
		tc := tls.Client(nc, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
		if err := tc.HandshakeContext(ctx); err != nil {
			nc.Close()
			return nil, err
		}
		c.wrap(tc)
	}
	return c, nil
}

// addTunnel and removeTunnel keep the upgraded connections that a drain limit has to close.
func (t *target) addTunnel(n *tunnel) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.tunnels[n] = struct{}{}
}

func (t *target) removeTunnel(n *tunnel) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.tunnels, n)
}

// closeTunnels tells both ends of every upgraded connection to go away, and closes it.
func (t *target) closeTunnels() {
	t.mu.Lock()
	open := make([]*tunnel, 0, len(t.tunnels))
	for n := range t.tunnels {
		open = append(open, n)
	}
	t.mu.Unlock()
	for _, n := range open {
		n.goAway()
	}
}

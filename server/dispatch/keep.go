package dispatch

import (
	"context"
	"math"
	"runtime/metrics"
	"time"

	"slipway/api"
	"slipway/raftstore"
	"slipway/raftstore/state"
)

// How often a rack is told: each session waits as long as all of them together may need. Machines
// that join are no hurry, and come in crowds: telling each of each would keep a server from leading.
const (
	documentCost   = 50 * time.Microsecond // a document that changed, for one session
	peersCost      = 10 * documentCost     // when only the peers did
	endpointCost   = 10 * time.Nanosecond  // each endpoint of it
	peerCost       = 100 * time.Nanosecond // each peer
	assignmentCost = 20 * time.Microsecond // an assignment set
	// writeShare is which share of the time may go into writing documents: one of so many.
	writeShare = 4
)

// What one session that is woken costs a server comes after it was woken: messages are encrypted, and a
// node that has a new assignment answers with a report, which is made durable. Only so much of that is
// begun ahead of time; documents too follow each other at once as long as that is enough for them.
const (
	assignedCost = 200 * time.Microsecond
	aheadMax     = 200 * time.Millisecond
)

// Sessions are woken in batches of batchWork, by what one costs. Another batch follows when no more
// goroutines wait for a processor than it has sessions (queueMin do not matter), or after wakeMax: whoever is
// woken has others work for it (who encrypts, who sends, who hears the answer), and the heartbeats between
// servers stand in the same queue. The leader would be one no more.
const (
	batchWork = 20 * time.Millisecond
	batchMin  = 16
	batchMax  = 512
	queueMin  = 128
	wakeMax   = 500 * time.Millisecond
)

// fewMax is how many sessions with new assignments are woken ahead of those who are told of documents
// only: those that take over from a lost node. Of more, each would need documents and assignments at the
// same time, and what they answer moves the documents again.
const fewMax = 64

// keeper follows the state and wakes the sessions that have something to hear.
type keeper struct {
	server *Server
	desk   *desk

	news       bool      // something has come since the documents were written
	next, calm time.Time // when they may be written again; and when, if there is no hurry
	told       time.Time // when all will have been told of those that were written

	waiting []*session    // who has not been woken yet for the documents that were written
	cost    time.Duration // of telling one of them

	until time.Time  // when the work that was begun will be done
	woke  time.Time  // when the last batch was woken
	queue func() int // how many goroutines wait for a processor
}

// keep follows the state until ctx or updates end.
func (k *keeper) keep(ctx context.Context, updates <-chan raftstore.Update) {
	k.news = true
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case u, ok := <-updates:
			if !ok {
				return
			}
			k.hear(ctx, u)
		case <-timer.C:
			if k.idle(time.Now()) <= 0 {
				k.act(ctx)
			}
		}
		timer.Reset(k.idle(time.Now()))
	}
}

// hear takes a newer state in, and wakes those whose assignments changed: after those who wait, unless they
// are few.
func (k *keeper) hear(ctx context.Context, u raftstore.Update) {
	if u.Changes.All || len(u.Changes.Assigned) > fewMax {
		for len(k.waiting) > 0 && k.rest(ctx, k.cost) {
			k.act(ctx)
		}
	}
	k.server.dismiss(u.View, u.Changes)
	k.desk.see(u.View, u.Changes)
	k.news = true
	if len(k.waiting) == 0 && k.idle(time.Now()) <= 0 {
		k.publish(ctx, u.Changes)
		return
	}
	document := time.Duration(0)
	if len(k.waiting) > 0 { // who is woken is told of the documents too
		document = k.cost
	}
	k.wake(ctx, u.Changes, false, document)
}

// act does what is due: it wakes some of those who wait, or brings the documents up to date.
func (k *keeper) act(ctx context.Context) {
	switch {
	case len(k.waiting) > 0:
		n := min(len(k.waiting), batch(k.cost))
		k.poke(k.waiting[:n], k.cost)
		k.waiting = k.waiting[n:]
	case k.news:
		k.publish(ctx, state.Changes{})
	}
}

// idle returns how long there is nothing to do, unless news come.
func (k *keeper) idle(now time.Time) time.Duration {
	switch {
	case len(k.waiting) > 0:
		return k.turn(now, k.cost)
	case !k.news:
		return math.MaxInt64
	case k.desk.hurries():
		return max(0, k.next.Sub(now))
	default:
		return max(0, maxTime(k.next, k.calm).Sub(now))
	}
}

// publish writes the documents, wakes those whose assignments changed, and has all others wait for their
// turn if there is something to tell them.
func (k *keeper) publish(ctx context.Context, ch state.Changes) {
	began := time.Now()
	moved, endpoints, peers := k.desk.write()
	k.news, k.next = false, began.Add(writeShare*time.Since(began))
	k.calm = k.next
	if !moved {
		k.wake(ctx, ch, false, 0)
		return
	}
	cost := documentCost + time.Duration(endpoints)*endpointCost
	sessions := time.Duration(k.wake(ctx, ch, true, cost+time.Duration(peers)*peerCost))
	round := sessions * cost
	k.told = maxTime(k.told, began).Add(round)
	k.next = maxTime(k.next, k.told.Add(-max(0, aheadMax-round)))
	k.calm = maxTime(k.next, began.Add(sessions*peersCost))
}

// wake wakes the sessions whose assignments changed, unless ctx ends before. All others wait for their
// turn if documents have moved, which cost each of them that much. It returns how many those are
// together.
func (k *keeper) wake(ctx context.Context, ch state.Changes, moved bool, document time.Duration) int {
	all := moved || ch.All
	assigned, others := k.server.concerned(ch, all)
	sessions := len(assigned) + len(others)
	for len(assigned) > 0 && k.rest(ctx, document+assignedCost) {
		n := min(len(assigned), batch(document+assignedCost))
		k.poke(assigned[:n], document+assignedCost)
		assigned = assigned[n:]
	}
	if all { // nobody waits already
		k.waiting, k.cost = others, document
	}
	return sessions
}

// rest waits for the turn of the next batch, of sessions that cost that much each. It reports whether ctx
// has not ended.
func (k *keeper) rest(ctx context.Context, cost time.Duration) bool {
	for wait := k.turn(time.Now(), cost); wait > 0; wait = k.turn(time.Now(), cost) {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// turn returns how long the next batch has to wait.
func (k *keeper) turn(now time.Time, cost time.Duration) time.Duration {
	if wait := k.until.Add(-aheadMax).Sub(now); wait > 0 {
		return wait
	}
	if now.Sub(k.woke) < wakeMax && k.queue() > max(batch(cost), queueMin) {
		return time.Millisecond // nobody tells when it is shorter
	}
	return 0
}

// poke wakes sessions, and counts on what each of them costs.
func (k *keeper) poke(sessions []*session, cost time.Duration) {
	now := time.Now()
	k.until, k.woke = maxTime(k.until, now).Add(time.Duration(len(sessions))*cost), now
	for _, c := range sessions {
		c.poke()
	}
}

// batch returns how many sessions are woken at once if each of them costs that much.
func batch(cost time.Duration) int {
	return int(min(max(batchWork/max(cost, 1), batchMin), batchMax))
}

// runnable returns how many goroutines of this process wait for a processor, about.
func runnable() int {
	waiting := []metrics.Sample{{Name: "/sched/goroutines/runnable:goroutines"}}
	metrics.Read(waiting)
	return int(waiting[0].Value.Uint64())
}

func maxTime(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// dismiss ends the sessions of nodes that were given up. They were silent; one that speaks again has to
// register before it counts.
func (s *Server) dismiss(v *state.View, ch state.Changes) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id := range ch.Nodes {
		if n, known := v.Node(id); known && n.Status == api.NodeDown && s.sessions[id] != nil {
			s.sessions[id].end()
		}
	}
}

// concerned returns the sessions whose assignments changed, and the others, if all are to be woken.
func (s *Server) concerned(ch state.Changes, all bool) (assigned, others []*session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for node := range ch.Assigned {
		if c := s.sessions[node]; c != nil {
			assigned = append(assigned, c)
		}
	}
	for node, c := range s.sessions {
		if all && !ch.Assigned[node] {
			others = append(others, c)
		}
	}
	return assigned, others
}

package sim

import (
	"fmt"
	"time"

	"slipway/api"
	"slipway/raftstore/state"
)

// retryAfter is how long a client waits for an answer before it asks another server.
const retryAfter = 2 * time.Second

// user is the end of the network where people are. Nothing cuts it off.
const user = "user"

// Submit sends a command of a user, again and again until a server has answered; done may be nil.
// The request ID makes that once.
func (w *World) Submit(actor string, c state.Command, done func(state.Result)) {
	w.requests++
	w.open++
	id := api.RequestID(fmt.Sprint("req", w.requests))
	answered, current := false, -1
	var try func(attempt int)
	try = func(attempt int) {
		if answered || attempt <= current {
			return
		}
		current = attempt
		s := w.guessLeader(attempt)
		next := attempt + 1
		w.send(user, s.name, func() {
			s.request(user, actor, id, []state.Command{c}, func(ok bool, results []state.Result) {
				switch {
				case answered:
				case ok:
					answered = true
					w.open--
					w.acked[api.RequestID(fmt.Sprint(id, "-0"))] = w.Now
					if done != nil {
						done(results[0])
					}
				default:
					w.after(100*time.Millisecond, func() { try(next) })
				}
			})
		})
		w.after(retryAfter, func() { try(next) })
	}
	try(0)
}

// guessLeader is whom a client asks first: the leader that is known, then each in turn.
func (w *World) guessLeader(attempt int) *Server {
	if attempt == 0 {
		if s := w.Leader(); s != nil {
			return s
		}
	}
	return w.servers[(w.requests+attempt)%len(w.servers)]
}

// Leader returns the server that leads in the newest term, nil if none does.
func (w *World) Leader() *Server {
	var best *Server
	for _, s := range w.servers {
		if s.up && s.role == leader && !s.since.IsZero() && (best == nil || s.term > best.term) {
			best = s
		}
	}
	return best
}

// Apply sends a command of a user and lets time pass until it is answered.
func (w *World) Apply(actor string, c state.Command) state.Result {
	var result state.Result
	answered := false
	w.Submit(actor, c, func(r state.Result) { result, answered = r, true })
	if !w.RunUntil(10*time.Minute, func(*state.View) bool { return answered }) {
		w.fail("nobody answers %s of %s", c.Type(), actor)
	}
	return result
}

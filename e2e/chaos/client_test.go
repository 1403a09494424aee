package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"

	"slipway/api"
	"slipway/raftstore/state"
)

// Of a client, in virtual time.
const (
	// attemptMin and attemptMax bound how long it waits for one answer before it asks another
	// server.
	attemptMin, attemptMax = 500 * time.Millisecond, 4 * time.Second
	// patienceMin and patienceMax bound how long it goes on asking.
	patienceMin, patienceMax = time.Second, 30 * time.Second
	// thinkMax bounds the pause between its calls.
	thinkMax = 250 * time.Millisecond
)

// history records calls. Its clock counts what happens; unlike that of the machine it stands
// still for nothing, not even in virtual time.
type history struct {
	mu         sync.Mutex
	clock      int64
	clients    int
	operations []porcupine.Operation
	promoted   map[string][]string // deployments whose promotion was acknowledged, per object
	acked      int                 // writes that were acknowledged
	unknown    int                 // writes that nobody knows the end of
	reads      int
}

func newHistory() *history { return &history{promoted: map[string][]string{}} }

// tick returns a time that no other event has.
func (h *history) tick() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.clock++
	return h.clock
}

// client returns a new name. One whose call has no end makes no other call.
func (h *history) client() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.clients++
	return h.clients - 1
}

// begin adds a call that begins now. It has no outcome until end gives it one.
func (h *history) begin(client int, in input) (call int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.clock++
	h.operations = append(h.operations, porcupine.Operation{ClientId: client, Input: in, Call: h.clock, Output: output{}})
	return len(h.operations) - 1
}

// end gives a call its outcome.
func (h *history) end(call int, out output) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.clock++
	op := &h.operations[call]
	op.Output, op.Return = out, h.clock
	switch in := op.Input.(input); {
	case in.reads() && out.known:
		h.reads++
	case in.reads():
	case !out.known:
		h.unknown++
	case out.code == "":
		h.acked++
		if in.op == "promote" {
			id, _, _ := strings.Cut(in.arg, " ")
			h.promoted[in.key] = append(h.promoted[in.key], id)
		}
	}
}

// ended returns the calls so far: those without an outcome last until now, and a read without
// one is none.
func (h *history) ended() (out []porcupine.Operation) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.clock++
	for _, op := range h.operations {
		switch known := op.Output.(output).known; {
		case !known && op.Input.(input).reads():
			continue
		case !known:
			op.Return = h.clock
		}
		out = append(out, op)
	}
	return out
}

func (h *history) deployments(key string) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.promoted[key]
}

// client makes one call after another, as the clients of the product do: it follows the rack
// from server to server, and repeats a write with no outcome under the same request ID.
type client struct {
	rack    *rack
	rand    *rand.Rand
	history *history
	name    int
	at      int // index of the server that answered last
}

func (r *rack) client(h *history) *client {
	return &client{rack: r, rand: r.fork(), history: h, name: h.client(), at: 0}
}

// run calls until ctx ends. The call that it is in then comes to its end.
func (c *client) run(ctx context.Context, keys []string) {
	for ctx.Err() == nil {
		key := pick(c.rand, keys)
		in := draw(c.rand, key, c.rack.number(), c.history.deployments(key))
		c.call(in, between(c.rand, patienceMin, patienceMax))
		time.Sleep(between(c.rand, 0, thinkMax)) // virtual time
	}
}

// call makes one call and records it.
func (c *client) call(in input, patience time.Duration) output {
	call := c.history.begin(c.name, in)
	out := c.outcome(in, patience)
	c.history.end(call, out)
	if !out.known {
		c.name = c.history.client()
	}
	return out
}

// outcome asks server after server until one has an answer.
func (c *client) outcome(in input, patience time.Duration) output {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := command(in)
	entry := state.Entry{Request: api.RequestID(fmt.Sprint("q", c.rack.number())), Actor: "ann", Command: cmd}
	var out output
	err := c.insist(ctx, func(ctx context.Context, r replica) error {
		if cmd == nil {
			v, err := r.read(ctx)
			if err == nil {
				out = done(look(v, in.key))
			}
			return err
		}
		result, err := r.write(ctx, entry)
		if err == nil {
			out = done("")
			if result.Err != nil {
				out = rejected(result.Err.Code)
			}
		}
		return err
	})
	if err != nil {
		return output{}
	}
	return out
}

// insist tries server after server until one of them answers or ctx ends.
func (c *client) insist(ctx context.Context, try func(context.Context, replica) error) error {
	for {
		attempt, cancel := context.WithTimeout(ctx, between(c.rand, attemptMin, attemptMax))
		err := try(attempt, c.rack.replicas[c.at])
		cancel()
		if err == nil {
			return nil
		}
		c.at = (c.at + 1) % len(c.rack.replicas)
		wait := between(c.rand, 0, 20*time.Millisecond)
		if !errors.Is(err, errRefused) && api.CodeOf(err) != api.CodeNotLeader {
			wait = 0 // it has waited
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(wait):
		}
	}
}

func between(r *rand.Rand, low, high time.Duration) time.Duration {
	return low + time.Duration(r.Int64N(int64(high-low)+1))
}

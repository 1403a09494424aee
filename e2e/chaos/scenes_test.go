package chaos

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"slipway/api"
	"slipway/raftstore/state"
)

// The scenes are orders of events that chance leads to now and then, and that a rack has to
// survive every time.

// scene runs a test on a rack of three that has a leader and knows one node.
func scene(t *testing.T, play func(r *rack, leader *server, followers []*server)) {
	dir := directory(t)
	synctest.Test(t, func(t *testing.T) {
		r := newRack(t, dir, 3, 1, nil)
		defer r.close()
		for _, cmd := range prepare(sceneKey) {
			r.must(cmd)
		}
		r.set("old")
		r.converge()
		var leader *server
		var followers []*server
		for _, s := range r.servers {
			if s.leads() {
				leader = s
			} else {
				followers = append(followers, s)
			}
		}
		play(r, leader, followers)
	})
}

const sceneKey = "label-0-0"

func (r *rack) set(value string) {
	r.t.Helper()
	r.must(command(input{key: sceneKey, op: "set", arg: value}))
}

// readAt reads from one server. An error is an honest answer.
func (s *server) readAt(ctx context.Context) (string, error) {
	v, err := s.read(ctx)
	if err != nil {
		return "", err
	}
	return look(v, sceneKey), nil
}

// await lets time pass until a condition holds.
func (r *rack) await(what string, ok func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(calmMax); !ok(); time.Sleep(time.Millisecond) { // virtual time
		if time.Now().After(deadline) {
			r.t.Fatalf("no %s\n%s", what, r.picture())
		}
	}
}

// appends are the requests that carry entries of the log, or the news of what is committed.
func appends(request any) bool {
	_, ok := request.(*raft.AppendEntriesRequest)
	return ok && !isHeartbeat(request)
}

// TestANewLeaderMissesNothing: a write is acknowledged, and its leader dies before the others
// hear that it is committed. The next leader has it in its log, but does not know that it is
// committed before an entry of its own term is, which the network holds up here. Its heartbeats
// pass, so that everybody confirms that it leads.
func TestANewLeaderMissesNothing(t *testing.T) {
	scene(t, func(r *rack, leader *server, followers []*server) {
		defer r.net.begin(trouble{from: followers[0].addr, to: followers[1].addr, cut: true, only: appends})()
		defer r.net.begin(trouble{from: followers[1].addr, to: followers[0].addr, cut: true, only: appends})()
		r.set("new")
		if err := leader.kill(nil); err != nil {
			r.t.Fatal(err)
		}
		var next *server
		r.await("next leader", func() bool {
			for _, s := range followers {
				if s.leads() {
					next = s
				}
			}
			return next != nil
		})
		if behind := look(next.life().store.View(), sceneKey); behind != "old" {
			r.t.Fatalf("the scene is not set: the next leader knows %q already", behind)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if got, err := next.readAt(ctx); err == nil && got != "new" {
			r.t.Errorf("a read on the new leader returns %q; %q was acknowledged before it began", got, "new")
		}
	})
}

// TestAnOldLeaderDoesNotAnswer: the answers of followers to the leader take seconds, for the way
// back is congested. They go on arriving, one after another, so that the leader goes on
// believing in itself, while the followers hear nothing from it any more and elect another one.
// An answer to a question from before that election says nothing about a read that began after
// it.
func TestAnOldLeaderDoesNotAnswer(t *testing.T) {
	scene(t, func(r *rack, leader *server, followers []*server) {
		r.net.wait(10 * time.Second) // as in the product
		if got, err := leader.readAt(context.Background()); err != nil || got != "old" {
			r.t.Fatalf("before anything is wrong, a read returns %q, %v", got, err)
		}
		news, heartbeats := make(chan struct{}), make(chan struct{})
		for _, f := range followers {
			defer r.net.begin(trouble{from: f.addr, to: leader.addr, hold: heartbeats, only: isHeartbeat})()
		}
		time.Sleep(300 * time.Millisecond) // virtual time; longer than from one heartbeat to the next
		for _, f := range followers {
			defer r.net.begin(trouble{from: f.addr, to: leader.addr, hold: news, only: appends})()
		}
		for range 2 * inFlightMax { // the answers to these are on their way
			// They are entries of the log; of writes, which share entries, fewer would be.
			go leader.life().store.Barrier(context.Background())
			time.Sleep(20 * time.Millisecond) // virtual time
		}
		for _, f := range followers {
			defer r.net.begin(trouble{from: leader.addr, to: f.addr, cut: true})()
		}
		const lease = electionTimeout / 2 // of a leader that hears nothing
		news <- struct{}{}
		arrive := time.NewTicker(lease * 4 / 5)
		defer arrive.Stop()
		var next *server
		for next == nil {
			select {
			case <-arrive.C:
				select {
				case news <- struct{}{}:
				default:
				}
			case <-time.After(time.Millisecond):
			}
			for _, f := range followers {
				if f.leads() {
					next = f
				}
			}
		}
		entry := state.Entry{Request: "new", Actor: "ann", Command: command(input{key: sceneKey, op: "set", arg: "new"})}
		ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
		defer cancel()
		if res, err := next.write(ctx, entry); err != nil || res.Err != nil {
			r.t.Fatalf("the new leader takes no write: %v %v", err, res.Err)
		}
		if !leader.leads() {
			r.t.Fatalf("the scene is not set: the old leader has given up")
		}
		type answer struct {
			value string
			err   error
		}
		answers := make(chan answer, 1)
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
			defer cancel()
			value, err := leader.readAt(ctx)
			answers <- answer{value, err}
		}()
		time.Sleep(10 * time.Millisecond) // virtual time; the read has arrived
		close(heartbeats)
		if a := <-answers; a.err == nil && a.value != "new" {
			r.t.Errorf("a read on the old leader returns %q; %q was acknowledged before it began", a.value, "new")
		} else if a.err != nil && api.CodeOf(a.err) == "" {
			r.t.Error(a.err)
		}
	})
}

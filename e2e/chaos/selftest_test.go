package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"slipway/api"
	"slipway/raftstore"
	"slipway/raftstore/state"
)

// A check that finds nothing may be one that can find nothing. Here are racks that break one
// promise each, and the check has to say so.

// seedsMax is how many racks a broken promise may take to be seen.
const seedsMax = 8

// stale reads what the server has, whoever leads.
type stale struct{ *server }

func (s stale) read(ctx context.Context) (*state.View, error) {
	var out *state.View
	err := s.visit(ctx, func(_ context.Context, store *raftstore.Store) (func(), error) {
		v := store.View()
		return func() { out = v }, nil
	})
	return out, err
}

// hasty acknowledges a write when it is proposed.
type hasty struct{ *server }

func (h hasty) write(ctx context.Context, e state.Entry) (out state.Result, err error) {
	e.At = time.Now()
	err = h.visit(ctx, func(_ context.Context, store *raftstore.Store) (func(), error) {
		if !store.IsLeader() {
			return func() {}, api.Errorf(api.CodeNotLeader, "not here")
		}
		go store.Propose(context.Background(), e) // until the store is closed
		return func() {}, nil
	})
	return out, err
}

// forgetful takes a write that is repeated for another one.
type forgetful struct {
	*server
	rack *rack
}

func (f forgetful) write(ctx context.Context, e state.Entry) (state.Result, error) {
	e.Request = api.RequestID(fmt.Sprint("again", f.rack.number()))
	return f.server.write(ctx, e)
}

func TestBrokenPromisesAreSeen(t *testing.T) {
	for name, wrap := range map[string]func(*rack, *server) replica{
		"a read returns what a follower has":          func(_ *rack, s *server) replica { return stale{s} },
		"a write is acknowledged before it is stored": func(_ *rack, s *server) replica { return hasty{s} },
		"a write is applied as often as it is sent":   func(r *rack, s *server) replica { return forgetful{s, r} },
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(seedsMax) {
				found := check(trial{seed: 100 + seed, servers: 3, faults: faultsPerEra, wrap: wrap}.run(t).histories...)
				if len(found) > 0 {
					t.Logf("seed %d: %s", 100+seed, found[0])
					return
				}
			}
			t.Errorf("%d racks, and it was not seen", seedsMax)
		})
	}
}

// TestADiskThatForgetsIsSeen takes two of three servers back to what they had some time ago, as
// disks do that say "written" too early.
func TestADiskThatForgetsIsSeen(t *testing.T) {
	dir := directory(t)
	h := newHistory()
	synctest.Test(t, func(t *testing.T) {
		r := newRack(t, dir, 3, 1, nil)
		defer r.close()
		keys := keys(0)
		for _, key := range keys {
			for _, cmd := range prepare(key) {
				r.must(cmd)
			}
		}
		r.converge()
		for _, s := range r.servers[:2] {
			if err := image(s.dir(), s.dir()+"-before"); err != nil {
				t.Fatal(err)
			}
		}
		c := r.client(h)
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		c.run(ctx, keys)
		for _, s := range r.servers {
			if err := s.kill(nil); err != nil {
				t.Fatal(err)
			}
		}
		for i, s := range r.servers[:2] {
			before, err := contents(s.dirOf(0) + "-before")
			if err != nil {
				t.Fatal(err)
			}
			s.lives += i + 2
			if err := write(s.dir(), before); err != nil {
				t.Fatal(err)
			}
			if err := s.start(); err != nil {
				t.Fatal(err)
			}
		}
		for _, key := range keys {
			c.call(input{key: key, op: "get"}, calmMax)
		}
	})
	if found := check(h); len(found) == 0 {
		t.Errorf("%d acknowledged writes were forgotten, and it was not seen", h.acked)
	}
}

// TestSpecsSayWhatTheStateDoes calls objects of the real state one after another: there, a spec
// has to be right about every output.
func TestSpecsSayWhatTheStateDoes(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	s, index := state.New(), uint64(0)
	apply := func(cmd state.Command) state.Result {
		index++
		return s.Apply(index, state.Entry{At: time.Unix(int64(index), 0), Actor: "ann", Command: cmd})
	}
	codes := map[string]int{}
	for era := range 20 {
		for _, key := range keys(era) {
			for _, cmd := range prepare(key) {
				if res := apply(cmd); res.Err != nil {
					t.Fatal(res.Err)
				}
			}
			spec := specs()[kindOf(key)]
			object := spec.init
			var promoted []string
			for range 100 {
				in := draw(r, key, int(index), promoted)
				var got output
				if cmd := command(in); cmd == nil {
					got = done(look(s.View(), key))
				} else if got = done(""); true {
					if res := apply(cmd); res.Err != nil {
						got = rejected(res.Err.Code)
					}
				}
				var want output
				if object, want = spec.step(object, in); got != want {
					t.Fatalf("%s %s(%s): %+v, the spec says %+v", key, in.op, in.arg, got, want)
				}
				if id, _, ok := strings.Cut(in.arg, " "); ok && got.code == "" {
					promoted = append(promoted, id)
				}
				codes[in.op+" "+string(got.code)]++
			}
		}
	}
	for _, rare := range []string{"create conflict", "delete conflict", "release not_found", "cancel conflict", "end conflict", "set invalid"} {
		if codes[rare] == 0 {
			t.Errorf("no call came to %q: %v", rare, codes)
		}
	}
}

// TestEventsOutOfOrderAreSeen hands the check of events what a subscriber may not see.
func TestEventsOutOfOrderAreSeen(t *testing.T) {
	event := func(index uint64) api.Event {
		return api.Event{Index: index, Type: "app.created", Object: fmt.Sprint(index)}
	}
	good := []api.Event{event(2), event(2), event(5), event(7)}
	for name, c := range map[string]struct {
		seen []api.Event
		ok   bool
	}{
		"all":      {good, true},
		"missing":  {[]api.Event{event(2), event(2), event(7)}, false},
		"half":     {[]api.Event{event(2), event(5), event(7)}, false},
		"twice":    {[]api.Event{event(2), event(2), event(5), event(5), event(7)}, false},
		"backward": {[]api.Event{event(2), event(2), event(7), event(5)}, false},
		"none":     {nil, false},
	} {
		w := newWatch()
		w.segments = []*segment{{from: 1, to: 9, events: good}, {from: 1, to: 9, events: c.seen}, {from: 5, to: 8, events: good[3:]}}
		if broken, _ := w.check(); (len(broken) == 0) != c.ok {
			t.Errorf("%s: %q", name, broken)
		}
	}
}

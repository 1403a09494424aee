package chaos

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"slipway/api"
)

var serverFaultsFlag = flag.Int("server-faults", 1000, "faults of real servers")

const (
	callersAtOnce = 8
	// serverFaultsPerEra is how many faults there are until the rack has to work again and what was
	// answered so far is checked.
	serverFaultsPerEra = 125
)

// TestServersUnderFaults runs three real servers on hosts of their own. Their clients speak to
// them as the CLI does, through whichever server they meet; whoever follows the events sees each
// change once and in order.
func TestServersUnderFaults(t *testing.T) {
	m := newMachines(t, 3)
	run := newRun(m, max(1, *seedFlag))
	again := fmt.Sprintf("-run TestServersUnderFaults -args -seed %d", run.seed)
	for n := run.saboteur; n.total() < *serverFaultsFlag; {
		if err := n.rage(min(serverFaultsPerEra, *serverFaultsFlag-n.total())); err != nil {
			t.Fatalf("%v\n%s", err, m.picture())
		}
		m.settle()
		if found := check(run.history); len(found) > 0 || t.Failed() {
			report(t, found, again)
			t.FailNow()
		}
	}
	run.hold()
	run.calling.Wait()
	last := run.caller(0)
	defer last.Close()
	for _, key := range keysOf(run.history) {
		in := input{key: key, op: "get"}
		if kindOf(key) == "fleet" {
			in.op = "list"
		}
		if out := last.call(in, settleMax); !out.known {
			t.Errorf("%s cannot be read after the faults\n%s", key, m.picture())
		}
	}
	want := run.history.events()
	for i, f := range run.followers {
		m.await(fmt.Sprintf("all events at follower %d", i), func() (string, bool) { return f.missing(want) })
	}
	for _, broken := range compare(run.followers, level(run.followers)-1) {
		t.Error(broken)
	}
	report(t, check(run.history), again)
	h := run.history
	t.Logf("seed %d: %d faults (%s); %d writes acknowledged, %d without an outcome, %d reads, %d objects, %d events told to each of %d followers; %s",
		run.seed, run.saboteur.total(), run.saboteur.text(), h.acked, h.unknown, h.reads, len(keysOf(h)), len(run.followers[0].told), len(run.followers),
		time.Since(run.began).Round(time.Second))
}

// serversRun is a rack with clients that call and followers that follow.
type serversRun struct {
	of        *machines
	seed      uint64
	rand      *rand.Rand
	began     time.Time
	history   *history
	numbers   map[api.ReleaseID]string
	saboteur  *saboteur
	followers []*follower
	calling   sync.WaitGroup
	hold      func() // ends the calls
	next      uint64 // stream of random numbers
}

func newRun(m *machines, seed uint64) *serversRun {
	run := &serversRun{of: m, seed: seed, history: newHistory(), numbers: m.deployedApps(), began: time.Now(), next: 10}
	run.rand = rand.New(rand.NewPCG(seed, 3))
	run.saboteur = newSaboteur(m, run.rand)
	ctx, stop := context.WithCancel(context.Background())
	var following sync.WaitGroup
	for i := range m.all {
		f := newFollower()
		run.followers = append(run.followers, f)
		following.Go(func() { f.follow(ctx, m.client(i)) })
	}
	calls, hold := context.WithCancel(context.Background())
	run.hold = hold
	for i := range callersAtOnce {
		c := run.caller(i % len(m.all))
		run.calling.Go(func() { c.run(calls) })
	}
	m.t.Cleanup(func() {
		hold()
		stop()
		run.calling.Wait()
		following.Wait()
	})
	return run
}

// caller returns a client that asks the given server first.
func (r *serversRun) caller(first int) *caller {
	r.next++
	return &caller{
		Client: r.of.client(first), rand: rand.New(rand.NewPCG(r.seed, r.next)), history: r.history, name: r.history.client(),
		began: r.began, numbers: r.numbers, made: map[api.AppName]bool{},
	}
}

// apiCode is the code of an answer that says that nothing was done; false for any other error.
func apiCode(err error) (api.Code, bool) {
	switch code := api.CodeOf(err); code {
	case "", api.CodeConflict, api.CodeNotFound, api.CodeInvalid:
		return code, true
	}
	return "", false
}

package chaos

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"slipway/api"
	rackapi "slipway/api/client"
)

var serverFaultsFlag = flag.Int("server-faults", 60, "faults of real servers")

// Of clients of real servers, in real time.
const (
	callMin, callMax = 2 * time.Second, 15 * time.Second
	// pauseMax bounds the pause between two calls: the rack keeps the last thousand events for
	// those whose stream has ended.
	pauseMax = 200 * time.Millisecond
	// windowOf is how long an object is called before the next one takes its place.
	windowOf      = 4 * time.Second
	callersAtOnce = 6
)

// TestServersUnderFaults runs three real servers on hosts of their own. Their clients speak to
// them as the CLI does, through whichever server they meet; whoever follows the events sees each
// change once and in order.
func TestServersUnderFaults(t *testing.T) {
	m := newMachines(t, 3)
	seed := max(1, *seedFlag)
	h, r, began := newHistory(), rand.New(rand.NewPCG(seed, 3)), time.Now()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var following sync.WaitGroup
	var watchers []*follower
	for i := range m.all {
		f := &follower{seen: map[string]int{}}
		watchers = append(watchers, f)
		following.Go(func() { f.follow(ctx, m.client(i)) })
	}
	calls, hold := context.WithCancel(context.Background())
	var calling sync.WaitGroup
	for i := range callersAtOnce {
		c := &caller{Client: m.client(i % len(m.all)), rand: rand.New(rand.NewPCG(seed, uint64(10+i))), history: h, name: h.client(), began: began}
		calling.Go(func() { c.run(calls) })
	}
	n := &saboteur{of: m, rand: r, busy: map[*machine]bool{}, counts: map[string]int{}}
	err := n.rage(*serverFaultsFlag)
	hold()
	calling.Wait()
	if err != nil {
		t.Fatalf("%v\n%s", err, m.picture())
	}
	m.settle()
	last := &caller{Client: m.client(0), rand: r, history: h, name: h.client(), began: began}
	defer last.Close()
	for _, key := range slices.Sorted(maps.Keys(byKey(h.ended()))) {
		if out := last.call(input{key: key, op: "get"}, settleMax); !out.known {
			t.Errorf("%s cannot be read after the faults\n%s", key, m.picture())
		}
	}
	want := h.events()
	for i, f := range watchers {
		m.await(fmt.Sprintf("all events at follower %d", i), func() (string, bool) { return f.missing(want) })
	}
	stop()
	following.Wait()
	for i, f := range watchers {
		for _, broken := range f.broken {
			t.Errorf("follower %d: %s", i, broken)
		}
	}
	t.Logf("seed %d: %d faults (%s); %d writes acknowledged, %d without an outcome, %d reads, %d events told to each of %d followers; %s",
		seed, *serverFaultsFlag, n.text(), h.acked, h.unknown, h.reads, len(want), len(watchers), time.Since(began).Round(time.Second))
	for _, v := range (outcome{histories: []*history{h}}).violations() {
		t.Errorf("%s\n%s\nagain with: go test ./e2e/chaos -run TestServersUnderFaults -args -seed %d", v, v.page(t), seed)
	}
}

// caller makes calls through the API.
type caller struct {
	*rackapi.Client
	rand    *rand.Rand
	history *history
	name    int
	began   time.Time
}

func (c *caller) run(ctx context.Context) {
	defer c.Close()
	for ctx.Err() == nil {
		window := int(time.Since(c.began) / windowOf)
		in := input{key: fmt.Sprintf("app-%d-%d", window, c.rand.IntN(2)), op: pick(c.rand, []string{"create", "lock", "unlock", "get", "get"})}
		if c.rand.IntN(2) == 0 {
			in = input{key: fmt.Sprintf("env-%d-%d", window/2, c.rand.IntN(2)), op: pick(c.rand, []string{"add", "get"})}
		}
		if in.op == "add" {
			in.arg = fmt.Sprint("K", c.history.tick())
		}
		c.call(in, between(c.rand, callMin, callMax))
		time.Sleep(between(c.rand, 0, pauseMax)) // a load, not an order
	}
}

func (c *caller) call(in input, patience time.Duration) output {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if kindOf(in.key) == "env" {
		if err := c.ensure(ctx, api.AppName(in.key)); err != nil {
			return output{}
		}
	}
	began := c.history.tick()
	value, err := c.do(ctx, in)
	out := output{}
	if code, known := apiCode(err); known {
		out = output{known: true, code: code, value: value}
	}
	c.history.record(c.name, began, in, out)
	if !out.known {
		c.name = c.history.client()
	}
	return out
}

// ensure makes the app of an environment.
func (c *caller) ensure(ctx context.Context, app api.AppName) error {
	for {
		_, err := c.CreateApp(ctx, app)
		if err == nil || api.CodeOf(err) == api.CodeConflict {
			return nil
		}
		if ctx.Err() != nil {
			return err
		}
	}
}

// do makes one call and returns what it delivers, in the words of the specs.
func (c *caller) do(ctx context.Context, in input) (string, error) {
	name := api.AppName(in.key)
	switch {
	case kindOf(in.key) == "env" && in.op == "add":
		r, err := c.SetEnv(ctx, name, rackapi.EnvChange{Set: map[string]string{in.arg: "1"}})
		if err != nil {
			return "", err
		}
		return fmt.Sprint("v", r.Number), nil
	case kindOf(in.key) == "env":
		env, _, err := c.Env(ctx, name, "")
		return strings.Join(slices.Sorted(maps.Keys(env)), " "), err
	case in.op == "create":
		_, err := c.CreateApp(ctx, name)
		return "", err
	case in.op == "lock", in.op == "unlock":
		return "", c.LockApp(ctx, name, in.op == "lock")
	}
	a, err := c.App(ctx, name)
	if api.CodeOf(err) == api.CodeNotFound {
		return app{}.String(), nil
	}
	return app{exists: true, locked: a.Locked}.String(), err
}

// events lists what a follower must have been told of: each write that was acknowledged and
// changes something that only it changes.
func (h *history) events() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []string
	for _, op := range h.operations {
		in, result := op.Input.(input), op.Output.(output)
		if !result.known || result.code != "" {
			continue
		}
		switch in.op {
		case "create":
			out = append(out, "app.created "+in.key)
		case "add":
			out = append(out, "release.created "+in.key+" "+in.arg)
		}
	}
	return out
}

// follower follows the events of the rack, and goes on where it was when a stream ends.
type follower struct {
	mu     sync.Mutex
	index  uint64          // of the last event
	at     map[string]bool // the events of that index: a stream may end between two of them
	seen   map[string]int
	broken []string
}

func (f *follower) follow(ctx context.Context, c *rackapi.Client) {
	defer c.Close()
	f.index = 1
	for ctx.Err() == nil {
		// The error says why the stream ended; the next one goes on after it.
		_ = c.Events(ctx, rackapi.EventQuery{After: f.index - 1, Last: 1000}, func(e api.Event) error {
			f.see(e)
			return ctx.Err()
		})
	}
}

func (f *follower) see(e api.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	text := fmt.Sprint(e.Type, " ", e.App, " ", e.Object, " ", e.Message)
	switch {
	case e.Type == "events.lost":
		f.broken = append(f.broken, e.Message)
		return
	case e.Index < f.index:
		f.broken = append(f.broken, fmt.Sprintf("%s of index %d comes after index %d", text, e.Index, f.index))
		return
	case e.Index > f.index:
		f.index, f.at = e.Index, map[string]bool{}
	case f.at[text]: // told again by the next stream
		return
	}
	if f.at == nil {
		f.at = map[string]bool{}
	}
	f.at[text] = true
	switch e.Type {
	case "app.created":
		f.count(fmt.Sprint(e.Type, " ", e.App))
	case "release.created":
		_, variable, _ := strings.Cut(e.Message, "add:")
		f.count(fmt.Sprint(e.Type, " ", e.App, " ", variable))
	}
}

func (f *follower) count(what string) {
	if f.seen[what]++; f.seen[what] > 1 {
		f.broken = append(f.broken, fmt.Sprintf("%s is told %d times", what, f.seen[what]))
	}
}

// missing names the first event of a list that was not told yet.
func (f *follower) missing(want []string) (string, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, w := range want {
		if f.seen[w] == 0 {
			return w + " was not told", false
		}
	}
	return "", true
}

// saboteur injects faults into real servers.
type saboteur struct {
	of   *machines
	rand *rand.Rand

	mu     sync.Mutex
	busy   map[*machine]bool
	wired  bool // the network has a fault
	counts map[string]int
	failed error
}

// rage injects faults, two at a time at most: one of a machine and one of the network.
func (n *saboteur) rage(count int) error {
	var ends sync.WaitGroup
	for done := 0; done < count && n.failure() == nil && !n.of.t.Failed(); {
		name, end, err := n.begin()
		n.fail(err)
		if end == nil {
			time.Sleep(20 * time.Millisecond) // until a fault has ended
			continue
		}
		done++
		n.mu.Lock()
		n.counts[name]++
		n.mu.Unlock()
		hold := between(n.rand, 100*time.Millisecond, 3*time.Second)
		ends.Go(func() {
			time.Sleep(hold) // the fault lasts
			n.fail(end())
		})
		time.Sleep(between(n.rand, 0, 2*time.Second)) // until the next one
	}
	ends.Wait()
	return n.failure()
}

func (n *saboteur) fail(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.failed == nil {
		n.failed = err
	}
}

func (n *saboteur) failure() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.failed
}

func (n *saboteur) text() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []string
	for _, name := range slices.Sorted(maps.Keys(n.counts)) {
		out = append(out, fmt.Sprintf("%d %s", n.counts[name], name))
	}
	return strings.Join(out, ", ")
}

// begin begins a fault of a machine or of the network; none if one of them lasts.
func (n *saboteur) begin() (string, func() error, error) {
	if n.rand.IntN(5) < 2 {
		return n.network()
	}
	s := pick(n.rand, n.of.all)
	n.mu.Lock()
	taken := n.busy[s]
	if !taken {
		n.busy[s] = true
	}
	n.mu.Unlock()
	if taken {
		return "", nil, nil
	}
	free := func(end func() error) func() error {
		return func() error {
			defer func() { n.mu.Lock(); n.busy[s] = false; n.mu.Unlock() }()
			return end()
		}
	}
	switch n.rand.IntN(6) {
	case 0:
		return "power off", free(func() error {
			if err := s.host.PowerOn(); err != nil {
				return err
			}
			return s.start()
		}), s.powerOff()
	case 1, 2:
		return "kill", free(func() error { return s.start() }), s.kill()
	}
	return "pause", free(func() error { return s.signal(syscall.SIGCONT) }), s.signal(syscall.SIGSTOP)
}

// network begins a fault of the network, one at a time.
func (n *saboteur) network() (string, func() error, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.wired {
		return "", nil, nil
	}
	n.wired = true
	rig := n.of.rig
	end := func() error {
		defer func() { n.mu.Lock(); n.wired = false; n.mu.Unlock() }()
		return rig.HealAll()
	}
	order := n.rand.Perm(len(n.of.all))
	switch n.rand.IntN(5) {
	case 0:
		return "cut", end, rig.Cut(order[0])
	case 1:
		return "lose 20 %", end, rig.Loss(order[0], 20)
	case 2:
		return "partition", end, rig.Partition(order[:1], order[1:])
	}
	return "cut one way", end, rig.CutOneWay(order[0], order[1])
}

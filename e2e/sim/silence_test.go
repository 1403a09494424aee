package sim

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"slipway/api"
	"slipway/raftstore/state"
	"slipway/server/steps"
	"slipway/server/steps/liveness"
)

// The network and the machines of the hour in which nobody fails.
const (
	signEvery   = time.Second // as the servers tell agents
	linesLose   = 10          // packets in a thousand
	resendFirst = 200 * time.Millisecond
	pauseFor    = 200 * time.Millisecond
	pauseEvery  = 10 * time.Second // on average, of each machine
)

// quiet is a rack whose nodes only say that they live.
type quiet struct {
	rand  *api.IDs
	view  *state.View
	ids   []api.NodeID
	beats map[api.NodeID]time.Time
}

func newQuiet(t *testing.T, nodes int, began time.Time) *quiet {
	q := &quiet{rand: api.NewIDs(1), beats: map[api.NodeID]time.Time{}}
	s := state.New()
	for i := range nodes {
		id := api.NodeID(fmt.Sprintf("n%d", i))
		q.ids = append(q.ids, id)
		node := api.Node{ID: id, Name: string(id), Capacity: api.Amount{CPU: 1000, Memory: api.GiB}}
		if r := s.Apply(uint64(i+1), state.Entry{At: began, Command: state.RegisterNode{Node: node}}); r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	q.view = s.View()
	return q
}

func (q *quiet) upto(d time.Duration) time.Duration {
	return time.Duration(q.rand.Uint64() % uint64(d))
}

// pauses are the moments at which a machine stands still for pauseFor.
func (q *quiet) pauses(began, end time.Time) (out []time.Time) {
	for at := began.Add(q.upto(2 * pauseEvery)); at.Before(end); at = at.Add(pauseFor + q.upto(2*pauseEvery)) {
		out = append(out, at)
	}
	return out
}

// awake is when a machine that should do something at a moment does it; pauses of before are dropped.
func awake(at time.Time, pauses *[]time.Time) time.Time {
	for len(*pauses) > 0 && !at.Before((*pauses)[0].Add(pauseFor)) {
		*pauses = (*pauses)[1:]
	}
	if len(*pauses) > 0 && at.After((*pauses)[0]) {
		return (*pauses)[0].Add(pauseFor)
	}
	return at
}

// sign is a heartbeat that arrives.
type sign struct {
	at   time.Time
	node api.NodeID
}

// signs are the heartbeats of all nodes in the order in which they arrive: each over a connection
// that sends again what was lost, after twice the time each time, and keeps the order.
func (q *quiet) signs(began, end time.Time) (out []sign) {
	for _, id := range q.ids {
		pauses := q.pauses(began, end)
		var last time.Time
		for due := began.Add(q.upto(signEvery)); due.Before(end); due = due.Add(signEvery) {
			at := awake(due, &pauses).Add(time.Millisecond + q.upto(2*time.Millisecond))
			for again := resendFirst; q.rand.Uint64()%1000 < linesLose; again *= 2 {
				at = at.Add(again)
			}
			if at.Before(last) {
				at = last
			}
			last = at
			out = append(out, sign{at, id})
		}
	}
	slices.SortFunc(out, func(a, b sign) int { return a.at.Compare(b.at) })
	return out
}

// watch lets a leader listen, which stands still now and then itself and decides before it listens
// when it goes on. It returns which nodes it gave up, and when.
func (q *quiet) watch(began, end time.Time, signs []sign) map[api.NodeID]time.Time {
	down, attached := map[api.NodeID]time.Time{}, map[api.NodeID]bool{}
	for _, id := range q.ids {
		attached[id] = true
	}
	pauses := q.pauses(began, end)
	for now := began; now.Before(end); {
		in := steps.Input{Now: now, Leader: began, Heartbeats: q.beats, Attached: attached}
		cmds, wake := liveness.Step(q.view, state.Everything(), in)
		for _, c := range cmds {
			if id := c.(state.SetNodeStatus).Node; down[id].IsZero() {
				down[id] = now
			}
		}
		if now = awake(wake, &pauses); wake.IsZero() || !now.After(in.Now) {
			now = in.Now.Add(10 * time.Millisecond)
		}
		// What came before it stood still is heard.
		heard := now
		if wake.Before(now) {
			heard = now.Add(-pauseFor)
		}
		for len(signs) > 0 && !signs[0].at.After(heard) {
			q.beats[signs[0].node] = signs[0].at
			signs = signs[1:]
		}
	}
	return down
}

// falsePositives is how many of some nodes are given up in an hour although they live; one that dies
// must be.
func falsePositives(t *testing.T, nodes int) int {
	t.Helper()
	began := time.Unix(1_000_000, 0)
	end, died := began.Add(time.Hour), began.Add(59*time.Minute)
	q := newQuiet(t, nodes, began)
	signs := slices.DeleteFunc(q.signs(began, end), func(s sign) bool { return s.node == "n0" && s.at.After(died) })
	down := q.watch(began, end, signs)
	if took := down["n0"].Sub(died); took <= 0 || took > 5*time.Second {
		t.Errorf("a node that died was given up after %s, want within 5 s", took)
	}
	delete(down, "n0")
	return len(down)
}

func TestNodesThatLiveAreNotGivenUp(t *testing.T) {
	if n := falsePositives(t, 100); n > 0 {
		t.Errorf("%d nodes that live were given up within an hour", n)
	}
}

package rotation

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"slipway/api"
	"slipway/raftstore/state"
	"slipway/server/steps"
)

// rack is a state with a server and two nodes, at a time of its own.
type rack struct {
	t     *testing.T
	state *state.State
	index uint64
	now   time.Time
}

func newRack(t *testing.T) *rack {
	r := &rack{t: t, state: state.New(), now: time.Unix(1000, 0)}
	r.apply(state.PutAuthority{Authority: state.Authority{Fingerprint: "old", Cert: []byte("c"), Key: []byte("k"), Active: true}})
	r.apply(state.PutServer{Server: api.Server{ID: "s1", Name: "one", Raft: "s1:1"}})
	for _, id := range []api.NodeID{"n1", "n2"} {
		r.apply(state.RegisterNode{Node: api.Node{ID: id, Name: "node-" + string(id), Capacity: api.Amount{CPU: 1, Memory: 1}}})
	}
	return r
}

func (r *rack) apply(cmd state.Command) {
	r.t.Helper()
	r.index++
	r.now = r.now.Add(time.Second)
	if res := r.state.Apply(r.index, state.Entry{At: r.now, Actor: "test", Command: cmd}); res.Err != nil {
		r.t.Fatalf("%s: %v", cmd.Type(), res.Err)
	}
}

func (r *rack) holds(machine, issuer string, trusts ...string) {
	r.t.Helper()
	r.apply(state.PutHolding{Holding: state.Holding{Machine: machine, Issuer: issuer, Trusts: trusts}})
}

func (r *rack) step() ([]state.Command, time.Time) {
	return Step(r.state.View(), state.Everything(), steps.Input{Now: r.now})
}

// nothing checks that the step decides nothing, and who is waited for.
func (r *rack) nothing(waits string) {
	r.t.Helper()
	var who []string
	for _, l := range r.state.View().Laggards() {
		if l.Waited {
			who = append(who, l.Machine)
		}
	}
	if cmds, _ := r.step(); len(cmds) > 0 || strings.Join(who, " ") != waits {
		r.t.Fatalf("decided %+v, waits for %q, want %q", cmds, who, waits)
	}
}

// does checks that the step decides one thing, carries it out, and that it is not decided again.
func (r *rack) does(want state.Command) {
	r.t.Helper()
	cmds, _ := r.step()
	if len(cmds) != 1 || !reflect.DeepEqual(cmds[0], want) {
		r.t.Fatalf("decided %+v, want %+v", cmds, want)
	}
	r.apply(want)
	if again, _ := r.step(); len(again) > 0 {
		r.t.Fatalf("decided again: %+v", again)
	}
}

func (r *rack) add() {
	r.apply(state.PutAuthority{Authority: state.Authority{Fingerprint: "new", Cert: []byte("c"), Key: []byte("k")}})
}

// Every machine is waited for in each stage, and the old authority stays a while after the last.
func TestStages(t *testing.T) {
	r := newRack(t)
	r.nothing("")
	r.add()
	r.nothing("server/s1 node/n1 node/n2")
	r.holds("server/s1", "old", "new", "old")
	r.holds("node/n1", "old", "new", "old")
	r.holds("node/n2", "old", "old")
	r.nothing("node/n2")
	r.holds("node/n2", "old", "new", "old")
	r.does(state.SwitchAuthority{Fingerprint: "new"})
	r.holds("node/n1", "new", "new", "old")
	r.holds("node/n2", "new", "new", "old")
	r.nothing("server/s1")
	r.holds("server/s1", "new", "new", "old")
	_, wake := r.step()
	if r.nothing(""); !wake.Equal(r.now.Add(Settle)) {
		t.Fatalf("looks again at %s, want %s", wake, r.now.Add(Settle))
	}
	r.now = wake
	r.does(state.RemoveAuthority{Fingerprint: "old"})
}

// A machine that an administrator leaves behind is not waited for in either stage, and is named.
func TestLeftBehind(t *testing.T) {
	r := newRack(t)
	r.add()
	r.holds("server/s1", "old", "new", "old")
	r.holds("node/n1", "old", "new", "old")
	r.apply(state.SetNodeStatus{Node: "n2", Status: api.NodeDown, Reason: "silent"})
	r.nothing("node/n2")
	r.apply(state.LeaveBehind{Machines: []string{"node/n2"}})
	r.does(state.SwitchAuthority{Fingerprint: "new"})
	r.holds("server/s1", "new", "new", "old")
	r.holds("node/n1", "new", "new", "old")
	r.now = r.now.Add(Settle)
	r.does(state.RemoveAuthority{Fingerprint: "old", Left: []string{"node/n2 (node-n2): has not told yet whom it trusts; it is down"}})
}

// A node that was removed is waited for no more.
func TestRemovedNode(t *testing.T) {
	r := newRack(t)
	r.add()
	r.holds("server/s1", "old", "new", "old")
	r.holds("node/n1", "old", "new", "old")
	r.apply(state.SetNodeStatus{Node: "n2", Status: api.NodeDown, Reason: "silent"})
	r.nothing("node/n2")
	r.apply(state.RemoveNode{Node: "n2"})
	r.does(state.SwitchAuthority{Fingerprint: "new"})
}

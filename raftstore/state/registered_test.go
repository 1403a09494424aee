package state

import (
	"testing"
	"time"

	"slipway/api"
)

// TestRegistered: what need not be registered again is what would change nothing.
func TestRegistered(t *testing.T) {
	node := api.Node{ID: "n1", Name: "one", Addr: "192.0.2.1", BootID: "a", Capacity: api.Amount{CPU: 1000, Memory: api.GiB}, Attributes: map[string]string{"os": "linux"}}
	changed := func(change func(*api.Node)) api.Node {
		n := node
		change(&n)
		return n
	}
	st := New()
	apply := func(c Command) {
		t.Helper()
		if r := st.Apply(st.View().Index()+1, Entry{At: time.Now(), Command: c}); r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	is := func(what string, n api.Node, want bool) {
		t.Helper()
		if got := st.View().Registered(n); got != want {
			t.Errorf("%s: registered %v, want %v", what, got, want)
		}
	}
	apply(ConfigureRack{Rack: Rack{Name: "shop", Domain: "shop.test", Network: "10.0.0.0/8"}})
	is("before it registers", node, false)
	apply(RegisterNode{Node: node})
	is("as it is", node, true)
	apply(UpdateNode{Node: "n1", Cordoned: new(bool), Labels: map[string]string{"disk": "ssd"}})
	apply(AckRoutes{Node: "n1", Version: 3})
	is("with what operators and routers say", node, true)
	is("restarted", changed(func(n *api.Node) { n.BootID = "b" }), false)
	is("of another version", changed(func(n *api.Node) { n.Version = "2" }), false)
	is("larger", changed(func(n *api.Node) { n.Capacity.CPU++ }), false)
	is("with another kernel", changed(func(n *api.Node) { n.Attributes = map[string]string{"os": "linux", "kernel": "7"} }), false)
	is("with a problem", changed(func(n *api.Node) { n.Problem = "no disk" }), false)
	apply(SetNodeStatus{Node: "n1", Status: api.NodeDown})
	is("given up", node, false)
	apply(RegisterNode{Node: node})
	is("as it is, again", node, true)
	rack := st.View().Rack()
	rack.Network = "172.16.0.0/12"
	apply(ConfigureRack{Rack: rack})
	is("of another network", node, false)
}

package agent

import (
	"fmt"
	"testing"

	"slipway/api"
	"slipway/api/pb"
)

// TestCopies: changes go on top of what was heard, and a whole table takes its place.
func TestCopies(t *testing.T) {
	var c copies
	docs := func(ids ...api.ProcessID) (out [][]byte) {
		for _, id := range ids {
			out = append(out, pb.Marshal(api.Assignment{Process: id}))
		}
		return out
	}
	for i, step := range []struct {
		set  *pb.AssignmentSet
		want string
	}{
		{&pb.AssignmentSet{Assignment: docs("b", "a")}, "[a b]"},
		{&pb.AssignmentSet{Change: true, Assignment: docs("c", "a"), Gone: []string{"b", "x"}}, "[a c]"},
		{&pb.AssignmentSet{Change: true}, "[a c]"},
		{&pb.AssignmentSet{Assignment: docs("d")}, "[d]"},
		{&pb.AssignmentSet{}, "[]"},
	} {
		set, err := c.assign(step.set)
		ids := []api.ProcessID{}
		for _, a := range set.Assignments {
			ids = append(ids, a.Process)
		}
		if got := fmt.Sprint(ids); err != nil || got != step.want {
			t.Errorf("set %d: %s, %v, want %s", i, got, err, step.want)
		}
	}
	one := func(addr ...string) *pb.Addresses { return &pb.Addresses{Address: addr} }
	first := c.name(&pb.Names{Names: map[string]*pb.Addresses{"web.a": one("1"), "web.b": one("2")}})
	second := c.name(&pb.Names{Change: true, Names: map[string]*pb.Addresses{"web.a": one(), "web.c": one("3")}})
	if len(first.Names) != 2 || len(second.Names) != 2 || second.Names["web.b"].Address[0] != "2" || second.Names["web.c"].Address[0] != "3" {
		t.Errorf("names %v, then %v", first.Names, second.Names)
	}
	if last := c.name(&pb.Names{}); len(last.Names) != 0 {
		t.Errorf("names %v after a table without any", last.Names)
	}
	c.peer(&pb.Peers{Peer: []*pb.Peer{{Node: "n2", Subnet: "10.0.2.0/24"}, {Node: "n1", Subnet: "10.0.1.0/24"}}})
	peers := c.peer(&pb.Peers{Change: true, Peer: []*pb.Peer{{Node: "n2"}, {Node: "n3", Subnet: "10.0.3.0/24"}, {Node: "n1", Addr: "x", Subnet: "10.0.1.0/24"}}}).Peer
	if len(peers) != 2 || peers[0].Node != "n1" || peers[0].Addr != "x" || peers[1].Node != "n3" {
		t.Errorf("peers %v", peers)
	}
}

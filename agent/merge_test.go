package agent

import (
	"fmt"
	"net/netip"
	"reflect"
	"testing"

	"google.golang.org/protobuf/proto"

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
	at := func(ports ...uint16) (out []netip.AddrPort) {
		for _, p := range ports {
			out = append(out, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, 1}), p))
		}
		return out
	}
	one := func(name string, added, removed []netip.AddrPort) *pb.Name {
		return &pb.Name{Name: name, Added: pb.PackEndpoints(added), Removed: pb.PackEndpoints(removed)}
	}
	for i, step := range []struct {
		names *pb.Names
		want  map[string][]netip.AddrPort
	}{
		{&pb.Names{Name: []*pb.Name{one("web.a", at(1, 3), nil), one("web.b", at(2), nil)}}, map[string][]netip.AddrPort{"web.a": at(1, 3), "web.b": at(2)}},
		{&pb.Names{Change: true, Name: []*pb.Name{one("web.a", at(2, 4), at(3, 9)), one("web.b", nil, at(2)), one("web.c", at(5), nil)}},
			map[string][]netip.AddrPort{"web.a": at(1, 2, 4), "web.c": at(5)}},
		{&pb.Names{Change: true, Name: []*pb.Name{one("web.a", at(2), nil)}}, map[string][]netip.AddrPort{"web.a": at(1, 2, 4), "web.c": at(5)}},
		{&pb.Names{}, map[string][]netip.AddrPort{}},
	} {
		if got, err := c.name(step.names); err != nil || !reflect.DeepEqual(got, step.want) {
			t.Errorf("names %d: %v, %v, want %v", i, got, err, step.want)
		}
	}
	if got, err := c.name(&pb.Names{Name: []*pb.Name{{Name: "web.a", Added: []byte{0x80}}}}); err == nil {
		t.Errorf("half a number is read as %v", got)
	}
	peer := func(change bool, list ...*pb.Peer) []*pb.Peer {
		b, err := proto.Marshal(&pb.PeerList{Peer: list})
		if err != nil {
			t.Fatal(err)
		}
		all, err := c.peer(&pb.Peers{Change: change, List: b})
		if err != nil {
			t.Error(err)
		}
		return all
	}
	if c.namesDigest != 0 {
		t.Errorf("names that were not understood have the digest %d", c.namesDigest)
	}
	if _, err := c.name(&pb.Names{Digest: 7}); err != nil || c.namesDigest != 7 {
		t.Errorf("names have the digest %d, %v", c.namesDigest, err)
	}
	peer(false, &pb.Peer{Node: "n2", Subnet: "10.0.2.0/24"}, &pb.Peer{Node: "n1", Subnet: "10.0.1.0/24"})
	peers := peer(true, &pb.Peer{Node: "n2"}, &pb.Peer{Node: "n3", Subnet: "10.0.3.0/24"}, &pb.Peer{Node: "n1", Addr: "x", Subnet: "10.0.1.0/24"})
	if _, err := c.peer(&pb.Peers{List: []byte("no list")}); err == nil {
		t.Error("text is read as a list of peers")
	}
	if len(peers) != 2 || peers[0].Node != "n1" || peers[0].Addr != "x" || peers[1].Node != "n3" {
		t.Errorf("peers %v", peers)
	}
}

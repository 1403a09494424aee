package dispatch

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"slipway/api/pb"
)

// TestNamesAddUp: whoever knew the names as they were after any change, and is told of what changed
// since, or else of all, knows them as they are.
func TestNamesAddUp(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var n names
	n.fill()
	type copyOf struct {
		at  uint64
		all map[string][]netip.AddrPort
	}
	var copies []copyOf
	known := 0
	for range 1000 {
		copies = append(copies, copyOf{n.at, maps.Clone(n.all)})
		var now []netip.AddrPort
		for port := range 5 {
			if rng.IntN(2) == 0 {
				now = append(now, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(rng.IntN(2))}), uint16(port)))
			}
		}
		slices.SortFunc(now, netip.AddrPort.Compare)
		n.set(fmt.Sprint("web.", rng.IntN(60)), now)
		c := copies[max(0, len(copies)-1-rng.IntN(40))]
		m, ok := n.changes(c.at)
		if !ok {
			m, c.all = n.whole(), nil
		} else if c.at > 0 {
			known++
		}
		if got := after(t, c.all, m); !maps.EqualFunc(got, n.all, slices.Equal) {
			t.Fatalf("told of %v after %v: %v, want %v", m, c.all, got, n.all)
		}
	}
	if known < 300 {
		t.Errorf("only %d of 1000 were told of changes", known)
	}
	total := 0
	for _, list := range n.all {
		total += len(list)
	}
	if total != n.size {
		t.Errorf("size %d, want %d", n.size, total)
	}
	var same names // another server's
	for name, list := range n.all {
		same.set(name, list)
	}
	same.fill()
	if same.digest != n.digest || n.digest == 0 || same.knows(n.digest) != same.at {
		t.Errorf("digest %x, and %x of the same names", n.digest, same.digest)
	}
	same.set("web.0", []netip.AddrPort{netip.MustParseAddrPort("10.9.9.9:1")})
	if same.digest == n.digest || same.knows(n.digest) != 0 {
		t.Errorf("digest %x of other names as well", n.digest)
	}
}

// after applies a message to a copy.
func after(t *testing.T, all map[string][]netip.AddrPort, m *pb.Names) map[string][]netip.AddrPort {
	t.Helper()
	out := maps.Clone(all)
	if out == nil {
		out = map[string][]netip.AddrPort{}
	}
	for _, name := range m.Name {
		added, err := pb.UnpackEndpoints(name.Added)
		if err != nil {
			t.Fatal(err)
		}
		removed, err := pb.UnpackEndpoints(name.Removed)
		if err != nil {
			t.Fatal(err)
		}
		set := map[netip.AddrPort]bool{}
		for _, e := range out[name.Name] {
			set[e] = true
		}
		for _, e := range added {
			set[e] = true
		}
		for _, e := range removed {
			delete(set, e)
		}
		out[name.Name] = slices.SortedFunc(maps.Keys(set), netip.AddrPort.Compare)
		if len(set) == 0 {
			delete(out, name.Name)
		}
	}
	return out
}

// TestPeersOfTwoServers: a table has one digest, whatever it went through, and no other table has it.
func TestPeersOfTwoServers(t *testing.T) {
	one, two := &pb.Peer{Node: "n1", Addr: "192.0.2.1", Subnet: "10.0.1.0/24"}, &pb.Peer{Node: "n2", Addr: "192.0.2.2", Subnet: "10.0.2.0/24"}
	var p, q peers
	p.put("n1", two)
	p.put("n2", two)
	p.put("n1", one)
	p.put("n3", &pb.Peer{Node: "n3"})
	p.drop("n3")
	p.drop("n4")
	q.put("n2", two)
	if p.digest == q.digest {
		t.Errorf("two nodes are like one: %x", p.digest)
	}
	q.put("n1", one)
	if p.digest != q.digest || p.whole().Digest != uint64(q.digest) {
		t.Errorf("digests %x and %x of the same nodes", p.digest, q.digest)
	}
	if q.knows(p.digest) != q.at || q.knows(0) != 0 {
		t.Errorf("who knows all is told from change %d on, of %d", q.knows(p.digest), q.at)
	}
	p.drop("n1")
	p.drop("n2")
	if p.digest != 0 {
		t.Errorf("digest %x of nothing", p.digest)
	}
}

// TestJournalForgets: who has missed more than a journal remembers is told of all.
func TestJournalForgets(t *testing.T) {
	var n names
	n.fill()
	at := n.at
	for i := range 2*recentMax + 1 {
		n.note(listing{name: fmt.Sprint(i)})
	}
	if m, ok := n.changes(at); ok {
		t.Errorf("%d names are said to be all that changed since change %d of %d", len(m.Name), at, n.at)
	}
	if _, ok := n.changes(n.at + 1); ok {
		t.Error("changes since one that is still to come are known")
	}
}

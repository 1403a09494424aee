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

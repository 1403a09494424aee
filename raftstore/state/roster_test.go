package state

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"slipway/api"
)

// drawID makes an ID: one that was minted, one like those of tests, or any text. Few, so that they
// meet.
func drawID(t *rapid.T) api.ProcessID {
	switch rapid.IntRange(0, 2).Draw(t, "form") {
	case 0:
		ids := api.NewIDs(rapid.Uint64Range(0, 3).Draw(t, "seed"))
		id := ids.Process()
		for range rapid.IntRange(0, 300).Draw(t, "place in the plan") {
			id = ids.Process()
		}
		return id
	case 1:
		return api.ProcessID(fmt.Sprint("p", rapid.IntRange(0, 300).Draw(t, "number")))
	}
	return api.ProcessID(rapid.StringOfN(rapid.RuneFrom([]rune("az{Z\x00ä")), 0, 14, -1).Draw(t, "id"))
}

func TestCodesSortAsIDs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawID(t), drawID(t)
		if x, y := codeOf(a), codeOf(b); a < b && x > y {
			t.Fatalf("%q comes before %q, their codes are %d and %d", a, b, x, y)
		}
	})
	ids, last := api.NewIDs(7), uint64(0)
	for range 1000 {
		if code := codeOf(ids.Process()); code <= last {
			t.Fatalf("an ID that was minted later has the code %d, the one before has %d", code, last)
		} else {
			last = code
		}
	}
}

// TestRosterIsASet compares a roster with a map, over changes each of which leaves the roster of
// before as it was.
func TestRosterIsASet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r, model := &roster{}, map[api.ProcessID]*api.Process{}
		for tx := range rapid.IntRange(1, 30).Draw(t, "changes") {
			before, kept := r, slices.Collect(r.all())
			r = r.own(uint64(tx + 1))
			ids := api.NewIDs(uint64(tx))
			for range rapid.IntRange(0, 40).Draw(t, "steps") {
				switch id := drawID(t); rapid.IntRange(0, 4).Draw(t, "step") {
				case 0: // a plan
					for range rapid.IntRange(1, 100).Draw(t, "copies") {
						p := &api.Process{ID: ids.Process()}
						r.put(p)
						model[p.ID] = p
					}
				case 1: // much of it ends
					for i, p := range slices.Collect(r.all()) {
						if i%7 != tx%7 {
							r.drop(p.ID)
							delete(model, p.ID)
						}
					}
				case 2:
					r.drop(id)
					delete(model, id)
				default:
					p := &api.Process{ID: id}
					r.put(p)
					model[id] = p
				}
			}
			if got := slices.Collect(before.all()); !slices.Equal(got, kept) {
				t.Fatalf("a change wrote to the roster of before: %d processes, now %d", len(kept), len(got))
			}
			compareRoster(t, r, model)
		}
	})
}

func compareRoster(t *rapid.T, r *roster, model map[api.ProcessID]*api.Process) {
	got := slices.Collect(r.all())
	if len(got) != len(model) || r.count != len(model) {
		t.Fatalf("%d processes, a count of %d, want %d", len(got), r.count, len(model))
	}
	if !slices.IsSortedFunc(got, func(a, b *api.Process) int { return strings.Compare(string(a.ID), string(b.ID)) }) {
		t.Fatal("the processes are not in order")
	}
	for id, p := range model {
		if q, ok := r.get(id); !ok || q != p {
			t.Fatalf("process %q is %v, want %v", id, q, p)
		}
	}
	if r.root != nil {
		checkPage(t, r.root, true)
	}
}

// checkPage looks for pages that are empty, too full, or emptier than they may stay.
func checkPage(t *rapid.T, p *page, root bool) {
	if n := p.size(); n == 0 || n > pageMax || cap(p.entries) > pageMax || cap(p.kids) > pageMax || root && p.kids != nil && n < 2 {
		t.Fatalf("a page has %d entries and %d kids", len(p.entries), len(p.kids))
	}
	for i := range p.kids {
		checkPage(t, p.kids[i].page, false)
	}
}

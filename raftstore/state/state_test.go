package state

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"slipway/api"
)

// draw makes a command that may or may not make sense: few names, so that they meet.
func draw(t *rapid.T) Command {
	pick := func(name string, n int) int { return rapid.IntRange(1, n).Draw(t, name) }
	app := api.AppName(fmt.Sprint("app", pick("app", 2)))
	release := api.ReleaseID(fmt.Sprint("R", pick("release", 3)))
	node := api.NodeID(fmt.Sprint("n", pick("node", 2)))
	process := api.ProcessID(fmt.Sprint("p", pick("process", 12)))
	key := api.ServiceKey{App: app, Service: "web"}
	ask := api.Amount{CPU: 600, Memory: api.Bytes(pick("memory", 4)) * 300 * api.MiB}
	switch pick("command", 20) {
	case 1:
		return CreateApp{App: api.App{Name: app}}
	case 2:
		return DeleteApp{App: app}
	case 3, 4:
		return CreateRelease{Release: api.Release{ID: release, App: app, Services: []api.ServiceSpec{{Name: "web"}}}}
	case 5:
		return CreateDeployment{Deployment: api.Deployment{ID: api.DeploymentID(fmt.Sprint("D", pick("deployment", 9))), App: app, Release: release}}
	case 6, 7:
		return SetWant{Key: key, Want: []api.Want{{Release: release, Count: pick("count", 4)}}}
	case 8, 9, 10:
		return ApplyPlan{Place: []api.Group{{Key: api.ServiceKey{App: app, Service: "web"}, Release: release, Ask: ask, Copies: []api.Copy{{ID: process, Slot: pick("slot", 3), Node: node}}}}}
	case 11, 12:
		return UpdateProcesses{Node: node, Statuses: map[api.ProcessID]api.ProcessStatus{process: {State: api.State(pick("state", 8)), Health: api.HealthHealthy, Addr: "10.0.0.1"}}}
	case 13:
		return RegisterNode{Node: api.Node{ID: node, Name: string(node), BootID: fmt.Sprint(pick("boot", 2)), Capacity: api.Amount{CPU: 1000, Memory: 2 * api.GiB}}}
	case 14:
		return SetNodeStatus{Node: node, Status: api.NodeDown}
	case 15:
		return ApplyPlan{Stop: []api.Stop{{Process: process, Reason: "test"}}}
	case 16:
		drains := pick("drains", 2) == 1
		return UpdateNode{Node: node, Draining: &drains, Label: map[string]string{"zone": fmt.Sprint(pick("zone", 2))}}
	case 17:
		return RemoveNode{Node: node}
	case 18, 19:
		role := []string{"admin", "viewer", "node"}[pick("role", 3)-1]
		id := fmt.Sprint("t", pick("token", 3))
		if pick("delete", 2) == 1 {
			return DeleteToken{ID: id}
		}
		return PutToken{Token: Token{ID: id, Name: fmt.Sprint("name", pick("name", 3)), Role: role, Hash: []byte(id)}}
	}
	return Reap{Processes: []api.ProcessID{process}, Releases: []api.ReleaseID{release}, Apps: []api.AppName{app}}
}

// settled is a state in which much of what draw returns has an effect.
func settled(states ...*State) uint64 {
	key := api.ServiceKey{App: "app1", Service: "web"}
	prelude := []Command{
		CreateApp{App: api.App{Name: "app1"}},
		RegisterNode{Node: api.Node{ID: "n1", Name: "n1", BootID: "1", Capacity: api.Amount{CPU: 1000, Memory: 2 * api.GiB}}},
		RegisterNode{Node: api.Node{ID: "n2", Name: "n2", BootID: "1", Capacity: api.Amount{CPU: 1000, Memory: 2 * api.GiB}}},
		CreateRelease{Release: api.Release{ID: "R1", App: "app1", Services: []api.ServiceSpec{{Name: "web"}}}},
		CreateDeployment{Deployment: api.Deployment{ID: "D0", App: "app1", Release: "R1"}},
		SetWant{Key: key, Want: []api.Want{{Release: "R1", Count: 4}}},
	}
	for _, s := range states {
		for i, c := range prelude {
			s.Apply(uint64(i+1), Entry{At: time.Unix(0, 0).UTC(), Actor: "test", Command: c})
		}
	}
	return uint64(len(prelude))
}

func encoded(t *rapid.T, s *State) []byte {
	var b bytes.Buffer
	if err := s.View().Encode(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestReplicasStayEqual feeds any log to two replicas, one of which is restored from its own
// snapshot half-way, and checks every invariant after every entry.
func TestReplicasStayEqual(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := New(), New()
		begin := 0
		if rapid.IntRange(0, 3).Draw(t, "settled") > 0 {
			begin = int(settled(a, b))
		}
		n := rapid.IntRange(1, 60).Draw(t, "entries")
		restore := rapid.IntRange(1, n).Draw(t, "restored at")
		for i := begin + 1; i <= begin+n; i++ {
			actor := []string{"test", "rack", "node/n1"}[rapid.IntRange(0, 2).Draw(t, "actor")]
			e := Entry{At: time.Unix(int64(i), 0).UTC(), Actor: actor, Reason: "why not", Command: draw(t)}
			if rapid.Bool().Draw(t, "has request") {
				e.Request = api.RequestID(fmt.Sprint("q", rapid.IntRange(1, 20).Draw(t, "request")))
			}
			before := a.View()
			kept := encoded(t, a)
			ra, rb := a.Apply(uint64(i), e), b.ApplyAll(uint64(i), []Entry{e})[0]
			if fmt.Sprint(ra.Err, ra.Dropped, ra.Value) != fmt.Sprint(rb.Err, rb.Dropped, rb.Value) {
				t.Fatalf("entry %d: results differ: %+v and %+v", i, ra, rb)
			}
			if broken := a.View().Check(); len(broken) > 0 {
				t.Fatalf("entry %d, %T: %q", i, e.Command, broken)
			}
			if broken := before.Check(); len(broken) > 0 {
				t.Fatalf("entry %d, %T, broke the view of before: %q", i, e.Command, broken)
			}
			for n := range a.View().Nodes() {
				if was, is := before.Used(n.ID), a.View().Used(n.ID); !was.Same(is) && !ra.Changes.Usage[n.ID] {
					t.Fatalf("entry %d, %T: node %s holds %+v and not %+v, the changes do not say so", i, e.Command, n.ID, is, was)
				}
			}
			if got := encoded(t, &State{view: before}); !bytes.Equal(got, kept) {
				t.Fatalf("entry %d changed the view of before", i)
			}
			if i == begin+restore {
				s, err := Decode(bytes.NewReader(encoded(t, b)))
				if err != nil {
					t.Fatal(err)
				}
				b = s
			}
		}
		if x, y := encoded(t, a), encoded(t, b); !bytes.Equal(x, y) {
			t.Fatalf("the replicas differ:\n%s\n%s", x, y)
		}
	})
}

// TestEntriesTogether: entries of one Raft entry come to what they come to one by one, and leave the
// view of before alone.
func TestEntriesTogether(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := New(), New()
		index := settled(a, b)
		for range rapid.IntRange(1, 10).Draw(t, "times") {
			index++
			var entries []Entry
			for i := range rapid.IntRange(1, 12).Draw(t, "entries") {
				e := Entry{At: time.Unix(int64(index), int64(i)).UTC(), Actor: "test", Command: draw(t)}
				if rapid.Bool().Draw(t, "has request") {
					e.Request = api.RequestID(fmt.Sprint("q", rapid.IntRange(1, 20).Draw(t, "request")))
				}
				entries = append(entries, e)
			}
			before, kept := b.View(), encoded(t, b)
			all := b.ApplyAll(index, entries)
			for i, e := range entries {
				if one := a.Apply(index, e); !reflect.DeepEqual(one, all[i]) {
					t.Fatalf("entry %d, %T: alone %+v, with others %+v", i, e.Command, one, all[i])
				}
			}
			if got := encoded(t, &State{view: before}); !bytes.Equal(got, kept) {
				t.Fatal("the view of before has changed")
			}
			if broken := append(before.Check(), b.View().Check()...); len(broken) > 0 {
				t.Fatalf("%q", broken)
			}
		}
		if x, y := encoded(t, a), encoded(t, b); !bytes.Equal(x, y) {
			t.Fatalf("alone and together differ:\n%s\n%s", x, y)
		}
	})
}

// TestRejectedTogether: what a command wrote before it was rejected is gone, and what came before it in
// the same Raft entry is there.
func TestRejectedTogether(t *testing.T) {
	s := New()
	index := settled(s)
	s.Apply(index+1, Entry{Command: CreateBuild{Build: api.Build{ID: "B1", App: "app1"}}})
	before := s.View()
	results := s.ApplyAll(index+2, []Entry{
		{Command: CreateRelease{Release: api.Release{ID: "R3", App: "app1"}}},
		{Command: EndBuild{
			Build: "B1", Release: &api.Release{ID: "R2", App: "app1", Services: []api.ServiceSpec{{Name: "web"}}},
			Deployment: &api.Deployment{ID: "D0", App: "app1", Release: "R2"}, // which there is
		}},
		{Command: CreateRelease{Release: api.Release{ID: "R4", App: "app1"}}},
	})
	if a, b, c := results[0].Err, results[1].Err, results[2].Err; a != nil || b == nil || b.Code != api.CodeConflict || c != nil {
		t.Errorf("results %v, %v and %v", a, b, c)
	} else if !strings.Contains(b.Message, "D0") {
		t.Error(b)
	}
	if _, there := s.View().Release("R2"); there {
		t.Error("the release of a command that was rejected is there")
	}
	for i, id := range []api.ReleaseID{"R3", "R4"} {
		if r, there := s.View().Release(id); !there || r.Number != 2+i {
			t.Errorf("release %s: %+v", id, r)
		}
		if _, there := before.Release(id); there {
			t.Errorf("release %s is in the view of before", id)
		}
	}
}

func TestProcessStatesNeverGoBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := New()
		begin := settled(s)
		states := map[api.ProcessID]api.State{}
		for i := range 60 {
			s.Apply(begin+uint64(i+1), Entry{At: time.Unix(int64(i), 0), Command: draw(t)})
			now := map[api.ProcessID]api.State{}
			for p := range s.View().Processes() {
				if was, ok := states[p.ID]; ok && !was.CanMove(p.Observed.State) {
					t.Fatalf("process %s went from %s to %s", p.ID, was, p.Observed.State)
				}
				now[p.ID] = p.Observed.State
			}
			states = now
		}
	})
}

func TestRejectedCommandsLeaveNoTrace(t *testing.T) {
	s := New()
	s.Apply(1, Entry{Command: CreateApp{App: api.App{Name: "shop"}}})
	s.Apply(2, Entry{Command: LockApp{App: "shop", Locked: true}})
	r := s.Apply(3, Entry{Command: DeleteApp{App: "shop"}})
	if a, _ := s.View().App("shop"); api.CodeOf(r.Err) != api.CodeConflict || a.Deleting || !r.Changes.Empty() {
		t.Errorf("deleting a locked app: %+v, app %+v", r, a)
	}
	r = s.Apply(4, Entry{Command: DeleteApp{App: "shpo"}})
	if api.CodeOf(r.Err) != api.CodeNotFound || r.Err.Message != `app "shpo" not found; did you mean "shop"?` {
		t.Errorf("an unknown app: %v", r.Err)
	}
}

package state

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/build"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"slipway/api"
)

// byMachines are the commands that only the rack, its agents and its leader give.
var byMachines = []Command{
	RegisterNode{}, UpdateProcesses{}, AckRoutes{}, ApplyPlan{}, SetWant{}, UpdateDeployment{}, SetRoutes{}, SetReady{}, SetDesired{},
	SetNodeStatus{}, StartBuild{}, Reap{}, PutServer{}, PutHolding{},
}

// byUsers are all the others, each so that it changes something after those before it.
func byUsers() []Command {
	key, count, yes := api.ServiceKey{App: "shop", Service: "web"}, 3, true
	release := func(id api.ReleaseID) api.Release {
		return api.Release{ID: id, App: "shop", Build: "B1", Services: []api.ServiceSpec{{Name: "web"}}}
	}
	return []Command{
		ConfigureRack{Rack: Rack{Name: "test", ClusterID: "c1"}},
		CreateApp{App: api.App{Name: "shop"}},
		LockApp{App: "shop", Locked: true},
		LockApp{App: "shop"},
		CreateBuild{Build: api.Build{ID: "B1", App: "shop"}},
		CreateRelease{Release: release("R1")},
		EndBuild{Build: "B1", Release: new(release("R2"))},
		CreateDeployment{Deployment: api.Deployment{ID: "D1", App: "shop", Release: "R1"}},
		SetScale{Key: key, Override: &api.ScaleOverride{Count: &count}},
		RestartService{Key: key},
		CreateProcess{Process: api.Process{ID: "p1", App: "shop", Service: "web", Kind: api.KindRun}},
		StopProcess{Process: "p1"},
		CancelDeployment{App: "shop"},
		PutPool{Pool: api.Pool{Name: "front", Strategy: api.EvenOut}},
		UpdateNode{Node: "n1", Draining: &yes},
		UpdateNode{Node: "n1", Label: map[string]string{"zone": "a"}},
		RemoveNode{Node: "n1"},
		PutToken{Token: Token{ID: "a", Name: "a", Role: api.RoleAdmin, Hash: []byte("a")}},
		PutToken{Token: Token{ID: "t", Name: "t", Role: api.RoleViewer, Hash: []byte("t")}},
		PutToken{Token: Token{ID: "t", Name: "t", Role: api.RoleDeployer, Hash: []byte("t")}},
		DeleteToken{ID: "t"},
		RemoveServer{ID: "s1"},
		RaiseFormat{To: FormatFirst + 1},
		PutAuthority{Authority: Authority{Fingerprint: "f1", Cert: []byte("c"), Key: []byte("k"), Active: true}},
		PutAuthority{Authority: Authority{Fingerprint: "f2", Cert: []byte("c"), Key: []byte("k")}},
		LeaveBehind{Machines: []string{"node/n9"}},
		SwitchAuthority{Fingerprint: "f2"},
		RemoveAuthority{Fingerprint: "f1"},
		PutRegistry{Registry: Registry{Server: "r.test", Username: "ann", Sealed: []byte("s")}},
		RemoveRegistry{Server: "r.test"},
		DeleteApp{App: "shop"},
	}
}

// Everything that a user changes leaves an event that says who did it and why, and it is kept.
func TestEveryChangeOfAUserIsRecorded(t *testing.T) {
	s := New()
	s.ApplyAll(1, []Entry{
		{Actor: "node/n1", Command: RegisterNode{Node: api.Node{ID: "n1", Name: "one", Capacity: api.Amount{CPU: 1, Memory: 1}}}},
		{Actor: "rack", Command: PutServer{Server: api.Server{ID: "s1", Name: "one", Raft: "s1:1"}}},
	})
	known := map[string]bool{}
	for _, cmd := range byMachines {
		known[fmt.Sprintf("%T", cmd)] = true
	}
	for i, cmd := range byUsers() {
		known[fmt.Sprintf("%T", cmd)] = true
		index := uint64(i + 2)
		r := s.Apply(index, Entry{At: time.Unix(int64(i), 0), Actor: "ann", Reason: "for the fair", Command: cmd})
		if r.Err != nil {
			t.Fatalf("%T: %v", cmd, r.Err)
		}
		if len(r.Events) == 0 {
			t.Errorf("%T leaves no event", cmd)
		}
		for _, e := range r.Events {
			if e.Actor != "ann" || e.Reason != "for the fair" || e.Object == "" || e.Index != index {
				t.Errorf("%T: event %+v", cmd, e)
			}
		}
		if kept := s.View().Events(); kept[len(kept)-1].Index != index {
			t.Errorf("%T: the last event that is kept is %+v", cmd, kept[len(kept)-1])
		}
	}
	for _, name := range declared(t) {
		if !known["state."+name] {
			t.Errorf("command %s is neither among those of users nor among those of machines", name)
		}
	}
}

// declared lists the types of the package that are commands.
func declared(t *testing.T) (names []string) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		if here, err := build.Default.MatchFile(".", path); err != nil || !here {
			continue // of another version, or a test
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv != nil && f.Name.Name == "Type" {
				names = append(names, f.Recv.List[0].Type.(*ast.Ident).Name)
			}
		}
	}
	if len(names) < 30 {
		t.Fatalf("only %d commands: %q", len(names), names)
	}
	return names
}

// The record is bounded whatever happens, and a replica that was restored goes on with the same
// one.
func TestTheRecordIsBounded(t *testing.T) {
	a, b := New(), New()
	apply := func(index uint64, actor string, cmd Command) {
		for _, s := range []*State{a, b} {
			s.Apply(index, Entry{At: time.Unix(int64(index), 0).UTC(), Actor: actor, Command: cmd})
		}
	}
	apply(1, "ann", CreateApp{App: api.App{Name: "shop"}})
	apply(2, "node/n1", RegisterNode{Node: api.Node{ID: "n1", Name: "one", BootID: "1", Capacity: api.Amount{CPU: 1000, Memory: api.GiB}}})
	const n = 3 * EventsKept
	for i := range uint64(n) {
		apply(3+i, "ann", LockApp{App: "shop", Locked: i%2 == 0})
		if i == n/2 {
			restored, err := Decode(bytes.NewReader(bytesOf(t, b)))
			if err != nil {
				t.Fatal(err)
			}
			b = restored
		}
	}
	kept := a.View().Events()
	if len(kept) != EventsKept+1 || kept[0].Type != "node.joined" || kept[1].Index != 3+n-EventsKept || kept[EventsKept].Index != 2+n {
		t.Errorf("%d events are kept, the first is %+v, the last %+v", len(kept), kept[0], kept[len(kept)-1])
	}
	if !bytes.Equal(bytesOf(t, a), bytesOf(t, b)) {
		t.Error("the replicas differ")
	}

	const processes = 5 * perEntryMax
	for i := range processes {
		id := api.ProcessID(fmt.Sprintf("p%03d", i))
		apply(n+10, "ann", CreateProcess{Process: api.Process{ID: id, App: "shop", Service: "web", Kind: api.KindRun}})
		apply(n+11, "rack", ApplyPlan{Assign: []api.Assign{{Process: id, Node: "n1"}}})
	}
	long := strings.Repeat("é", messageMax)
	r := a.Apply(n+20, Entry{Actor: "ann", Command: StopProcess{Process: "p000", Reason: long}})
	if kept := a.View().Events(); r.Events[0].Message != long || len(kept[len(kept)-1].Message) > messageMax+len("…") {
		t.Errorf("a message of %d bytes is kept with %d", len(long), len(kept[len(kept)-1].Message))
	}
	a.Apply(n+21, Entry{Actor: "rack", Command: SetNodeStatus{Node: "n1", Status: api.NodeDown}})
	if kept := a.View().Events(); kept[len(kept)-1].Type != "node.down" {
		t.Errorf("after a node with %d processes went down, the last event is %+v", processes, kept[len(kept)-1])
	}
	r = b.Apply(n+21, Entry{Actor: "ann", Command: RegisterNode{Node: api.Node{ID: "n1", Name: "one", BootID: "2", Capacity: api.Amount{CPU: 1000, Memory: api.GiB}}}})
	of := 0
	for _, e := range b.View().Events() {
		if e.Index == n+21 {
			of++
		}
	}
	if len(r.Events) != processes+1 || of != perEntryMax {
		t.Errorf("an entry with %d events leaves %d", len(r.Events), of)
	}
}

func bytesOf(t *testing.T, s *State) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := s.View().Encode(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

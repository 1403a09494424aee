package raftstore

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/proto"

	"slipway/api"
	"slipway/api/pb"
	"slipway/raftstore/state"
)

func fast(c *raft.Config) {
	c.HeartbeatTimeout, c.ElectionTimeout = 100*time.Millisecond, 100*time.Millisecond
	c.LeaderLeaseTimeout, c.CommitTimeout = 50*time.Millisecond, 2*time.Millisecond
}

func open(t *testing.T, dir string, bootstrap bool) *Store {
	t.Helper()
	s, err := Open(Config{Dir: dir, ID: "s1", Addr: "127.0.0.1:0", Bootstrap: bootstrap, Tune: fast})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	wait(t, "leadership", func() bool { return s.IsLeader() })
	return s
}

func wait(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("no %s within two minutes", what)
		}
		time.Sleep(time.Millisecond) // polls, does not order anything
	}
}

func createApp(name string) state.Entry {
	return state.Entry{At: time.Unix(1, 0), Actor: "ann", Request: api.RequestID("r-" + name), Command: state.CreateApp{App: api.App{Name: api.AppName(name)}}}
}

func TestRestartKeepsEverything(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, true)
	for i := range 20 {
		if r, err := s.Propose(t.Context(), createApp(fmt.Sprintf("a%d", i))); err != nil || r.Err != nil {
			t.Fatal(err, r.Err)
		}
	}
	if err := s.Snapshot(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Propose(t.Context(), createApp("after")); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, false)
	if err := s.Barrier(t.Context()); err != nil {
		t.Fatal(err)
	}
	n := 0
	for range s.View().Apps() {
		n++
	}
	if n != 21 {
		t.Errorf("%d apps after the restart, want 21", n)
	}
}

func TestWritesAreAppliedOnce(t *testing.T) {
	s := open(t, t.TempDir(), true)
	first, err := s.Propose(t.Context(), createApp("web"))
	if err != nil || first.Err != nil || first.Duplicate {
		t.Fatal(first, err)
	}
	again, err := s.Propose(t.Context(), createApp("web"))
	if err != nil || again.Err != nil || !again.Duplicate {
		t.Errorf("the repeated write: %+v, %v; want the first result", again, err)
	}
	other := createApp("web")
	other.Request = "another"
	if r, _ := s.Propose(t.Context(), other); api.CodeOf(r.Err) != api.CodeConflict {
		t.Errorf("another request for the same name: %v, want a conflict", r.Err)
	}
}

func TestBootstrapRefusesKnownState(t *testing.T) {
	dir := t.TempDir()
	open(t, dir, true).Close()
	if _, err := Open(Config{Dir: dir, ID: "s1", Addr: "127.0.0.1:0", Bootstrap: true}); api.CodeOf(err) != api.CodeConflict {
		t.Errorf("second bootstrap: %v, want a conflict", err)
	}
}

func TestConcurrentProposalsAndSubscription(t *testing.T) {
	s := open(t, t.TempDir(), true)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, updates := s.Subscribe(ctx)
	const n = 200
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			if r, err := s.Propose(ctx, createApp(fmt.Sprintf("a%d", i))); err != nil || r.Err != nil {
				t.Error(err, r.Err)
			}
		})
	}
	seen := map[api.AppName]bool{}
	for len(seen) < n {
		select {
		case u := <-updates:
			for a := range u.Changes.Apps {
				seen[a] = true
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("saw %d of %d changes", len(seen), n)
		}
	}
	wg.Wait()
	v, err := s.Linearizable(ctx)
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for range v.Apps() {
		count++
	}
	if count != n {
		t.Errorf("%d apps in a linearizable view, want %d", count, n)
	}
}

// TestEveryCommandSurvivesTheLog fills every command with values, also behind pointers, in maps
// and lists, and reads back what was written.
func TestEveryCommandSurvivesTheLog(t *testing.T) {
	for name, k := range present.kinds {
		v := reflect.New(k.typ)
		fill(v.Elem(), 3)
		in := []state.Entry{{Request: "r", At: time.Unix(3, 4).UTC(), Actor: "ann", Reason: "why", Command: v.Elem().Interface().(state.Command)}}
		b, err := Encode(in)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		out, err := Decode(b)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(in, out, cmp.AllowUnexported(api.Texts{})); diff != "" {
			t.Errorf("%s does not survive the log:\n%s", name, diff)
		}
	}
}

// fill sets every exported field to something that is not its zero value.
func fill(v reflect.Value, depth int) {
	switch x := v.Addr().Interface().(type) {
	case *time.Time:
		*x = time.Unix(7, 8).UTC()
		return
	case *api.Texts:
		*x = api.TextsOf([]string{"x"})
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString("x")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(1)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(1)
	case reflect.Float32, reflect.Float64:
		v.SetFloat(1.5)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), depth)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0), depth)
	case reflect.Array:
		for i := range v.Len() {
			fill(v.Index(i), depth)
		}
	case reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(key, depth)
		fill(value, depth)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), depth)
		}
	}
}

func TestUnknownCommandsStopTheReplica(t *testing.T) {
	for _, c := range []*pb.Command{{Version: 1, Type: "from_the_future"}, {Version: present.newest + 1, Type: "create_app", Body: []byte("{}")}} {
		b, err := proto.Marshal(&pb.Batch{Command: []*pb.Command{c}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Decode(b); err == nil || !strings.Contains(err.Error(), "newer version") {
			t.Errorf("%v: %v", c, err)
		}
	}
}

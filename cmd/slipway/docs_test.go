package main

import (
	"bytes"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"slipway/api"
	"slipway/api/pb"
	"slipway/raftstore/state"
	"slipway/server"
	"slipway/server/control"
)

// TestSchedulingDoc keeps the outputs in docs/scheduling.md equal to what the commands print on
// a rack of six nodes. UPDATE=1 writes them anew.
func TestSchedulingDoc(t *testing.T) {
	const file = "../../docs/scheduling.md"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	q := &control.Inquiry{View: docRack(t), Scheduler: server.Planner{}, Now: docNow, IDs: api.NewIDs(1)}
	asked := 0
	got := regexp.MustCompile("(?s)```console\n.*?```").ReplaceAllStringFunc(string(text), func(block string) string {
		out := "```console\n"
		for line := range strings.Lines(block) {
			if words, ok := strings.CutPrefix(line, "$ slipway "); ok {
				asked++
				out += line + docAnswer(t, q, strings.Fields(words))
			}
		}
		return out + "```"
	})
	if asked < 10 {
		t.Errorf("%s asks %d questions", file, asked)
	}
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want := strings.Split(string(text), "\n")
	for i, line := range strings.Split(got, "\n") {
		if i >= len(want) || want[i] != line {
			t.Fatalf("%s:%d is not what the command prints, UPDATE=1 writes it anew:\n%s", file, i+1, line)
		}
	}
}

var docNow = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

// docRack is the state that the examples are about.
func docRack(t *testing.T) *state.View {
	t.Helper()
	s, index := state.New(), uint64(0)
	apply := func(cmd state.Command) {
		index++
		if r := s.Apply(index, state.Entry{At: docNow, Actor: "test", Command: cmd}); r.Err != nil || len(r.Dropped) > 0 {
			t.Fatalf("%s: %v %q", cmd.Type(), r.Err, r.Dropped)
		}
	}
	for i := range 6 {
		n := api.Node{
			ID: api.NodeID(fmt.Sprintf("n%d", i+1)), Name: fmt.Sprintf("host%d", i+1), BootID: "1",
			Capacity: api.Amount{CPU: 8000, Memory: 16 * api.GiB, Disk: 200 * api.GiB}, Reserved: api.Amount{CPU: 200, Memory: 512 * api.MiB},
			Attributes: map[string]string{"arch": "amd64"},
		}
		pool := api.DefaultPool
		switch i {
		case 3:
			n.Attributes["arch"] = "arm64"
		case 5:
			pool = "gpu"
			n.Devices = []api.Device{{Kind: "gpu", Vendor: "nvidia", Model: "a100", Instances: []string{"gpu0", "gpu1"}}}
		}
		apply(state.RegisterNode{Node: n})
		cordoned := i == 4
		apply(state.UpdateNode{Node: n.ID, Pool: &pool, Labels: map[string]string{"zone": string(rune('a' + i%3))}, Cordoned: &cordoned})
	}
	spec := func(name string, cpu api.MilliCPU, memory api.Bytes) api.ServiceSpec {
		out := api.ServiceSpec{Name: api.ServiceName(name), Priority: 50}
		out.Scale.Ask = api.Amount{CPU: cpu, Memory: memory}
		return out
	}
	web, worker, train := spec("web", 500, 2*api.GiB), spec("worker", 2000, 4*api.GiB), spec("train", 1000, 8*api.GiB)
	web.Constraints = []api.Constraint{{Attribute: "node.arch", Operator: "=", Value: "amd64"}}
	train.Pool, train.Devices = "gpu", []api.DeviceAsk{{Kind: "gpu", Vendor: "nvidia", Count: 1}}
	apply(state.CreateApp{App: api.App{Name: "shop"}})
	apply(state.CreateRelease{Release: api.Release{ID: "R1", App: "shop", Services: []api.ServiceSpec{web, worker, train}}})
	for _, placed := range []struct {
		spec  api.ServiceSpec
		nodes []api.NodeID
	}{{web, []api.NodeID{"n1", "n2", "n3", "n2"}}, {worker, []api.NodeID{"n1", "n4", "n1"}}, {train, []api.NodeID{"n6"}}} {
		g := api.Group{Key: api.ServiceKey{App: "shop", Service: placed.spec.Name}, Release: "R1", Ask: placed.spec.Scale.Ask}
		for i, n := range placed.nodes {
			c := api.Copy{ID: api.ProcessID(fmt.Sprintf("p%s%d", placed.spec.Name, i)), Slot: i + 1, Node: n}
			if n == "n6" {
				c.Grant = &api.Grant{Devices: []string{"gpu0"}}
			}
			g.Copies = append(g.Copies, c)
		}
		apply(state.SetWant{Key: g.Key, Want: []api.Want{{Release: "R1", Count: len(g.Copies)}}})
		apply(state.ApplyPlan{Index: index, Place: []api.Group{g}})
	}
	return s.View()
}

// docAnswer is what a command prints.
func docAnswer(t *testing.T, q *control.Inquiry, words []string) string {
	t.Helper()
	found, rest, err := newShell(nil, nil, nil, nil).root().Find(words)
	if err == nil {
		err = found.ParseFlags(rest)
	}
	if err == nil {
		err = found.ValidateArgs(found.Flags().Args())
	}
	if err != nil {
		t.Fatalf("slipway %q: %v", words, err)
	}
	flags, args := found.Flags(), found.Flags().Args()
	flag := func(name string) string { return flags.Lookup(name).Value.String() }
	number := func(text string) int64 {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			t.Fatalf("slipway %q: %v", words, err)
		}
		return n
	}
	var out bytes.Buffer
	s := newShell(nil, &out, &out, nil)
	r := &pb.WhatIfRequest{App: flag("app")}
	switch found.CommandPath() {
	case "slipway explain":
		e, err := q.Explain(flag("app"), args[0])
		return printed(t, &out, err, s.printExplanation(e))
	case "slipway why-not":
		w, err := q.WhyNot(flag("app"), args[0], args[1])
		return printed(t, &out, err, s.printWhyNot(w))
	case "slipway capacity":
		return printed(t, &out, nil, s.printCapacity(q.Capacity()))
	case "slipway what-if scale":
		counts := map[string]int64{}
		for _, arg := range args {
			name, n, _ := strings.Cut(arg, "=")
			counts[name] = number(n)
		}
		r.Change = &pb.WhatIfRequest_Scale{Scale: &pb.NewScale{Counts: counts}}
	case "slipway what-if node rm":
		r.Change = &pb.WhatIfRequest_RemoveNode{RemoveNode: args[0]}
	case "slipway what-if node drain":
		r.Change = &pb.WhatIfRequest_DrainNode{DrainNode: args[0]}
	case "slipway what-if node add":
		n := api.Node{Capacity: api.Amount{CPU: api.MilliCPU(1000 * number(flag("cpu"))), Memory: api.MiB * api.Bytes(number(flag("memory")))}}
		r.Change = &pb.WhatIfRequest_AddNodes{AddNodes: &pb.NewNodes{Count: int32(number(flag("count"))), Node: pb.Marshal(n)}}
	default:
		t.Fatalf("slipway %q is not known to this test", words)
	}
	w, err := q.WhatIf(r)
	return printed(t, &out, err, s.printWhatIf(w))
}

func printed(t *testing.T, out *bytes.Buffer, errs ...error) string {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
	return out.String()
}

package scheduler

import (
	"fmt"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"slipway/api"
)

// explained is a rack whose numbers can be worked out by hand: 100 nodes in 4 zones, of which a
// quarter has little memory, five are cordoned and ten belong to another pool.
func explained() *rack {
	r := newRack()
	for i := range 100 {
		n := r.node(fmt.Sprintf("n%02d", i), api.Amount{CPU: 4000, Memory: 4 * api.GiB, Disk: 10 * api.GiB})
		n.Labels["zone"] = string(rune('a' + i%4))
		if i%4 == 3 {
			n.Capacity.Memory = api.GiB
		}
		n.Cordoned = i < 5
		if i >= 90 {
			n.Pool = "gpu"
		}
	}
	s := &api.ServiceSpec{Name: "web", Priority: 50}
	s.Scale.Ask = api.Amount{CPU: 1000, Memory: 2 * api.GiB}
	s.Constraints = []api.Constraint{{Attribute: "node.label.zone", Operator: "!=", Value: "c"}}
	r.spec("R1", s)
	r.want("web", api.Want{Release: "R1", Count: 10})
	plan, _ := r.schedule()
	r.apply(plan)
	return r
}

func TestExplain(t *testing.T) {
	r := explained()
	got, err := NewCluster(r).Explain(r, key("web"))
	if err != nil {
		t.Fatal(err)
	}
	// Of the 90 nodes of the pool n00 … n89, 22 are in zone c (n02, n06 … n86); of the other 68,
	// n00, n01, n03 and n04 are cordoned; of the rest, 22-1 in zone d have 1 GiB.
	removed := map[string]int{}
	for _, f := range got.Filters {
		removed[f.Name] += f.Removed
	}
	if want := map[string]int{"pool": 10, "constraint": 22, "status": 4, "memory": 21}; !reflect.DeepEqual(removed, want) {
		t.Errorf("filters %v, want %v\n%+v", removed, want, got.Filters)
	}
	if got.Nodes != 100 || got.Candidates != 100-10-22-4-21 || got.Wanted != 10 || got.Alive != 10 {
		t.Errorf("%+v", got)
	}
	// Two copies fit on each of the 43 nodes by memory, ten run already.
	if got.Fits != 2*43-10 {
		t.Errorf("%d more fit, want %d", got.Fits, 2*43-10)
	}
	for i, s := range got.Top {
		sum := int64(0)
		for _, p := range s.Parts {
			sum += p.Points
		}
		if sum != s.Total || i > 0 && s.Total > got.Top[i-1].Total {
			t.Errorf("score %d of %s is not the sum of its parts or out of order: %+v", s.Total, s.Node, s.Parts)
		}
	}
	// The next copy goes where the explanation says.
	r.want("web", api.Want{Release: "R1", Count: 11})
	if plan, _ := r.schedule(); plan.Place[0].Copies[0].Node != got.Top[0].Node {
		t.Errorf("the next copy goes to %s, explained was %s", plan.Place[0].Copies[0].Node, got.Top[0].Node)
	}
}

func TestWhyNot(t *testing.T) {
	r := explained()
	c := NewCluster(r)
	for node, want := range map[string][]string{
		"n02": {`node.label.zone != c does not hold: it is "c"`, "the node is cordoned"},
		"n07": {"not enough memory: needs 2 GiB, 1 GiB are free (1 GiB short)"},
		"n95": {"the node is not in pool default", "not enough memory: needs 2 GiB, 1 GiB are free (1 GiB short)"},
		"n08": nil,
	} {
		got, err := c.WhyNot(r, key("web"), api.NodeID(node))
		if err != nil {
			t.Fatal(err)
		}
		var texts []string
		for _, s := range got.Reasons {
			texts = append(texts, s.Text)
		}
		if !reflect.DeepEqual(texts, want) || (want == nil) != (got.Score != nil && got.Best != nil) {
			t.Errorf("%s: %q, want %q (score %v)", node, texts, want, got.Score)
		}
	}
	for _, bad := range []struct {
		service, node, says string
	}{{"web", "n8", "did you mean"}, {"nix", "n08", "nothing in force"}} {
		if _, err := c.WhyNot(r, key(bad.service), api.NodeID(bad.node)); err == nil || !strings.Contains(err.Error(), bad.says) {
			t.Errorf("%v: %v", bad, err)
		}
	}
}

func TestHints(t *testing.T) {
	r := explained()
	for attribute, hint := range map[string]string{
		"node.label.zoen": "no node has node.label.zoen, did you mean node.label.zone?",
		"node.arch":       "no node has node.arch",
	} {
		s := &api.ServiceSpec{Name: "odd", Constraints: []api.Constraint{{Attribute: attribute, Operator: "=", Value: "a"}}}
		r.spec("R1", s)
		r.want("odd", api.Want{Release: "R1", Count: 1})
		plan, _ := r.schedule()
		if got := plan.Waiting[key("odd")]; !strings.Contains(got, hint) {
			t.Errorf("%s: %s", attribute, got)
		}
	}
	s := &api.ServiceSpec{Name: "odd", Pool: "gpus"}
	r.spec("R1", s)
	if plan, _ := r.schedule(); !strings.Contains(plan.Waiting[key("odd")], "no node is in pool gpus, did you mean gpu?") {
		t.Errorf("%s", plan.Waiting[key("odd")])
	}
}

func TestDeviceHints(t *testing.T) {
	r := newRack()
	n := r.node("n1", api.Amount{CPU: 4000, Memory: 8 * api.GiB})
	n.Devices = []api.Device{{Kind: "gpu", Vendor: "nvidia", Model: "a100", Instances: []string{"gpu0"}}, {Kind: "coral", Instances: []string{"c0"}}}
	r.node("n2", api.Amount{CPU: 4000, Memory: 8 * api.GiB})
	for _, c := range []struct {
		ask  api.DeviceAsk
		want string
	}{
		{api.DeviceAsk{Kind: "corall", Count: 1}, "2 nodes have no corall (no node has corall, did you mean coral?)"},
		{api.DeviceAsk{Kind: "gpu", Vendor: "nvidea", Count: 1}, "2 nodes have no nvidea gpu (no node has nvidea gpu, did you mean nvidia gpu?)"},
		{api.DeviceAsk{Kind: "fpga", Count: 1}, "2 nodes have no fpga (no node has fpga)"},
		{api.DeviceAsk{Kind: "gpu", Model: "a100", Count: 2}, "1 node has no gpu a100; 1 node has not 2 gpu a100 free"},
	} {
		r.spec("R1", &api.ServiceSpec{Name: "ml", Devices: []api.DeviceAsk{c.ask}})
		r.want("ml", api.Want{Release: "R1", Count: 1})
		plan, _ := r.schedule()
		if got := plan.Waiting[key("ml")]; !strings.HasSuffix(got, c.want) {
			t.Errorf("%v: %s", c.ask, got)
		}
	}
}

// TestFarTooManyCopies: what fits is placed, the rest is one sentence, and it costs nothing to
// find that out again.
func TestFarTooManyCopies(t *testing.T) {
	r := newRack()
	for _, id := range []string{"n1", "n2", "n3"} {
		r.node(id, api.Amount{CPU: 4000, Memory: 8 * api.GiB})
	}
	r.spec("R1", &api.ServiceSpec{Name: "web", Scale: api.Scale{Ask: api.Amount{CPU: 250, Memory: api.GiB}}})
	r.want("web", api.Want{Release: "R1", Count: 1_000_000})
	plan, _ := r.schedule()
	placed := 0
	for _, g := range plan.Place {
		placed += len(g.Copies)
	}
	const says = "999976 waiting: not enough memory on 3 nodes (needs 1 GiB, largest free 0 B)"
	if placed != 24 || !strings.HasSuffix(plan.Waiting[key("web")], says) {
		t.Errorf("placed %d: %s", placed, plan.Waiting[key("web")])
	}
}

func (r *rack) forced() []*api.Service {
	var out []*api.Service
	for _, k := range r.keys() {
		out = append(out, r.services[k])
	}
	return out
}

func TestWhatIf(t *testing.T) {
	r := explained()
	in := Input{Now: r.now, IDs: api.NewIDs(1)}
	ask := func(ch api.Change) api.WhatIf {
		t.Helper()
		w, err := WhatIf(r, r.forced(), ch, in)
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	if w := ask(api.Change{Scale: map[api.ServiceKey]int{key("web"): 86}}); !w.Fits || w.Services[0].Placed != 76 {
		t.Errorf("86 copies fit exactly: %+v", w)
	}
	if w := ask(api.Change{Scale: map[api.ServiceKey]int{key("web"): 90}}); w.Fits || w.Services[0].Missing != 4 || w.Services[0].Waiting == "" {
		t.Errorf("90 copies are 4 too many: %+v", w)
	}
	if w := ask(api.Change{Scale: map[api.ServiceKey]int{key("web"): 3}}); !w.Fits {
		t.Errorf("3 copies fit: %+v", w)
	}
	var busy api.NodeID
	on := 0
	for _, n := range r.nodes {
		copies := 0
		for range r.ProcessesOn(n.ID) {
			copies++
		}
		if copies > on {
			busy, on = n.ID, copies
		}
	}
	for _, ch := range []api.Change{{Remove: busy}, {Drain: busy}} {
		if w := ask(ch); !w.Fits || w.Services[0].Displaced != on || w.Services[0].Placed != on {
			t.Errorf("%+v: %d copies move: %+v", ch, on, w)
		}
	}
	r.want("web", api.Want{Release: "R1", Count: 90})
	plan, _ := r.schedule()
	r.apply(plan)
	r.services[key("web")].Waiting = plan.Waiting[key("web")]
	more := &api.Node{Capacity: api.Amount{CPU: 2000, Memory: 8 * api.GiB}}
	if w := ask(api.Change{Add: more, Nodes: 2}); !w.Fits || w.Services[0].Placed != 4 {
		t.Errorf("two nodes of two copies each are enough: %+v", w)
	}
	if w := ask(api.Change{Add: more}); w.Fits || w.Services[0].Placed != 2 || w.Services[0].Missing != 2 {
		t.Errorf("one node is not enough: %+v", w)
	}
	big := api.ServiceSpec{Name: "big", Priority: 90}
	big.Scale.Count, big.Scale.Ask = 1, api.Amount{CPU: 4000, Memory: 4 * api.GiB}
	big.Constraints = []api.Constraint{{Attribute: "node.label.zone", Operator: "=", Value: "a"}}
	w, err := WhatIf(r, r.forced(), api.Change{App: "other", Deploy: []api.ServiceSpec{big}}, in)
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("%+v", w.Services)
	if w.Fits || !strings.Contains(text, "App:other Service:big Displaced:0 Placed:1") || !strings.Contains(text, "Preempted:2") {
		t.Errorf("two copies make room for an important one: %s", text)
	}
	for _, ch := range []api.Change{{}, {Remove: "n0x"}, {Add: &api.Node{}}, {Scale: map[api.ServiceKey]int{key("web"): -1}}, {Scale: map[api.ServiceKey]int{key("nix"): 1}}} {
		if _, err := WhatIf(r, r.forced(), ch, in); err == nil {
			t.Errorf("%+v is no change", ch)
		}
	}
}

// TestWhatIfTellsTheTruth: what a what-if of a node's end says is what then happens.
func TestWhatIfTellsTheTruth(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := drawRack(t)
		r.settle()
		if len(r.nodes) == 0 {
			return
		}
		n := r.nodes[rapid.IntRange(0, len(r.nodes)-1).Draw(t, "lost")]
		w, err := WhatIf(r, r.forced(), api.Change{Remove: n.ID}, Input{Now: r.now, IDs: api.NewIDs(7)})
		if err != nil {
			t.Fatal(err)
		}
		for p := range r.ProcessesOn(n.ID) {
			p.Observed.State = api.StateLost
		}
		r.nodes = append(r.nodes[:0:0], r.nodes...)
		for i := range r.nodes {
			if r.nodes[i].ID == n.ID {
				r.nodes = append(r.nodes[:i], r.nodes[i+1:]...)
				break
			}
		}
		for _, k := range r.keys() {
			for i, want := range r.services[k].Want {
				if spec, _ := r.Spec(want.Release, k.Service); spec.Agent && len(r.services[k].Want) == 1 {
					r.services[k].Want[i].Count = (&whatIf{o: newOverlay(r)}).suitable(spec)
				}
			}
		}
		r.settle()
		for _, s := range w.Services {
			k := api.ServiceKey{App: s.App, Service: s.Service}
			wanted, alive := 0, 0
			for _, want := range r.services[k].Want {
				wanted += want.Count
			}
			for p := range r.ProcessesOf(k) {
				if p.Live() && p.Desired == api.DesiredRun {
					alive++
				}
			}
			if missing := max(0, wanted-alive); missing != s.Missing {
				t.Fatalf("%s misses %d of %d copies, foretold were %d: %s", k, missing, wanted, s.Missing, s.Waiting)
			}
		}
	})
}

// settle schedules until nothing moves; what is to stop has stopped.
func (r *rack) settle() {
	for range 50 {
		plan, _ := r.schedule()
		if plan.Empty() {
			for k, text := range plan.Waiting {
				r.services[k].Waiting = text
			}
			return
		}
		r.apply(plan)
		for _, p := range r.processes {
			if p.Live() && p.Desired != api.DesiredRun {
				p.Observed.State = api.StateExited
			}
		}
	}
}

func TestCapacity(t *testing.T) {
	r := explained()
	got := Capacity(r)
	if len(got) != 2 || got[0].Pool != "default" || got[1].Pool != "gpu" {
		t.Fatalf("%+v", got)
	}
	d, mem := got[0], api.Bytes(0)
	for i := 5; i < 90; i++ {
		if mem += 4 * api.GiB; i%4 == 3 {
			mem -= 3 * api.GiB
		}
	}
	if d.Nodes != 90 || d.Eligible != 85 || d.Total.CPU != 85*4000 || d.Total.Memory != mem || d.Used.Memory != 20*api.GiB || d.Largest.Memory != 4*api.GiB {
		t.Errorf("%+v", d)
	}
}

// TestAMillionOfThreeNodes: what a service asks for costs what there is room for, and not what it
// asks for.
func TestAMillionOfThreeNodes(t *testing.T) {
	const million = 1_000_000
	r := newRack()
	for i := range 3 {
		r.node(fmt.Sprint("n", i), api.Amount{CPU: 4000, Memory: 8 * api.GiB})
	}
	s := &api.ServiceSpec{Name: "web", Priority: 50, Spreads: []api.Spread{{Attribute: "node.name", Weight: 50}}}
	s.Scale.Ask = api.Amount{CPU: 100, Memory: api.GiB}
	r.spec("R1", s)
	r.want("web", api.Want{Release: "R1", Count: million})
	for _, c := range []struct {
		placed int
		says   string
	}{
		{24, "999976 waiting: not enough memory on 3 nodes (needs 1 GiB, largest free 0 B)"},
		{0, "999976 waiting: not enough memory on 3 nodes (needs 1 GiB, largest free 0 B)"},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		plan, _ := r.schedule()
		runtime.ReadMemStats(&after)
		if took := after.TotalAlloc - before.TotalAlloc; took > 1<<20 {
			t.Errorf("the answer took %d bytes", took)
		}
		if plan.Placed() != c.placed || plan.Waiting[key("web")] != c.says {
			t.Errorf("%d copies are placed, and %q; want %d, and %q", plan.Placed(), plan.Waiting[key("web")], c.placed, c.says)
		}
		r.apply(plan)
	}
	e, err := NewCluster(r).Explain(r, key("web"))
	if err != nil || e.Wanted != million || e.Alive != 24 || e.Fits != 0 || len(e.Filters) != 1 || e.Filters[0].Removed != 3 {
		t.Errorf("explained as %+v (%v)", e, err)
	}
}

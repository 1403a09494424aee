package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"slipway/api"
)

func TestInspectExplain(t *testing.T) {
	p := planRack(t, true)
	if len(p.keys()) != 6 {
		t.Fatalf("services %v", p.keys())
	}
	for _, k := range p.keys() {
		got := ask[api.Explanation](p, 0, "explain", string(k.Service), "-a", string(k.App))
		removed, named, candidates, fits := map[string]int{}, map[api.NodeID]string{}, map[api.NodeID]bool{}, 0
		for n := range p.q.View.Nodes() {
			refused, room := p.truth(k, n, nil)
			if fits += room; len(refused) == 0 {
				candidates[n.ID] = true
				continue
			}
			removed[refused[0].Name]++
			named[n.ID] = refused[0].Name
		}
		filters := map[string]int{}
		for _, f := range got.Filters {
			filters[f.Name] += f.Removed
			for _, n := range f.Nodes {
				if named[n] != f.Name {
					t.Errorf("%s: node %s is removed by %s, not by %s", k, n, named[n], f.Name)
				}
			}
		}
		if !reflect.DeepEqual(filters, removed) {
			t.Errorf("%s: filters %v, want %v", k, filters, removed)
		}
		wanted := 3 // of big, none of which is alive
		if n := p.alive(k); n > 0 {
			wanted = n
		}
		if got.Nodes != 200 || got.Candidates != len(candidates) || got.Fits != fits || got.Alive != p.alive(k) || got.Wanted != wanted {
			t.Errorf("%s: %d nodes, %d candidates, %d fit, %d of %d alive; want 200, %d, %d, %d of %d", k, got.Nodes, got.Candidates,
				got.Fits, got.Alive, got.Wanted, len(candidates), fits, p.alive(k), wanted)
		}
		for i, s := range got.Top {
			sum := int64(0)
			for _, part := range s.Parts {
				sum += part.Points
			}
			if !candidates[s.Node] || sum != s.Total || i > 0 && s.Total > got.Top[i-1].Total {
				t.Errorf("%s: rank %d is %+v", k, i+1, s)
			}
		}
	}
}

func TestInspectWhyNot(t *testing.T) {
	p := planRack(t, false)
	asked := 0
	for _, k := range p.keys() {
		for n := range p.q.View.Nodes() {
			got, err := p.q.WhyNot(string(k.App), string(k.Service), n.Name)
			if err != nil {
				t.Fatal(err)
			}
			want, _ := p.truth(k, n, nil)
			reasons := slices.Clone(got.Reasons)
			for i := range reasons {
				if reasons[i].Text == "" {
					t.Errorf("%s on %s: a reason without a sentence", k, n.ID)
				}
				reasons[i].Text = ""
			}
			if len(reasons)+len(want) > 0 && !reflect.DeepEqual(reasons, want) {
				t.Fatalf("%s on %s: %+v, want %+v", k, n.ID, reasons, want)
			}
			if asked++; asked%100 != 0 {
				continue
			}
			code := map[bool]int{false: 3}[len(want) == 0]
			if doc := ask[api.WhyNot](p, code, "why-not", string(k.Service), string(n.ID), "-a", string(k.App)); !reflect.DeepEqual(doc, got) {
				t.Errorf("%s on %s: the command says %+v, want %+v", k, n.ID, doc, got)
			}
		}
	}
	if asked != 5*200 {
		t.Errorf("%d questions", asked)
	}
}

func TestInspectLosesNodes(t *testing.T) {
	p := planRack(t, false)
	lacking := 0
	for n := range p.q.View.Nodes() {
		displaced, missing := map[api.ServiceKey]int{}, map[api.ServiceKey]int{}
		for x := range p.q.View.ProcessesOn(n.ID) {
			displaced[x.Key()]++
		}
		total := 0
		for k, count := range displaced {
			missing[k] = max(0, count-p.rooms(k, n.ID, nil))
			total += missing[k]
		}
		if total > 0 {
			lacking++
		}
		for _, verb := range []string{"rm", "drain"} {
			if n.ID > "n030" && total == 0 && verb == "rm" && n.ID < "n180" {
				continue // enough of the same
			}
			w := ask[api.WhatIf](p, map[bool]int{false: 3}[total == 0], "what-if", "node", verb, string(n.ID))
			for _, s := range w.Services {
				k := api.ServiceKey{App: s.App, Service: s.Service}
				if s.Displaced != displaced[k] || s.Missing != missing[k] || s.Placed != displaced[k]-missing[k] || len(s.Nodes) != s.Placed || slices.Contains(s.Nodes, n.ID) {
					t.Errorf("%s %s: %+v, want %d displaced, %d missing", verb, n.ID, s, displaced[k], missing[k])
				}
			}
			if len(w.Services) != len(displaced) || w.Fits != (total == 0) {
				t.Errorf("%s %s: fits %v, %d services; want %v, %d", verb, n.ID, w.Fits, len(w.Services), total == 0, len(displaced))
			}
		}
	}
	if lacking < 10 {
		t.Errorf("only %d nodes cannot be spared", lacking)
	}
}

func TestInspectScalesAndDeploys(t *testing.T) {
	p := planRack(t, false)
	for _, k := range p.keys() {
		most := p.alive(k) + p.rooms(k, "", nil)
		for _, extra := range []int{0, 1, 7} {
			w := ask[api.WhatIf](p, map[bool]int{false: 3}[extra == 0], "what-if", "scale", fmt.Sprintf("%s=%d", k.Service, most+extra), "-a", string(k.App))
			if len(w.Services) == 0 && most+extra == p.alive(k) {
				continue // nothing changes
			}
			if len(w.Services) != 1 || w.Services[0].Placed != most-p.alive(k) || w.Services[0].Missing != extra {
				t.Errorf("%s with %d copies: %+v, want %d placed, %d missing", k, most+extra, w, most-p.alive(k), extra)
			}
		}
	}
	// A release with web alone has the room of all that the app has now.
	web := api.ServiceKey{App: "shop", Service: "web"}
	most := p.rooms(web, "", map[api.AppName]bool{"shop": true})
	for _, extra := range []int{0, 3} {
		text := fmt.Sprintf("services: {web: {image: a, constraints: [node.arch = amd64], scale: {count: %d, cpu: 500, memory: 1024}}}", most+extra)
		file := filepath.Join(t.TempDir(), "convox.yml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		w := ask[api.WhatIf](p, map[bool]int{false: 3}[extra == 0], "what-if", "deploy", file, "-a", "shop")
		for _, s := range w.Services {
			if s.Service == "web" && (s.Placed != most || s.Missing != extra) || s.Service != "web" && s.Placed+s.Missing > 0 {
				t.Errorf("deploy of %d: %+v, want %d placed, %d missing", most+extra, s, most, extra)
			}
		}
	}
}

func TestInspectAddsNodes(t *testing.T) {
	p := planRack(t, true)
	for _, c := range []struct{ count, memory, placed int }{{1, 40960, 1}, {2, 65536, 2}, {3, 40959, 0}, {3, 65536, 3}, {1, 122880, 3}} {
		args := []string{"what-if", "node", "add", "--cpu", "8", "--memory", fmt.Sprint(c.memory), "--count", fmt.Sprint(c.count), "--label", "zone=a"}
		w := ask[api.WhatIf](p, map[bool]int{false: 3}[c.placed == 3], args...)
		if len(w.Services) != 1 || w.Services[0].Service != "big" || w.Services[0].Placed != c.placed || w.Services[0].Missing != 3-c.placed {
			t.Errorf("%d nodes with %d MiB: %+v, want %d placed", c.count, c.memory, w, c.placed)
		}
	}
	for _, args := range [][]string{{"--cpu", "8"}, {"--cpu", "8", "--memory", "-1"}, {"--cpu", "9223372036854775807", "--memory", "1024"}, {"--cpu", "8", "--memory", "1024", "--count", "0"}} {
		err := run(t.Context(), append([]string{"inspect", p.file, "what-if", "node", "add"}, args...), nil, &bytes.Buffer{}, &bytes.Buffer{})
		if exitCode(err) != 2 {
			t.Errorf("%q: %v", args, err)
		}
	}
}

func TestInspectCapacity(t *testing.T) {
	p := planRack(t, false)
	want := map[api.PoolName]*api.Capacity{
		"default": {Pool: "default", Strategy: api.BinPack}, "front": {Pool: "front", Strategy: api.EvenOut}, "gpu": {Pool: "gpu", Strategy: api.BinPack},
	}
	for n := range p.q.View.Nodes() {
		c := want[n.Pool]
		c.Nodes++
		if n.Status != api.NodeReady || n.Cordoned || n.Draining {
			continue
		}
		c.Eligible++
		free := n.Capacity.Sub(n.Reserved)
		c.Total, c.Reserved = c.Total.Add(free), c.Reserved.Add(n.Reserved)
		for x := range p.q.View.LiveProcesses() {
			if x.Node == n.ID {
				c.Used, free = c.Used.Add(x.Ask), free.Sub(x.Ask)
			}
		}
		c.Largest.Memory = max(c.Largest.Memory, free.Memory)
	}
	got := ask[[]api.Capacity](p, 0, "capacity")
	if len(got) != 3 || want["default"].Nodes != 140 || want["front"].Nodes != 40 || want["gpu"].Nodes != 20 {
		t.Fatalf("%+v", got)
	}
	for _, c := range got {
		on, ok := p.q.View.Node(c.On)
		if !ok || on.Pool != c.Pool || on.Available().Sub(p.q.View.Used(c.On).Amount) != c.Largest {
			t.Errorf("pool %s: the largest slot %+v is not that of node %s", c.Pool, c.Largest, c.On)
		}
		w := *want[c.Pool]
		w.On, w.Largest.CPU, w.Largest.Disk = c.On, c.Largest.CPU, c.Largest.Disk
		if c != w {
			t.Errorf("pool %s:\n%+v\nwant\n%+v", c.Pool, c, w)
		}
	}
}

// A file that is damaged or something else is refused, and a wrong question says what is wrong.
func TestInspectRefuses(t *testing.T) {
	p := planRack(t, false)
	whole, err := os.ReadFile(p.file)
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{"cut": whole[:len(whole)/2], "empty": nil, "text": []byte("hello\n"), "damaged": append(slices.Clone(whole), make([]byte, 32)...)} {
		file := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := run(t.Context(), []string{"inspect", file, "capacity"}, nil, &bytes.Buffer{}, &bytes.Buffer{}); exitCode(err) != 2 || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, c := range []struct{ args, says string }{
		{"explain wbe -a shop", `did you mean "web"`}, {"explain web -a shpo", `did you mean "shop"`}, {"explain web", "no app is named"},
		{"why-not web n20 -a shop", "did you mean"}, {"what-if node rm n2000", "not found"}, {"what-if scale web -a shop", "SERVICE=COUNT"},
		{"what-if scale web=-1 -a shop", "not within"}, {"what-if scale web=99999999999 -a shop", "not within"}, {"capacity now", "unknown command"},
		{"what-if deploy /nothing -a shop", "no such file"},
	} {
		err := run(t.Context(), append([]string{"inspect", p.file}, strings.Fields(c.args)...), nil, &bytes.Buffer{}, &bytes.Buffer{})
		if err == nil || errors.Is(err, errNoFit) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", c.args, err, c.says)
		}
	}
}

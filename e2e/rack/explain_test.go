package rack

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"slipway/api"
)

// answer runs a command that answers with a document and the given exit code.
func answer[T any](r *rack, want int, args ...string) (v T) {
	r.t.Helper()
	out, code := r.slipway("", append(args, "--json")...)
	if code != want {
		r.t.Fatalf("slipway %q: exit code %d, want %d\n%s", args, code, want, out)
	}
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		r.t.Fatalf("slipway %q: %v\n%s", args, err, out)
	}
	return v
}

// machineMemory is what the kernel says that the machine has.
func machineMemory(t *testing.T) api.Bytes {
	t.Helper()
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		t.Fatal(err)
	}
	var kib api.Bytes
	if _, err := fmt.Sscanf(string(b), "MemTotal: %d kB", &kib); err != nil {
		t.Fatal(err)
	}
	return kib * api.KiB
}

// TestExplanations compares what the rack says of its room with what the machine has, and its
// forecasts with what then happens.
func TestExplanations(t *testing.T) {
	t.Parallel()
	r := start(t)
	var nodes []api.Node
	r.await("node that is ready", 30*time.Second, func() bool {
		nodes = document[[]api.Node](r, "nodes", "--json")
		return len(nodes) == 1 && nodes[0].Status == api.NodeReady
	})
	node := nodes[0]
	if cpu := api.MilliCPU(1000 * runtime.NumCPU()); node.Capacity.CPU != cpu || node.Capacity.Memory > machineMemory(t) ||
		node.Capacity.Memory < machineMemory(t)*9/10 {
		t.Errorf("the node says that it has %+v, the machine has %s and %s", node.Capacity, cpu, machineMemory(t))
	}

	// A copy asks for a fifth of the memory that processes may have, so that five fit.
	available := node.Capacity.Sub(node.Reserved)
	ask := api.Amount{CPU: 20, Memory: available.Memory / 5 / api.MiB * api.MiB}
	r.scale = fmt.Sprintf("      cpu: %d\n      memory: %d\n", ask.CPU, ask.Memory/api.MiB)
	src := r.source("room", 2, "")
	r.must("", "deploy", src, "-a", "room")
	free := available.Sub(ask).Sub(ask)
	fits := int(min(math.MaxInt32, free.Memory/ask.Memory, api.Bytes(free.CPU/ask.CPU)))
	if fits != 3 {
		t.Fatalf("%d copies of %+v fit into %+v", fits, ask, free)
	}

	e := answer[api.Explanation](r, 0, "explain", "web", "-a", "room")
	if e.Ask != ask || e.Fits != fits || e.Nodes != 1 || e.Candidates != 1 || e.Wanted != 2 || e.Alive != 2 || len(e.Filters) != 0 ||
		len(e.Top) != 1 || e.Top[0].Node != node.ID {
		t.Errorf("explain: %+v, want that %d more of %+v fit on %s", e, fits, ask, node.ID)
	}
	c := answer[[]api.Capacity](r, 0, "capacity")
	if len(c) != 1 || c[0].Pool != node.Pool || c[0].Total != available || c[0].Reserved != node.Reserved || c[0].Used != ask.Add(ask) ||
		c[0].Largest != free || c[0].On != node.ID || c[0].Nodes != 1 || c[0].Eligible != 1 {
		t.Errorf("capacity: %+v, want %+v in all and %+v free", c, available, free)
	}
	if w := answer[api.WhyNot](r, 0, "why-not", "web", node.Name, "-a", "room"); len(w.Reasons) != 0 || w.Score == nil {
		t.Errorf("why-not while there is room: %+v", w)
	}
	forecasts(t, r, node, src)

	// What was said to fit fits, and one copy more does not.
	r.must("", "scale", "web=5", "-a", "room")
	if n := len(r.live("room")); n != 5 {
		t.Errorf("%d copies live, 5 were said to fit", n)
	}
	r.must("", "scale", "web=6", "--wait=false", "-a", "room")
	r.await("copy that waits", 20*time.Second, func() bool {
		return strings.Contains(r.must("", "explain", "web", "-a", "room"), "1 waiting: not enough memory")
	})
	if n := len(r.live("room")); n != 5 {
		t.Errorf("%d copies live after a sixth was asked for", n)
	}
	left := free.Memory - 3*ask.Memory
	w := answer[api.WhyNot](r, 3, "why-not", "web", string(node.ID), "-a", "room")
	if len(w.Reasons) != 1 || w.Reasons[0].Name != "memory" || w.Reasons[0].Needs != int64(ask.Memory) || w.Reasons[0].Has != int64(left) {
		t.Errorf("why-not on the full node: %+v, want that %s of %s are missing", w, ask.Memory-left, ask.Memory)
	}
	why := r.must("", "why", string(r.live("room")[0].ID), "-a", "room")
	contains(t, "why of a copy", why, "holds "+ask.CPU.String()+" and "+ask.Memory.String()+" of node "+node.Name, "one more copy would not fit there: not enough memory")
	r.must("", "apps", "delete", "room")
}

// forecasts asks what would follow from changes that nobody makes.
func forecasts(t *testing.T, r *rack, node api.Node, src string) {
	t.Helper()
	for _, c := range []struct {
		code, displaced, placed, missing int
		args                             []string
	}{
		{0, 0, 3, 0, []string{"scale", "web=5", "-a", "room"}},
		{3, 0, 3, 1, []string{"scale", "web=6", "-a", "room"}},
		{3, 0, 3, 15, []string{"scale", "web=20", "-a", "room"}},
		{3, 2, 0, 2, []string{"node", "rm", string(node.ID)}},
		{3, 2, 0, 2, []string{"node", "drain", node.Name}},
		{0, 0, 2, 0, []string{"deploy", src, "-a", "room"}},
	} {
		w := answer[api.WhatIf](r, c.code, append([]string{"what-if"}, c.args...)...)
		if len(w.Services) != 1 || w.Services[0].Displaced != c.displaced || w.Services[0].Placed != c.placed || w.Services[0].Missing != c.missing || w.Fits != (c.missing == 0) {
			t.Errorf("what-if %q: %+v, want %d displaced, %d placed, %d missing", c.args, w, c.displaced, c.placed, c.missing)
		}
	}
	b, err := os.ReadFile(filepath.Join(src, "convox.yml"))
	if err != nil {
		t.Fatal(err)
	}
	larger := filepath.Join(src, "larger.yml")
	writeFile(t, larger, strings.Replace(string(b), "count: 2", "count: 9", 1))
	if w := answer[api.WhatIf](r, 3, "what-if", "deploy", src, "-m", "larger.yml", "-a", "room"); len(w.Services) != 1 || w.Services[0].Placed != 5 || w.Services[0].Missing != 4 {
		t.Errorf("what-if deploy of nine copies: %+v, want 5 placed and 4 missing", w)
	}
	if n := len(r.live("room")); n != 2 {
		t.Errorf("%d copies live after questions only", n)
	}
}

// TestHostPorts leads from ports of the node to a copy, by the manifest alone: they move with a
// deployment, and a second copy is told who has them.
func TestHostPorts(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.scale = "      cpu: 20\n      memory: 64\n"
	port := ports(t, 1)[0]
	src := r.source("ports", 1, fmt.Sprintf("    hostPorts: [{port: 3000, host: %d}, {port: 3001}]\n", port))
	r.must("", "deploy", src, "-a", "ports")
	at := fmt.Sprintf("http://web.localhost:%d/", port)
	contains(t, "the port of the node", fetch(at), "200 one GET")
	r.must("VERSION=two\n", "env", "set", "-a", "ports", "--promote")
	contains(t, "the port of the node after a deployment", fetch(at), "200 two GET")

	name := fmt.Sprintf("host port %d/tcp", port)
	w := answer[api.WhyNot](r, 3, "why-not", "web", string(document[[]api.Node](r, "nodes", "--json")[0].ID), "-a", "ports")
	if len(w.Reasons) != 1 || w.Reasons[0].Name != "port" || !strings.Contains(w.Reasons[0].Text, name) {
		t.Errorf("why-not: %+v, want that %s is taken", w, name)
	}
	if f := answer[api.WhatIf](r, 3, "what-if", "scale", "web=2", "-a", "ports"); len(f.Services) != 1 || f.Services[0].Missing != 1 {
		t.Errorf("what-if: %+v, want one copy too many", f)
	}
	id := string(r.live("ports")[0].ID)
	contains(t, "why", r.must("", "why", id, "-a", "ports"), name)
	chosen := strings.TrimSpace(r.must("", "exec", id, "-a", "ports", "--", "/testapp", "env", "SLIPWAY_HOST_PORT_3001"))
	var number int
	if _, err := fmt.Sscan(chosen, &number); err != nil || number < api.FirstDynamicPort || number > api.LastDynamicPort {
		t.Errorf("the process is told port %q", chosen)
	}
	out, code := r.slipway("", "scale", "web=2", "-a", "ports")
	if code != 3 || !strings.Contains(out, name+" is taken on 1 node") {
		t.Errorf("scale to two: exit code %d\n%s", code, out)
	}
	r.must("", "apps", "delete", "ports")
}

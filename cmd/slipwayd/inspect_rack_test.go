package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"slipway/api"
	"slipway/raftstore/state"
	"slipway/server/control"
)

// planned is a rack that is made by commands alone: 200 nodes in 4 zones and 3 pools, and the
// copies of several services on nodes that the test chooses. No scheduler has a part in it.
type planned struct {
	t     *testing.T
	s     *state.State
	index uint64
	copy  int
	file  string
	q     *control.Inquiry
}

var inspectNow = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

func (p *planned) apply(cmd state.Command) {
	p.t.Helper()
	p.index++
	r := p.s.Apply(p.index, state.Entry{At: inspectNow, Actor: "test", Command: cmd})
	if r.Err != nil || len(r.Dropped) > 0 {
		p.t.Fatalf("%s: %v %q", cmd.Type(), r.Err, r.Dropped)
	}
}

// planRack builds the rack. waits adds a service of which no copy fits anywhere, and leaves a
// GPU free.
func planRack(t *testing.T, waits bool) *planned {
	t.Helper()
	p := &planned{t: t, s: state.New()}
	p.apply(state.ConfigureRack{Rack: state.Rack{Name: "test", Domain: "rack.test", ClusterID: "c1"}})
	for i := range 200 {
		p.node(i)
	}
	p.apply(state.PutPool{Pool: api.Pool{Name: "front", Strategy: api.EvenOut}})
	service := func(name string, cpu api.MilliCPU, memory api.Bytes) api.ServiceSpec {
		s := api.ServiceSpec{Name: api.ServiceName(name), Image: "example/" + name, Priority: 50}
		s.Scale.Ask = api.Amount{CPU: cpu, Memory: memory}
		return s
	}
	web, worker := service("web", 500, api.GiB), service("worker", 2000, 4*api.GiB)
	web.Constraints = []api.Constraint{{Attribute: "node.arch", Operator: "=", Value: "amd64"}}
	worker.Constraints = []api.Constraint{{Attribute: "node.label.zone", Operator: "!=", Value: "d"}, {Operator: api.DistinctHosts}}
	edge, train := service("edge", 250, 256*api.MiB), service("train", 1000, 2*api.GiB)
	edge.Pool, edge.HostPorts = "front", []api.HostPort{{Host: 80, Port: 8080, Protocol: api.TCP}}
	train.Pool, train.Devices = "gpu", []api.DeviceAsk{{Kind: "gpu", Vendor: "nvidia", Count: 2}}
	big := service("big", 1000, 40*api.GiB)
	p.release("shop", "R1", web, worker, edge, train, big)
	p.release("other", "R2", service("batch", 250, 512*api.MiB))

	// Every third node of the default pool has a web, some have more.
	p.place("shop", web, func(i int, n *api.Node) int {
		return map[bool]int{true: 1 + i%2}[i%3 == 0 && n.Eligible() && web.Suits(n)]
	})
	p.place("shop", worker, func(i int, n *api.Node) int {
		return map[bool]int{true: 1}[i%5 == 0 && n.Eligible() && worker.Suits(n)]
	})
	p.place("shop", edge, func(i int, n *api.Node) int {
		return map[bool]int{true: 1}[i%2 == 0 && n.Eligible() && edge.Suits(n)]
	})
	p.place("shop", train, func(i int, n *api.Node) int {
		return map[bool]int{true: 1}[(i != 182 || !waits) && n.Eligible() && train.Suits(n)]
	})
	p.place("other", service("batch", 250, 512*api.MiB), func(i int, n *api.Node) int {
		return map[bool]int{true: map[bool]int{true: 1, false: 7}[i%4 == 3]}[i < 40 && n.Eligible()]
	})
	if waits {
		k := api.ServiceKey{App: "shop", Service: "big"}
		p.apply(state.SetWant{Key: k, Want: []api.Want{{Release: "R1", Count: 3}}})
		p.apply(state.ApplyPlan{Index: p.index, Waiting: map[api.ServiceKey]string{k: "3 waiting: not enough memory"}})
	}
	p.write()
	return p
}

// node registers one node and says what an operator says of it.
func (p *planned) node(i int) {
	n := api.Node{
		ID: api.NodeID(fmt.Sprintf("n%03d", i)), Name: fmt.Sprintf("host%03d", i), Addr: "10.0.0.1", BootID: "1",
		Capacity: api.Amount{CPU: 8000, Memory: 16 * api.GiB, Disk: 100 * api.GiB}, Reserved: api.Amount{CPU: 200, Memory: 512 * api.MiB},
		Attributes: map[string]string{"arch": "amd64", "kernel": "6.1"},
	}
	if i%4 == 3 {
		n.Capacity.Memory = 4 * api.GiB
	}
	if i%10 == 0 {
		n.Attributes["arch"] = "arm64"
	}
	pool := api.DefaultPool
	switch {
	case i >= 180:
		pool = "gpu"
		n.Devices = []api.Device{{Kind: "gpu", Vendor: "nvidia", Model: "a100", Instances: []string{"gpu0", "gpu1"}}}
	case i >= 140:
		pool = "front"
	}
	p.apply(state.RegisterNode{Node: n})
	yes := true
	change := state.UpdateNode{Node: n.ID, Pool: &pool, Labels: map[string]string{"zone": string(rune('a' + i%4))}}
	if i%23 == 5 {
		change.Cordoned = &yes
	}
	if i%41 == 7 {
		change.Draining = &yes
	}
	p.apply(change)
	if i%37 == 11 {
		p.apply(state.SetNodeStatus{Node: n.ID, Status: api.NodeDown, Reason: "silent"})
	}
}

func (p *planned) release(app api.AppName, id api.ReleaseID, specs ...api.ServiceSpec) {
	p.apply(state.CreateApp{App: api.App{Name: app}})
	p.apply(state.CreateRelease{Release: api.Release{ID: id, App: app, Services: specs}})
}

// place puts copies of a service on the nodes that copies counts them for.
func (p *planned) place(app api.AppName, spec api.ServiceSpec, copies func(i int, n *api.Node) int) {
	g := api.Group{Key: api.ServiceKey{App: app, Service: spec.Name}, Release: map[api.AppName]api.ReleaseID{"shop": "R1", "other": "R2"}[app], Ask: spec.Scale.Ask}
	i := 0
	for n := range p.s.View().Nodes() {
		for range copies(i, n) {
			p.copy++
			c := api.Copy{ID: api.ProcessID(fmt.Sprintf("p%d", p.copy)), Slot: len(g.Copies) + 1, Node: n.ID, Cause: "a copy was missing"}
			if len(spec.HostPorts)+len(spec.Devices) > 0 {
				c.Grant = &api.Grant{HostPorts: spec.HostPorts}
				if len(spec.Devices) > 0 {
					c.Grant.Devices = []string{"gpu0", "gpu1"}
				}
			}
			g.Copies = append(g.Copies, c)
		}
		i++
	}
	p.apply(state.SetWant{Key: g.Key, Want: []api.Want{{Release: g.Release, Count: len(g.Copies)}}})
	p.apply(state.ApplyPlan{Index: p.index, Place: []api.Group{g}})
}

// write stores the state in a file and reads it again.
func (p *planned) write() {
	var b bytes.Buffer
	err := p.s.View().Encode(&b)
	p.file = filepath.Join(p.t.TempDir(), "state.bin")
	if err == nil {
		err = os.WriteFile(p.file, b.Bytes(), 0o600)
	}
	if err == nil {
		p.q, err = openSnapshot(p.file)
	}
	if err != nil {
		p.t.Fatal(err)
	}
}

// ask runs the command and returns its document; code is what main would exit with.
func ask[T any](p *planned, wantCode int, args ...string) (doc T) {
	p.t.Helper()
	var out, errs bytes.Buffer
	err := run(p.t.Context(), append([]string{"inspect", p.file}, args...), strings.NewReader(""), &out, &errs)
	code := 0
	if err != nil {
		code = exitCode(err)
	}
	if code != wantCode {
		p.t.Fatalf("inspect %q: exit code %d, want %d: %v\n%s", args, code, wantCode, err, out.String())
	}
	if err := json.Unmarshal(out.Bytes(), &doc); err != nil {
		p.t.Fatalf("inspect %q: %v\n%s", args, err, out.String())
	}
	return doc
}

// truth is what keeps one more copy off a node, worked out from the view alone, in the order in
// which a node is refused, and how many copies it has room for.
func (p *planned) truth(k api.ServiceKey, n *api.Node, without map[api.AppName]bool) (refused []api.Shortcoming, room int) {
	v := p.q.View
	spec, _ := v.Spec(map[api.AppName]api.ReleaseID{"shop": "R1", "other": "R2"}[k.App], k.Service)
	no := func(name string, needs, has int64) {
		refused = append(refused, api.Shortcoming{Name: name, Needs: needs, Has: has})
	}
	pool := spec.Pool
	if pool == "" {
		pool = "default"
	}
	if n.Pool != pool {
		no("pool", 0, 0)
	}
	if k.Service == "web" && n.Attributes["arch"] != "amd64" || k.Service == "worker" && n.Labels["zone"] == "d" {
		no("constraint", 0, 0)
	}
	for _, bad := range []bool{n.Status == api.NodeDown, n.Draining, n.Cordoned} {
		if bad {
			no("status", 0, 0)
		}
	}
	free, own, port, gpus := n.Capacity.Sub(n.Reserved), 0, false, 0
	for _, d := range n.Devices {
		gpus += len(d.Instances)
	}
	for x := range v.LiveProcesses() {
		if x.Node != n.ID || without[x.App] {
			continue
		}
		free = free.Sub(x.Ask)
		if x.Key() == k {
			own++
		}
		if x.Grant != nil {
			port = port || len(x.Grant.HostPorts) > 0
			gpus -= len(x.Grant.Devices)
		}
	}
	ask := spec.Scale.Ask
	if ask.Memory > free.Memory {
		no("memory", int64(ask.Memory), int64(free.Memory))
	}
	if ask.CPU > free.CPU {
		no("cpu", int64(ask.CPU), int64(free.CPU))
	}
	room = int(min(free.Memory/ask.Memory, api.Bytes(free.CPU/ask.CPU)))
	switch k.Service {
	case "edge":
		if room = min(room, 1); port {
			no("port", 0, 0)
		}
	case "train":
		if room = min(room, gpus/2); gpus < 2 {
			no("device", 0, 0)
		}
	case "worker":
		if room = min(room, 1); own > 0 {
			no(api.DistinctHosts, 0, 0)
		}
	}
	if len(refused) > 0 {
		room = 0
	}
	return refused, room
}

// rooms sums up the room of all nodes but one.
func (p *planned) rooms(k api.ServiceKey, but api.NodeID, without map[api.AppName]bool) (sum int) {
	for n := range p.q.View.Nodes() {
		if n.ID != but {
			_, room := p.truth(k, n, without)
			sum += room
		}
	}
	return sum
}

func (p *planned) keys() (keys []api.ServiceKey) {
	for s := range p.q.View.AllServices() {
		keys = append(keys, s.Key)
	}
	return keys
}

func (p *planned) alive(k api.ServiceKey) (n int) {
	for range p.q.View.LiveOf(k) {
		n++
	}
	return n
}

package scheduler

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"slipway/api"
)

// TestTranscripts plays the stories in testdata. Their commands:
//
//	node <id> [cpu= mem= disk= gpu= pool= down cordoned draining label.x= attr.x=]
//	spec <release> <service> [cpu= mem= disk= gpu= agent singleton volume priority= pool=
//	     constraint= affinity= spread=]          (constraint=(attribute,operator,value))
//	want <service> [<release>=<count> …]
//	ready|exit|stopped|lost <service> <release> <slot>…  what the agents report
//	oneoff <id> [release= service= mem=]         a pending process
//	restart <service> · later <duration> · schedule [dry]
func TestTranscripts(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(paths) == 0 {
		t.Fatalf("%d transcripts: %v", len(paths), err)
	}
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) {
			r := newRack()
			datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string { return r.play(t, d) })
		})
	}
}

func (r *rack) play(t *testing.T, d *datadriven.TestData) string {
	var words []string
	opts := map[string][]string{}
	for _, a := range d.CmdArgs {
		if words = append(words, a.Key); a.Vals != nil {
			words = words[:len(words)-1]
		}
		opts[a.Key] = a.Vals
	}
	switch d.Cmd {
	case "node":
		r.playNode(t, words[0], opts)
	case "spec":
		r.spec(words[0], playSpec(t, words[1], d.CmdArgs[2:]))
	case "want":
		var want []api.Want
		for _, a := range d.CmdArgs[1:] {
			want = append(want, api.Want{Release: api.ReleaseID(a.Key), Count: number(t, a.Vals[0])})
		}
		r.want(words[0], want...)
	case "ready", "exit", "stopped", "lost":
		for _, slot := range words[2:] {
			r.report(t, d.Cmd, words[0], words[1], number(t, slot))
		}
	case "oneoff":
		p := &api.Process{ID: api.ProcessID(words[0]), App: "shop", Service: "run", Kind: api.KindRun}
		if opts["release"] != nil {
			p.Release, p.Service = api.ReleaseID(opts["release"][0]), api.ServiceName(opts["service"][0])
		}
		p.Ask.Memory = bytes(t, opts["mem"])
		r.processes = append(r.processes, p)
	case "restart":
		r.services[key(words[0])].RestartAt = r.now
	case "later":
		wait, err := time.ParseDuration(words[0])
		if err != nil {
			t.Fatal(err)
		}
		r.now = r.now.Add(wait)
	case "schedule":
		return r.playSchedule(opts)
	default:
		t.Fatalf("%s: unknown command %q", d.Pos, d.Cmd)
	}
	return ""
}

func (r *rack) playNode(t *testing.T, id string, opts map[string][]string) {
	var n *api.Node
	if at := slices.IndexFunc(r.nodes, func(n *api.Node) bool { return string(n.ID) == id }); at >= 0 {
		n = r.nodes[at]
	} else {
		n = r.node(id, api.Amount{CPU: 4000, Memory: 8 * api.GiB, Disk: 100 * api.GiB})
	}
	n.Status, n.Cordoned, n.Draining = api.NodeReady, false, false
	for k, v := range opts {
		switch k {
		case id:
		case "cpu":
			n.Capacity.CPU = api.MilliCPU(number(t, v[0]))
		case "mem":
			n.Capacity.Memory = bytes(t, v)
		case "disk":
			n.Capacity.Disk = bytes(t, v)
		case "gpu":
			d := api.Device{Kind: "gpu"}
			for i := range number(t, v[0]) {
				d.Instances = append(d.Instances, fmt.Sprint("gpu", i))
			}
			n.Devices = append(n.Devices, d)
		case "pool":
			n.Pool = api.PoolName(v[0])
		case "down":
			n.Status = api.NodeDown
		case "cordoned":
			n.Cordoned = true
		case "draining":
			n.Draining = true
		default:
			if label, ok := strings.CutPrefix(k, "label."); ok {
				n.Labels[label] = v[0]
				continue
			}
			n.Attributes[strings.TrimPrefix(k, "attr.")] = v[0]
		}
	}
}

func playSpec(t *testing.T, name string, args []datadriven.CmdArg) *api.ServiceSpec {
	s := &api.ServiceSpec{Name: api.ServiceName(name), Priority: 50}
	s.Scale.Ask = api.Amount{CPU: 100, Memory: 512 * api.MiB}
	for _, a := range args {
		v := a.Vals
		switch a.Key {
		case "cpu":
			s.Scale.Ask.CPU = api.MilliCPU(number(t, v[0]))
		case "mem":
			s.Scale.Ask.Memory = bytes(t, v)
		case "disk":
			s.Scale.Ask.Disk = bytes(t, v)
		case "gpu":
			s.Devices = append(s.Devices, api.DeviceAsk{Kind: "gpu", Count: number(t, v[0])})
		case "agent":
			s.Agent = true
		case "singleton":
			s.Singleton = true
		case "volume":
			s.Volumes = []api.Volume{{Name: "data", Path: "/data"}}
		case "priority":
			s.Priority = number(t, v[0])
		case "pool":
			s.Pool = api.PoolName(v[0])
		case "constraint":
			s.Constraints = append(s.Constraints, api.Constraint{Attribute: v[0], Operator: v[1], Value: strings.Join(v[2:], ",")})
		case "affinity":
			s.Affinities = append(s.Affinities, api.Affinity{Attribute: v[0], Operator: "=", Value: v[1], Weight: number(t, v[2])})
		case "spread":
			spread := api.Spread{Attribute: v[0], Weight: 100, Targets: map[string]int{}}
			for i := 1; i+1 < len(v); i += 2 {
				spread.Targets[v[i]] = number(t, v[i+1])
			}
			s.Spreads = append(s.Spreads, spread)
		}
	}
	return s
}

// report moves the newest process of a slot.
func (r *rack) report(t *testing.T, what, service, release string, slot int) {
	for _, p := range slices.Backward(r.processes) {
		if p.Service != api.ServiceName(service) || string(p.Release) != release || p.Slot != slot || !p.Live() {
			continue
		}
		o := &p.Observed
		switch what {
		case "ready":
			o.State, o.Started, p.Ready = api.StateRunning, r.now, true
			return
		case "exit":
			o.State, o.ExitCode, o.Message = api.StateExited, 1, "exited with code 1"
			if o.Started.IsZero() {
				o.Started = r.now
			}
		case "stopped":
			o.State = api.StateExited
		case "lost":
			o.State, o.Message = api.StateLost, "node "+string(p.Node)+" is down"
		}
		o.Finished, p.Ready = r.now, false
		return
	}
	t.Fatalf("%s of %s has no live process in slot %d", service, release, slot)
}

// playSchedule prints a plan in the order of the scheduler and applies it.
func (r *rack) playSchedule(opts map[string][]string) string {
	plan, wake := r.schedule()
	var b strings.Builder
	for _, s := range plan.Stop {
		p := r.byID(s.Process)
		fmt.Fprintf(&b, "stop  %s %s.%d on %s: %s\n", p.Service, p.Release, p.Slot, p.Node, hideIDs(s.Reason))
	}
	for _, g := range plan.Place {
		for _, c := range g.Copies {
			fmt.Fprintf(&b, "place %s %s.%d on %s: %s\n", g.Key.Service, g.Release, c.Slot, c.Node, hideIDs(c.Cause))
		}
	}
	for _, a := range plan.Assign {
		fmt.Fprintf(&b, "place %s on %s\n", a.Process, a.Node)
	}
	for _, k := range r.keys() {
		if text := plan.Waiting[k]; text != "" {
			fmt.Fprintf(&b, "%s: %s\n", k.Service, text)
		}
	}
	if !wake.IsZero() {
		fmt.Fprintf(&b, "again in %s\n", wake.Sub(r.now))
	}
	if _, dry := opts["dry"]; !dry {
		r.apply(plan)
	}
	if b.Len() == 0 {
		return "nothing to do"
	}
	return b.String()
}

// hideIDs replaces process IDs, which say nothing to a reader.
func hideIDs(s string) string {
	words := strings.Fields(s)
	for i, w := range words {
		if len(w) == 11 && w[0] == 'p' && strings.ToLower(w) == w {
			words[i] = "p…"
		}
	}
	return strings.Join(words, " ")
}

func number(t *testing.T, s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// bytes reads an amount in MiB.
func bytes(t *testing.T, v []string) api.Bytes {
	if v == nil {
		return 0
	}
	return api.Bytes(number(t, v[0])) * api.MiB
}

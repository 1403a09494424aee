package stepstest

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"slipway/api"
	"slipway/raftstore/state"
)

// app is the one that all stories are about.
const app api.AppName = "shop"

// Play runs one command of a story and returns what happened:
//
//	node <id> …                     machines join
//	release <name> <service>=<count> … [behave=(boot=1s,crash=1s,never,badimage,inflight=5s,fades=3s)]
//	        [bounds=<min>/<max>] [mem=<MiB>] [agent] [singleton]    a service "web" is routed
//	promote <name> · cancel · scale <service>=<n> · restart <service> · stop <service> <slot>
//	down <node> · up <node> · reboot <node> · drain <node> · undrain <node> · elect · delete
//	build                           a build is asked for
//	run <duration>                  time passes
//	show                            what is alive, wanted and routed
func (r *Rack) Play(t *testing.T, d *datadriven.TestData) string {
	r.story.Reset()
	var word string
	if len(d.CmdArgs) > 0 {
		word = d.CmdArgs[0].Key
	}
	switch d.Cmd {
	case "node":
		if _, ok := r.State.View().App(app); !ok {
			r.apply("ann", state.CreateApp{App: api.App{Name: app}})
		}
		for _, a := range d.CmdArgs {
			r.up[api.NodeID(a.Key)] = true
			r.register(api.NodeID(a.Key), "1")
		}
	case "release":
		r.release(t, word, d.CmdArgs[1:])
	case "promote":
		id := r.ids.Deployment()
		r.names[string(id)] = "of " + word
		r.apply("ann", state.CreateDeployment{Deployment: api.Deployment{ID: id, App: app, Release: r.releases[word], Author: "ann"}})
	case "cancel":
		r.apply("ann", state.CancelDeployment{App: app})
	case "delete":
		r.apply("ann", state.DeleteApp{App: app})
	case "scale":
		n := number(t, d.CmdArgs[0].Vals[0])
		r.apply("ann", state.SetScale{Key: key(word), Override: &api.ScaleOverride{Count: &n}})
	case "restart":
		r.apply("ann", state.RestartService{Key: key(word)})
	case "stop":
		for p := range r.State.View().LiveOf(key(word)) {
			if p.Slot == number(t, d.CmdArgs[1].Key) {
				r.apply("ann", state.StopProcess{Process: p.ID, Reason: "stopped by ann"})
			}
		}
	case "build":
		r.apply("ann", state.CreateBuild{Build: api.Build{ID: r.ids.Build(), App: app, Author: "ann"}})
	case "run":
		d, err := time.ParseDuration(word)
		if err != nil {
			t.Fatal(err)
		}
		r.run(d)
	case "show":
		r.show()
	default:
		r.playNode(t, d.Cmd, api.NodeID(word))
	}
	if r.story.Len() == 0 && (d.Cmd == "run" || d.Cmd == "show") {
		return "nothing happens"
	}
	return r.story.String()
}

func (r *Rack) playNode(t *testing.T, cmd string, id api.NodeID) {
	switch cmd {
	case "down":
		r.up[id] = false
	case "up":
		r.up[id] = true
	case "reboot":
		r.up[id] = true
		r.register(id, strconv.FormatUint(r.index, 10))
	case "drain", "undrain":
		drain := cmd == "drain"
		r.apply("ann", state.UpdateNode{Node: id, Draining: &drain})
	case "elect":
		r.leader, r.beats, r.changes = r.now, map[api.NodeID]time.Time{}, state.Everything()
	default:
		t.Fatalf("unknown command %q", cmd)
	}
}

func key(service string) api.ServiceKey {
	return api.ServiceKey{App: app, Service: api.ServiceName(service)}
}

// release stores a release from its description.
func (r *Rack) release(t *testing.T, name string, args []datadriven.CmdArg) {
	id := r.ids.Release()
	r.names[string(id)], r.releases[name] = name, id
	s, minimum, maximum, memory := script{boot: 300 * time.Millisecond}, 50, 200, 128
	base := api.ServiceSpec{}
	var services []api.ServiceSpec
	for _, a := range args {
		switch a.Key {
		case "behave":
			s = behaviour(t, a.Vals)
		case "bounds":
			if _, err := fmt.Sscanf(a.Vals[0], "%d/%d", &minimum, &maximum); err != nil {
				t.Fatal(err)
			}
		case "mem":
			memory = number(t, a.Vals[0])
		case "agent":
			base.Agent = true
		case "singleton":
			base.Singleton = true
		default:
			count := number(t, a.Vals[0])
			services = append(services, api.ServiceSpec{Name: api.ServiceName(a.Key), Scale: api.Scale{Count: count}})
		}
	}
	for i := range services {
		spec := &services[i]
		spec.Agent, spec.Singleton, spec.Minimum, spec.Maximum = base.Agent, base.Singleton, minimum, maximum
		spec.Scale.Ask = api.Amount{CPU: 100, Memory: api.Bytes(memory) * api.MiB}
		spec.Health = api.Health{Path: "/", Grace: 5 * time.Second, Interval: 5 * time.Second, Timeout: 4 * time.Second}
		spec.Drain, spec.Grace = 10*time.Second, 5*time.Second
		if strings.HasPrefix(string(spec.Name), "web") {
			spec.Port = api.Port{Number: 80, Scheme: api.SchemeHTTP}
		}
	}
	r.scripts[id] = s
	r.apply("ann", state.CreateRelease{Release: api.Release{ID: id, App: app, Services: services}})
}

// behaviour reads a script.
func behaviour(t *testing.T, words []string) script {
	s := script{boot: 300 * time.Millisecond}
	for _, w := range words {
		name, value, timed := strings.Cut(w, "=")
		var d time.Duration
		if timed {
			var err error
			if d, err = time.ParseDuration(value); err != nil {
				t.Fatal(err)
			}
		}
		switch name {
		case "boot":
			s.boot = d
		case "crash":
			s.crash = d
		case "inflight":
			s.inFlight = d
		case "fades":
			s.fades = d
		case "never":
			s.never = true
		case "badimage":
			s.badImage = true
		default:
			t.Fatalf("unknown behaviour %q", w)
		}
	}
	return s
}

// show writes what is alive, wanted, routed and proved.
func (r *Rack) show() {
	v := r.State.View()
	for s := range v.Services(app) {
		want := []string{}
		for _, w := range s.Want {
			want = append(want, fmt.Sprintf("%s=%d", r.names[string(w.Release)], w.Count))
		}
		fmt.Fprintf(&r.story, "%s wants %s\n", s.Key.Service, strings.Join(want, " "))
		if s.Waiting != "" {
			fmt.Fprintf(&r.story, "  %s\n", s.Waiting)
		}
	}
	for p := range v.LiveProcesses() {
		ready := ""
		if p.Ready {
			ready = " ready"
		}
		fmt.Fprintf(&r.story, "  %s %s%s\n", r.name(p.ID), p.Observed.State, ready)
	}
	for _, route := range v.Routes(app) {
		fmt.Fprintf(&r.story, "%s → %d targets\n", strings.Join(route.Hosts, " "), len(route.Targets))
	}
	if a, ok := v.App(app); ok {
		if d, ok := v.Deployment(a.Deployment); ok {
			r.showDeployment(d)
		}
	}
}

func (r *Rack) showDeployment(d *api.Deployment) {
	fmt.Fprintf(&r.story, "deployment of %s: %s: %s\n", r.names[string(d.Release)], d.Status, r.rename(d.Cause))
	if f := d.Failure; f != nil {
		fmt.Fprintf(&r.story, "  failure: %s, state %s, exit %d, lines %q\n", f.Service, f.State, f.ExitCode, f.Lines)
	}
	if d.Receipt == nil {
		return
	}
	for _, s := range d.Receipt.Services {
		fmt.Fprintf(&r.story, "  receipt: %s %d/%d ready, %d started, %d stopped, verified %v, took %s\n",
			s.Service, s.Ready, s.Count, len(s.Started), len(s.Stopped), d.Receipt.Verified, d.Receipt.Took)
	}
}

func number(t *testing.T, s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

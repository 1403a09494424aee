package sim

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"slipway/api"
	"slipway/raftstore/state"
)

// Faults are the names of everything that a run can do to a rack.
var Faults = []string{
	"crash", "blackout", "partition", "oneway", "delay", "loss", "duplicate", "skew", "full", "torn",
	"power", "agent", "nodedisk", "slowpull", "badrelease", "flap", "drain",
}

// Config is one run.
type Config struct {
	Seed           uint64
	Servers, Nodes int
	Hours          int // simulated
	Faults         []string
	Trace          bool // keep every decision in the result
}

// Result is what a run came to.
type Result struct {
	Config
	Broken []string // invariants; empty for a good run
	Trace  string   // the last decisions, or all
	Hour   int      // in which it ended
	World  *World
	Series *Series
}

// settleWithin is how long a rack may take to have what is wanted once faults have stopped.
const settleWithin = 20 * time.Minute

// Check reports what is wrong with a configuration.
func (c Config) Check() error {
	switch {
	case c.Servers != 1 && c.Servers != 3 && c.Servers != 5:
		return api.Errorf(api.CodeInvalid, "%d servers are not possible: a rack has 1, 3 or 5", c.Servers)
	case c.Nodes < 1 || c.Nodes > 100_000:
		return api.Errorf(api.CodeInvalid, "%d nodes are not possible: choose 1 to 100000", c.Nodes)
	case c.Hours < 1:
		return api.Errorf(api.CodeInvalid, "%d hours are not possible: choose 1 or more", c.Hours)
	}
	for _, f := range c.Faults {
		if !slices.Contains(Faults, f) {
			return api.Errorf(api.CodeInvalid, "fault %q is not known; there are %s", f, strings.Join(Faults, ", "))
		}
	}
	return nil
}

// run is a run in progress.
type run struct {
	Config
	w      *World
	apps   []api.AppName
	counts []int
}

// Run simulates a rack. Every hour ends with a calm in which it has to converge. Equal
// configurations have equal results.
func Run(cfg Config) Result {
	r := &run{Config: cfg, w: NewCluster(cfg.Seed, cfg.Servers, cfg.Nodes)}
	r.w.series = newSeries(r.w)
	if cfg.Trace {
		r.w.all = &strings.Builder{}
	}
	r.found()
	hour := 0
	for ; hour < cfg.Hours && len(r.w.broken) == 0; hour++ {
		r.w.faulty = len(cfg.Faults) > 0
		end := r.w.Now.Add(50 * time.Minute)
		for r.w.Now.Before(end) && len(r.w.broken) == 0 {
			r.something()
			r.w.Run(time.Duration(1+r.w.pick(60)) * time.Second)
		}
		r.calm()
	}
	res := Result{Config: cfg, Broken: r.w.broken, Trace: r.w.Trace(), Hour: hour, World: r.w, Series: r.w.series}
	if cfg.Trace {
		res.Trace = r.w.all.String()
	}
	return res
}

// found creates the apps: one for each two nodes, at least two.
func (r *run) found() {
	for i := range max(2, min(200, r.Nodes/2)) {
		app := api.AppName(fmt.Sprintf("app%d", i))
		r.apps, r.counts = append(r.apps, app), append(r.counts, 2+i%3)
		r.w.App(app)
		r.w.deploy(app, good, r.spec(i))
	}
}

// good behaves.
var good = Behaviour{Pull: 200 * time.Millisecond, Boot: 300 * time.Millisecond, Linger: 50 * time.Millisecond, Drain: 100 * time.Millisecond}

// spec is the service of an app; some ask for more than a count.
func (r *run) spec(i int) api.ServiceSpec {
	s := Web(r.counts[i], 50, 200)
	switch i % 5 {
	case 1:
		s.Spreads = []api.Spread{{Attribute: "node.label.zone", Weight: 50}}
	case 2:
		s.Priority = 80
	case 3:
		s.Constraints = []api.Constraint{{Attribute: "node.label.zone", Operator: "!=", Value: "z1"}}
	case 4:
		s.HostPorts = []api.HostPort{{Port: 80, Protocol: api.TCP}}
	}
	return s
}

// something happens: a user does something, or a fault.
func (r *run) something() {
	if n := len(r.Faults); n > 0 && r.w.pick(3) > 0 {
		r.fault(r.Faults[r.w.pick(n)])
		return
	}
	i := r.w.pick(len(r.apps))
	key := api.ServiceKey{App: r.apps[i], Service: "web"}
	switch r.w.pick(5) {
	case 0, 1:
		r.w.deploy(r.apps[i], good, r.spec(i))
	case 2:
		count := r.w.pick(6)
		r.w.Submit("ann", state.SetScale{Key: key, Override: &api.ScaleOverride{Count: &count}}, nil)
	case 3:
		r.w.Submit("ann", state.RestartService{Key: key}, nil)
	case 4:
		r.w.Submit("ann", state.CancelDeployment{App: r.apps[i]}, nil)
	}
}

// fault does one thing to the rack.
func (r *run) fault(name string) {
	w, s, n := r.w, r.w.servers[r.w.pick(r.Servers)], r.w.nodes[r.w.pick(r.Nodes)]
	w.Injected[name]++
	switch name {
	case "crash":
		if s.up {
			s.crash()
		} else {
			s.restart()
		}
	case "blackout":
		if w.pick(10) == 0 {
			r.blackout()
		}
	case "partition":
		w.Heal()
		if ends := []string{s.name, string(n.id)}; w.pick(3) > 0 {
			w.note("%s is cut off", ends[w.pick(2)])
			w.Isolate(ends[w.pick(2)])
		}
	case "oneway":
		o := w.servers[w.pick(r.Servers)]
		w.Cut(s.name, o.name)
		w.Cut(string(n.id), s.name)
	case "delay":
		w.net.Delay = time.Duration(1+w.pick(400)) * time.Millisecond
	case "loss":
		w.net.Loss = w.pick(100)
	case "duplicate":
		w.net.Duplicate = w.pick(200)
	case "skew":
		s.skew = time.Duration(w.pick(2000)-1000) * time.Millisecond
		n.skew = time.Duration(w.pick(2000)-1000) * time.Millisecond
	case "full":
		s.disk.Full = !s.disk.Full
	case "torn":
		w.torn = !w.torn
	default:
		r.nodeFault(name, n)
	}
}

// nodeFault does one thing to a node or to what runs there.
func (r *run) nodeFault(name string, n *node) {
	w, i := r.w, r.w.pick(len(r.apps))
	switch name {
	case "power":
		if n.up {
			n.kill()
		} else {
			n.reboot()
		}
	case "agent":
		if n.up {
			n.restartAgent()
		}
	case "nodedisk":
		n.full = !n.full
	case "slowpull":
		b := good
		b.Pull = time.Duration(w.pick(20_000)) * time.Millisecond
		w.deploy(r.apps[i], b, r.spec(i))
	case "badrelease":
		bad := []Behaviour{
			{Boot: time.Second, Crash: 200 * time.Millisecond, Linger: time.Millisecond}, {Never: true, Linger: time.Second},
			{Boot: 300 * time.Millisecond, Fade: 3 * time.Second, Linger: time.Millisecond},
			{BadName: true}, {Boot: 20 * time.Second, Linger: 20 * time.Second, Drain: 40 * time.Second},
		}
		w.deploy(r.apps[i], bad[w.pick(len(bad))], r.spec(i))
	case "flap":
		b := good
		b.Flap = time.Duration(5+w.pick(60)) * time.Second
		w.deploy(r.apps[i], b, r.spec(i))
	case "drain":
		v, ok := w.State.View().Node(n.id)
		drain := ok && !v.Draining
		w.Submit("ann", state.UpdateNode{Node: n.id, Draining: &drain}, nil)
	}
}

// blackout takes all power, and gives it back in any order.
func (r *run) blackout() {
	r.w.note("everything loses power")
	for _, s := range r.w.servers {
		s.crash()
	}
	for _, n := range r.w.nodes {
		if n.up {
			n.kill()
		}
	}
	for _, s := range r.w.servers {
		r.w.after(time.Duration(1+r.w.pick(60))*time.Second, s.restart)
	}
	for _, n := range r.w.nodes {
		r.w.after(time.Duration(1+r.w.pick(60))*time.Second, func() {
			if !n.up {
				n.reboot()
			}
		})
	}
}

// calm ends all faults, promotes good releases, and demands that the rack converges.
func (r *run) calm() {
	w := r.w
	w.note("calm")
	w.Heal()
	w.net.Delay, w.net.Loss, w.net.Duplicate, w.torn = 2*time.Millisecond, 0, 0, false
	for _, s := range w.servers {
		s.disk.Full, s.skew = false, 0
		s.restart()
	}
	for _, n := range w.nodes {
		n.skew, n.full = 0, false
		if !n.up {
			n.reboot()
		}
	}
	// What users asked for in the storm comes first, or it would come last.
	if !w.RunUntil(settleWithin, func(*state.View) bool { return w.open == 0 }) && len(w.broken) == 0 {
		w.fail("%d requests are not answered within %s of calm", w.open, settleWithin)
	}
	for _, n := range w.nodes {
		drain := false
		w.Submit("ann", state.UpdateNode{Node: n.id, Draining: &drain}, nil)
	}
	w.Run(10 * time.Second)
	for i, a := range r.apps {
		w.Submit("ann", state.SetScale{Key: api.ServiceKey{App: a, Service: "web"}}, nil)
		w.deploy(a, good, r.spec(i))
	}
	if !w.RunUntil(settleWithin, Converged) && len(w.broken) == 0 {
		w.fail("no convergence within %s of calm: %s", settleWithin, r.unsettled())
	}
	w.Run(30 * time.Second)
	if len(w.broken) == 0 {
		w.Settled()
	}
	for n := range w.State.View().Nodes() {
		if n.Status != api.NodeReady && len(w.broken) == 0 {
			w.fail("node %s is %s although nothing is wrong with it", n.ID, n.Status)
		}
	}
}

// unsettled says what keeps the rack from being as it should.
func (r *run) unsettled() string {
	var out []string
	v := r.w.State.View()
	for _, a := range r.apps {
		app, ok := v.App(a)
		if !ok {
			out = append(out, fmt.Sprintf("%s does not exist", a))
			continue
		}
		d, _ := v.Deployment(app.Deployment)
		svc, _ := v.Service(api.ServiceKey{App: a, Service: "web"})
		if d == nil || d.Status != api.DeploySucceeded || svc == nil || svc.Waiting != "" {
			out = append(out, fmt.Sprintf("%s: deployment %+v, service %+v", a, d, svc))
		}
	}
	return strings.Join(out[:min(3, len(out))], "\n")
}

// deploy submits a release and its promotion and does not wait for them.
func (w *World) deploy(app api.AppName, b Behaviour, spec api.ServiceSpec) {
	id := w.rand.Release()
	w.apps[id] = b
	w.Submit("ann", state.CreateRelease{Release: api.Release{ID: id, App: app, Services: []api.ServiceSpec{spec}}}, func(state.Result) {
		w.Submit("ann", state.CreateDeployment{Deployment: api.Deployment{ID: w.rand.Deployment(), App: app, Release: id, Author: "ann"}}, nil)
	})
}

// Text is the summary of a run: the same for the same configuration.
func (r Result) Text() string {
	w := r.World
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d: %d servers, %d nodes, %d of %d hours\n", r.Seed, r.Servers, r.Nodes, r.Hour, r.Hours)
	fmt.Fprintf(&b, "events %d, messages %d, passes of leaders %d, commits %d, terms with a leader %d\n", w.Events, w.Messages, w.Passes, w.Commits, len(w.leaders))
	fmt.Fprintf(&b, "invariants checked after %d commits, faults:", w.Checks)
	for _, f := range Faults {
		if n := w.Injected[f]; n > 0 {
			fmt.Fprintf(&b, " %s %d", f, n)
		}
	}
	b.WriteString("\n" + r.Series.Text())
	for _, broken := range r.Broken {
		fmt.Fprintf(&b, "BROKEN: %s\n", broken)
	}
	if len(r.Broken) == 0 {
		b.WriteString("every invariant held\n")
	}
	return b.String()
}

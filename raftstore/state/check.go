package state

import (
	"fmt"

	"slipway/api"
)

// Check returns every broken invariant of the view, a sentence each. It is what tests, the
// simulator and chaos runs share; it reads everything.
func (v *View) Check() []string {
	c := &checker{v: v, used: map[api.NodeID]api.Usage{}, slots: map[slotKey]api.ProcessID{}, tallied: map[string]int{}}
	for p := range v.Processes() {
		c.process(p)
		c.listed(p)
	}
	c.indexes()
	c.nodes()
	c.apps()
	return c.broken
}

// checker is a check in progress.
type checker struct {
	v       *View
	broken  []string
	used    map[api.NodeID]api.Usage
	slots   map[slotKey]api.ProcessID
	tallied map[string]int
	members int // of the rosters beside that of all
}

// slotKey is a place that one copy may have.
type slotKey struct {
	key     api.ServiceKey
	release api.ReleaseID
	slot    int
}

func (c *checker) say(format string, args ...any) {
	c.broken = append(c.broken, fmt.Sprintf(format, args...))
}

func (c *checker) process(p *api.Process) {
	if p.Observed.State < 0 || p.Observed.State > api.StateLost {
		c.say("process %s has state %d", p.ID, int(p.Observed.State))
	}
	if !p.Live() || p.Node == "" {
		return
	}
	if collision := c.used[p.Node].Collides(p.Grant); collision != "" {
		c.say("%s of node %s is held twice, by %s as well", collision, p.Node, p.ID)
	}
	c.used[p.Node] = c.used[p.Node].Add(p.Ask, p.Grant)
	if p.Kind != api.KindService || p.Desired != api.DesiredRun {
		return
	}
	k := slotKey{p.Key(), p.Release, p.Slot}
	if other, taken := c.slots[k]; taken {
		c.say("slot %d of %s in release %s is held by %s and %s", p.Slot, p.Key(), p.Release, other, p.ID)
	}
	c.slots[k] = p.ID
	key := tallyKey(k.key, k.release)
	if c.tallied[key]++; !c.v.tallyOf(key).has(p.Slot) {
		c.say("slot %d of %s in release %s is taken, the tally has it free", p.Slot, k.key, k.release)
	}
}

// listed compares where a process stands with where it belongs.
func (c *checker) listed(p *api.Process) {
	of, _ := c.v.processesOf.get(p.Key().String())
	on, _ := c.v.used.get(string(p.Node))
	for _, in := range []struct {
		name   string
		roster *roster
		member bool
	}{
		{"its service", of, true},
		{"node " + string(p.Node), on.processes(), p.Live() && p.Node != ""},
		{"those that wait", c.v.pending, p.Live() && p.Node == ""},
	} {
		var q *api.Process
		if in.roster != nil {
			q, _ = in.roster.get(p.ID)
		}
		if (q == p) != in.member || q != nil && q != p {
			c.say("process %s: the roster of %s has %v of it", p.ID, in.name, q)
		}
		if in.member {
			c.members++
		}
	}
}

// indexes compares what is derived with what it is derived from.
func (c *checker) indexes() {
	for key, t := range c.v.tallies.all("") {
		if t.count != c.tallied[key] {
			c.say("%q: %d copies are alive, the tally has %d", key, c.tallied[key], t.count)
		}
	}
	c.members -= c.v.pending.count
	for r := range values(c.v.processesOf, "") {
		c.members -= r.count
	}
	for u := range values(c.v.used, "") {
		c.members -= u.live.count
	}
	if c.members != 0 {
		c.say("the rosters of services, nodes and waiting processes are wrong by %d", c.members)
	}
	waiting := 0
	for s := range c.v.AllServices() {
		if s.Waiting != "" {
			waiting++
		}
	}
	for range c.v.WaitingServices() {
		waiting--
	}
	if waiting != 0 {
		c.say("the index of waiting services is wrong by %d", waiting)
	}
}

func (c *checker) nodes() {
	for n := range c.v.Nodes() {
		if u := c.v.Used(n.ID); !u.Same(c.used[n.ID]) {
			c.say("node %s: %v reserved, the index has %v", n.ID, c.used[n.ID], u)
		}
		if n.Status == api.NodeReady && !c.used[n.ID].Amount.Fits(n.Available()) {
			c.say("node %s is over capacity: %v of %v", n.ID, c.used[n.ID], n.Available())
		}
	}
}

func (c *checker) apps() {
	for a := range c.v.Apps() {
		for _, r := range c.v.Routes(a.Name) {
			for _, t := range r.Targets {
				if _, ok := c.v.Process(t.Process); !ok {
					c.say("route %s leads to process %s, which is gone", r.Key, t.Process)
				}
			}
		}
		for d := range c.v.Deployments(a.Name) {
			if d.Status == api.DeploySucceeded && (d.Receipt == nil || !d.Receipt.Verified) {
				c.say("deployment %s succeeded without a verified receipt", d.ID)
			}
		}
	}
}

package state

import (
	"fmt"

	"slipway/api"
)

// Check returns every broken invariant of the view, a sentence each. It is what tests, the
// simulator and chaos runs share; it reads everything.
func (v *View) Check() []string {
	var broken []string
	say := func(format string, args ...any) { broken = append(broken, fmt.Sprintf(format, args...)) }
	used := map[api.NodeID]api.Usage{}
	type slot struct {
		key     api.ServiceKey
		release api.ReleaseID
		slot    int
	}
	slots := map[slot]api.ProcessID{}
	tallied := map[string]int{}
	for p := range v.Processes() {
		if p.Observed.State < 0 || p.Observed.State > api.StateLost {
			say("process %s has state %d", p.ID, int(p.Observed.State))
		}
		if !p.Live() {
			continue
		}
		if p.Node == "" {
			continue
		}
		if c := used[p.Node].Collides(p.Grant); c != "" {
			say("%s of node %s is held twice, by %s as well", c, p.Node, p.ID)
		}
		used[p.Node] = used[p.Node].Add(p.Ask, p.Grant)
		if p.Kind != api.KindService || p.Desired != api.DesiredRun {
			continue
		}
		k := slot{p.Key(), p.Release, p.Slot}
		if other, taken := slots[k]; taken {
			say("slot %d of %s in release %s is held by %s and %s", p.Slot, p.Key(), p.Release, other, p.ID)
		}
		slots[k] = p.ID
		key := tallyKey(k.key, k.release)
		if tallied[key]++; !v.tallyOf(key).has(p.Slot) {
			say("slot %d of %s in release %s is taken, the tally has it free", p.Slot, k.key, k.release)
		}
	}
	for key, t := range v.tallies.all("") {
		if t.count != tallied[key] {
			say("%q: %d copies are alive, the tally has %d", key, tallied[key], t.count)
		}
	}
	waiting := 0
	for s := range v.AllServices() {
		if s.Waiting != "" {
			waiting++
		}
	}
	for range v.WaitingServices() {
		waiting--
	}
	if waiting != 0 {
		say("the index of waiting services is wrong by %d", waiting)
	}
	for n := range v.Nodes() {
		if u := v.Used(n.ID); !u.Same(used[n.ID]) {
			say("node %s: %v reserved, the index has %v", n.ID, used[n.ID], u)
		}
		if n.Status == api.NodeReady && !used[n.ID].Amount.Fits(n.Available()) {
			say("node %s is over capacity: %v of %v", n.ID, used[n.ID], n.Available())
		}
	}
	for a := range v.Apps() {
		for _, r := range v.Routes(a.Name) {
			for _, t := range r.Targets {
				if _, ok := v.Process(t.Process); !ok {
					say("route %s leads to process %s, which is gone", r.Key, t.Process)
				}
			}
		}
	}
	for a := range v.Apps() {
		for d := range v.Deployments(a.Name) {
			if d.Status == api.DeploySucceeded && (d.Receipt == nil || !d.Receipt.Verified) {
				say("deployment %s succeeded without a verified receipt", d.ID)
			}
		}
	}
	return broken
}

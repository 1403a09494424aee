package drain

import (
	"cmp"
	"slices"
	"time"

	"slipway/api"
	"slipway/raftstore/state"
	"slipway/server/steps"
)

// Step takes copies out of service on the nodes that drain, service by service. Where every
// copy has to stay ready, one leaves at a time: nothing else would ever move it.
func Step(v *state.View, _ state.Changes, _ steps.Input) (cmds []state.Command, wake time.Time) {
	draining := map[api.NodeID]string{}
	services := map[api.ServiceKey]bool{}
	for n := range v.Nodes() {
		if !n.Draining {
			continue
		}
		draining[n.ID] = n.Name
		for p := range v.ProcessesOn(n.ID) {
			if p.Kind == api.KindService && p.Desired == api.DesiredRun {
				services[p.Key()] = true
			}
		}
	}
	for _, k := range sorted(services) {
		for _, p := range leaving(v, k, draining) {
			cmds = append(cmds, state.StopProcess{Process: p.ID, Reason: "node " + draining[p.Node] + " is draining"})
		}
	}
	return cmds, time.Time{}
}

func sorted(services map[api.ServiceKey]bool) []api.ServiceKey {
	var keys []api.ServiceKey
	for k := range services {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b api.ServiceKey) int { return cmp.Compare(a.String(), b.String()) })
	return keys
}

// leaving picks the copies of a service that may leave now: those that do not serve at once,
// of the others as many as the minimum leaves. A copy that has left and whose replacement is
// not ready yet counts as missing.
func leaving(v *state.View, k api.ServiceKey, draining map[api.NodeID]string) []*api.Process {
	svc, ok := v.Service(k)
	if !ok || len(svc.Want) == 0 {
		return nil
	}
	spec, ok := v.Spec(svc.Want[0].Release, k.Service)
	if !ok {
		return nil
	}
	wanted, ready := 0, 0
	for _, w := range svc.Want {
		wanted += w.Count
	}
	var idle, serving []*api.Process
	for p := range v.LiveOf(k) {
		_, leaves := draining[p.Node]
		switch {
		case p.Kind != api.KindService || p.Desired != api.DesiredRun:
		case leaves && !p.Ready:
			idle = append(idle, p)
		case p.Ready:
			ready++
			if leaves {
				serving = append(serving, p)
			}
		}
	}
	missing := wanted * (100 - spec.Minimum) / 100
	if spec.Singleton || spec.Agent {
		missing = wanted
	}
	budget := ready - (wanted - max(1, missing))
	return append(idle, serving[:max(0, min(budget, len(serving)))]...)
}

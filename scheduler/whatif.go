package scheduler

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"slipway/api"
)

// roundsMax bounds how often copies that make room for others look for a place themselves.
const roundsMax = 100

// whatIf is one question being answered.
type whatIf struct {
	o       *overlay
	in      Input
	keys    map[api.ServiceKey]bool // services that are looked at
	results map[api.ServiceKey]*api.WhatIfService
}

// WhatIf makes a change on a copy of the state and schedules until nothing moves any more: what
// is asked to stop has stopped, what is placed runs. services are all services in force.
func WhatIf(s State, services []*api.Service, ch api.Change, in Input) (api.WhatIf, error) {
	w := &whatIf{o: newOverlay(s), in: in, keys: map[api.ServiceKey]bool{}, results: map[api.ServiceKey]*api.WhatIfService{}}
	text, err := w.change(services, ch)
	if err != nil {
		return api.WhatIf{}, err
	}
	for _, svc := range services {
		if svc.Waiting != "" {
			w.keys[svc.Key] = true // what changes may be what it waits for
		}
		if len(svc.Want) == 1 && w.o.services[svc.Key] == nil {
			if spec, ok := s.Spec(svc.Want[0].Release, svc.Key.Service); ok && spec.Agent {
				w.want(svc.Key, svc.Want[0].Release, w.suitable(spec))
			}
		}
	}
	w.settle()
	out := api.WhatIf{Change: text, Fits: true, Services: []api.WhatIfService{}}
	for _, k := range slices.SortedFunc(maps.Keys(w.keys), byName) {
		r := w.result(k)
		r.Missing = w.missing(k)
		out.Fits = out.Fits && r.Missing == 0
		if r.Displaced+r.Placed+r.Preempted+r.Missing > 0 {
			slices.Sort(r.Nodes)
			out.Services = append(out.Services, *r)
		}
	}
	return out, nil
}

func byName(a, b api.ServiceKey) int { return cmp.Compare(a.String(), b.String()) }

func (w *whatIf) result(k api.ServiceKey) *api.WhatIfService {
	r := w.results[k]
	if r == nil {
		r = &api.WhatIfService{App: k.App, Service: k.Service}
		w.results[k] = r
	}
	return r
}

// change makes the change and says it.
func (w *whatIf) change(services []*api.Service, ch api.Change) (string, error) {
	switch {
	case ch.Remove != "" || ch.Drain != "":
		return w.lose(cmp.Or(ch.Remove, ch.Drain), ch.Remove != "")
	case ch.Add != nil:
		return w.add(ch.Add, max(1, ch.Nodes))
	case ch.Deploy != nil:
		return w.deploy(services, ch.App, ch.Deploy)
	case len(ch.Scale) > 0:
		return w.scale(ch.Scale)
	}
	return "", api.Errorf(api.CodeInvalid, "nothing to change: name a node, a scale or a manifest")
}

// lose takes a node away, or drains it.
func (w *whatIf) lose(id api.NodeID, remove bool) (string, error) {
	n, ok := w.o.Node(id)
	if !ok {
		var known []string
		for n := range w.o.Nodes() {
			known = append(known, string(n.ID))
		}
		return "", api.NotFound("node", string(id), known)
	}
	text, state := "node %s is drained", api.StateExited
	next := *n
	next.Draining = true
	w.o.nodes[id] = &next
	if remove {
		text, state = "node %s is removed", api.StateLost
		w.o.nodes[id] = nil
	}
	for p := range w.o.State.ProcessesOn(id) {
		w.o.end(p, state, api.DesiredStop, "its node goes")
		if p.Kind == api.KindService {
			w.keys[p.Key()] = true
			w.result(p.Key()).Displaced++
		}
	}
	return fmt.Sprintf(text, id), nil
}

// add adds nodes that do not exist yet.
func (w *whatIf) add(like *api.Node, count int) (string, error) {
	if like.Capacity.CPU <= 0 || like.Capacity.Memory <= 0 {
		return "", api.Errorf(api.CodeInvalid, "a new node needs cpu and memory above 0, not %s and %s", like.Capacity.CPU, like.Capacity.Memory)
	}
	for i := range count {
		n := *like
		n.ID = api.NodeID(fmt.Sprintf("(new %d)", i+1))
		n.Name, n.Pool, n.Status = string(n.ID), cmp.Or(n.Pool, api.DefaultPool), api.NodeReady
		w.o.addNode(&n)
	}
	return fmt.Sprintf("%s pool %s, with %s and %s", amount(count, "node joins", "nodes join"), cmp.Or(like.Pool, api.DefaultPool), like.Capacity.CPU, like.Capacity.Memory), nil
}

// scale changes how many copies services want of their newest release, and of nothing else.
func (w *whatIf) scale(counts map[api.ServiceKey]int) (string, error) {
	text := ""
	for _, k := range slices.SortedFunc(maps.Keys(counts), byName) {
		svc, ok := w.o.Service(k)
		switch {
		case !ok || len(svc.Want) == 0:
			return "", api.Errorf(api.CodeNotFound, "service %s has nothing in force; promote a release of app %s first", k, k.App)
		case counts[k] < 0:
			return "", api.Errorf(api.CodeInvalid, "service %s cannot have %d copies", k, counts[k])
		}
		w.want(k, svc.Want[0].Release, counts[k])
		text += fmt.Sprintf(", %s has %s", k, amount(counts[k], "copy", "copies"))
	}
	return text[2:], nil
}

// want replaces what a service wants.
func (w *whatIf) want(k api.ServiceKey, release api.ReleaseID, count int) {
	next := api.Service{Key: k}
	if svc, ok := w.o.Service(k); ok {
		next = *svc
	}
	next.Want = []api.Want{{Release: release, Count: count}}
	w.o.services[k], w.keys[k] = &next, true
}

// deploy promotes services that do not exist yet, all copies at once.
func (w *whatIf) deploy(services []*api.Service, app api.AppName, specs []api.ServiceSpec) (string, error) {
	for i := range specs {
		spec := &specs[i]
		k := api.ServiceKey{App: app, Service: spec.Name}
		w.o.specs[k] = spec
		count := spec.Scale.Count
		if spec.Agent {
			count = w.suitable(spec)
		}
		w.want(k, hypothetical, count)
	}
	for _, svc := range services {
		if _, stays := w.o.specs[svc.Key]; svc.Key.App == app && !stays {
			w.want(svc.Key, hypothetical, 0)
		}
	}
	return fmt.Sprintf("a release with %s of app %s is promoted", amount(len(specs), "service", "services"), app), nil
}

// amount is a count with its noun.
func amount(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// suitable counts the nodes that would have a copy of a service with one per node.
func (w *whatIf) suitable(spec *api.ServiceSpec) int {
	count := 0
	for n := range w.o.Nodes() {
		if n.Eligible() && spec.Suits(n) {
			count++
		}
	}
	return count
}

// settle schedules until nothing moves.
func (w *whatIf) settle() {
	c := NewCluster(w.o)
	for range roundsMax {
		plan, _ := c.Schedule(w.o, slices.SortedFunc(maps.Keys(w.keys), byName), nil, w.in)
		for k, sentence := range plan.Waiting {
			w.result(k).Waiting = sentence
		}
		if plan.Empty() {
			return
		}
		c.Update(w.o, w.apply(plan))
	}
}

// apply makes a plan come true and returns the nodes that it touches.
func (w *whatIf) apply(plan api.Plan) []api.NodeID {
	var touched []api.NodeID
	for _, s := range plan.Stop {
		p, ok := w.o.Process(s.Process)
		if !ok {
			continue
		}
		w.o.end(p, api.StateExited, api.DesiredStop, s.Reason)
		touched = append(touched, p.Node)
		if strings.HasPrefix(s.Reason, makesRoom) {
			w.keys[p.Key()] = true
			w.result(p.Key()).Preempted++
		}
	}
	for i := range plan.Place {
		g := &plan.Place[i]
		r := w.result(g.Key)
		for j := range g.Copies {
			w.o.place(g, &g.Copies[j])
			r.Placed++
			r.Nodes = append(r.Nodes, g.Copies[j].Node)
			touched = append(touched, g.Copies[j].Node)
		}
	}
	return touched
}

// missing counts the copies that a service wants and has not.
func (w *whatIf) missing(k api.ServiceKey) int {
	svc, ok := w.o.Service(k)
	if !ok {
		return 0
	}
	n := 0
	for _, want := range svc.Want {
		n += want.Count
	}
	for p := range w.o.ProcessesOf(k) {
		if p.Kind == api.KindService && p.Live() && p.Desired == api.DesiredRun {
			n--
		}
	}
	return max(0, n)
}

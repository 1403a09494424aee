package scheduler

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"slipway/api"
)

// The bounds of an explanation: nodes named per filter and candidates shown.
const (
	examplesMax = 5
	topMax      = 10
)

// asked is a service with what a search for it needs.
type asked struct {
	svc     *api.Service
	spec    *api.ServiceSpec
	release api.ReleaseID
	wanted  int
	d       *diff
	q       *request
	sh      *shape
}

// ask looks a service up as a search for one more copy of its newest release would.
func (c *Cluster) ask(s State, key api.ServiceKey) (*asked, error) {
	svc, ok := s.Service(key)
	if !ok || len(svc.Want) == 0 {
		return nil, api.Errorf(api.CodeNotFound, "service %s has nothing in force; promote a release of app %s first", key, key.App)
	}
	a := &asked{svc: svc, release: svc.Want[0].Release}
	if a.spec, ok = s.Spec(a.release, key.Service); !ok {
		return nil, api.Errorf(api.CodeNotFound, "release %s does not have the service %s", a.release, key.Service)
	}
	for _, w := range svc.Want {
		a.wanted += w.Count
	}
	c.reread(s)
	a.d = compare(s, svc, nil)
	a.q = a.d.request(s, a.spec, a.release)
	a.sh = c.shapeOf(s, a.spec, a.q.ask)
	return a, nil
}

// Explain says where copies of a service can go and why not elsewhere, by the same tables that
// Schedule decides with.
func (c *Cluster) Explain(s State, key api.ServiceKey) (api.Explanation, error) {
	a, err := c.ask(s, key)
	if err != nil {
		return api.Explanation{}, err
	}
	e := api.Explanation{
		App: key.App, Service: key.Service, Release: a.release, Pool: a.spec.PoolName(), Ask: a.q.ask, Wanted: a.wanted,
		Nodes: len(c.inOrder()), Waiting: a.svc.Waiting, Filters: []api.Filter{}, Top: []api.Score{},
	}
	for _, p := range a.d.live {
		if p.Desired == api.DesiredRun {
			e.Alive++
		}
	}
	search := newSearch(c, a.sh, a.q)
	defer search.done()
	var fit []int32
	e.Filters, fit = search.filters()
	e.Candidates = len(fit)
	slices.SortFunc(fit, func(x, y int32) int { return search.rating(x, y) })
	for _, i := range fit[:min(topMax, len(fit))] {
		e.Top = append(e.Top, search.score(i))
	}
	e.Fits = search.room()
	return e, nil
}

// filters sorts the nodes into those that refuse, counted by cause, and the rest.
func (s *search) filters() ([]api.Filter, []int32) {
	var fit []int32
	all, at := []api.Filter{}, map[refusal]int{}
	for _, i := range s.c.inOrder() {
		no := s.refusal(i)
		if no == (refusal{}) {
			fit = append(fit, i)
			continue
		}
		k, known := at[no]
		if !known {
			k = len(all)
			at[no] = k
			all = append(all, api.Filter{Name: no.name(), Text: s.c.hint(no, no.text(s.sh.ask))})
		}
		f := &all[k]
		if f.Removed++; len(f.Nodes) < examplesMax {
			f.Nodes = append(f.Nodes, s.c.ids[i])
		}
	}
	slices.SortStableFunc(all, func(x, y api.Filter) int {
		return cmp.Or(cmp.Compare(y.Removed, x.Removed), strings.Compare(x.Text, y.Text))
	})
	return all, fit
}

// refusal returns the first reason why a node takes no copy; the zero one if it does.
func (s *search) refusal(i int32) refusal {
	switch why := s.sh.spots[i].why; {
	case s.q.home != "" && s.q.home != s.c.ids[i]:
		return refusal{elsewhere, string(s.q.home)}
	case why >= 0:
		return s.sh.causes[why]
	}
	return s.reserved(i)
}

// rating orders candidates as placing does: spread, score, tie, name.
func (s *search) rating(a, b int32) int {
	if s.level != nil {
		if c := cmp.Compare(s.level[s.sh.spots[a].in], s.level[s.sh.spots[b].in]); c != 0 {
			return c
		}
	}
	if s.better(s.whole(a), s.whole(b)) {
		return -1
	}
	return 1
}

// whole is a candidate with everything that counts for or against it.
func (s *search) whole(i int32) ranked {
	key := s.sh.key(s.c, i, s.sh.kindOf(s.c, i))
	return ranked{shared(key) - s.c.penalty(i), entry{key, i}}
}

// score takes the score of a candidate apart.
func (s *search) score(i int32) api.Score {
	c := s.c
	score := api.Score{Node: c.ids[i], Total: s.whole(i).score}
	add := func(name string, points int64, format string, args ...any) {
		score.Parts = append(score.Parts, api.ScorePart{Name: name, Points: points, Text: fmt.Sprintf(format, args...)})
	}
	for j, spread := range s.q.spec.Spreads {
		b := s.sh.spots[i].in
		add("spread", 0, "comes first: %d copies where %s is %q", s.crowd[j][s.ids[b][j]], spread.Attribute, s.sh.buckets[b].values[j])
	}
	if len(s.q.spec.Affinities) > 0 {
		add("affinity", int64(s.sh.kindOf(c, i).affinity), "%d of 100", affinity(s.q.spec, c.nodes[i]))
	}
	points := fit(c.table[i].avail, c.table[i].free, s.sh.ask, s.sh.strategy)
	add("fit", points, "strategy %s, %s and %s are free", s.sh.strategy, c.table[i].free.CPU, c.table[i].free.Memory)
	if n := c.marks[i].own; n > 0 {
		add("own copies", -pointsOwn*int64(n), "%d of the same release", n)
	}
	if n := c.marks[i].others; n > 0 {
		add("other copies", -pointsOther*int64(n), "%d of other releases, or on their way out", n)
	}
	if n := c.marks[i].failed; n > 0 {
		add("failures", -pointsFailed*int64(min(n, failuresMost)), "%d on record", n)
	}
	return score
}

// room counts the copies that would fit, by placing them in a plan that is thrown away.
func (s *search) room() int {
	n := 0
	for n < api.FitsMax {
		if _, _, ok := s.next(n); !ok {
			break
		}
		n++
	}
	return n
}

// WhyNot lists everything that keeps one more copy of a service off a node.
func (c *Cluster) WhyNot(s State, key api.ServiceKey, node api.NodeID) (api.WhyNot, error) {
	a, err := c.ask(s, key)
	if err != nil {
		return api.WhyNot{}, err
	}
	i, ok := c.index[node]
	if !ok || c.nodes[i] == nil {
		var names []string
		for _, j := range c.inOrder() {
			names = append(names, string(c.ids[j]))
		}
		return api.WhyNot{}, api.NotFound("node", string(node), names)
	}
	search := newSearch(c, a.sh, a.q)
	defer search.done()
	w := api.WhyNot{App: key.App, Service: key.Service, Node: node, Reasons: search.shortcomings(i)}
	if len(w.Reasons) > 0 {
		return w, nil
	}
	own := search.score(i)
	w.Score = &own
	if _, fit := search.filters(); len(fit) > 0 {
		best := search.score(slices.MinFunc(fit, search.rating))
		w.Best = &best
	}
	return w, nil
}

// shortcomings lists what a node lacks for a copy, all of it.
func (s *search) shortcomings(i int32) []api.Shortcoming {
	n, out := s.c.nodes[i], []api.Shortcoming{}
	add := func(r refusal) {
		out = append(out, api.Shortcoming{Name: r.name(), Text: s.c.hint(r, r.text(s.sh.ask))})
	}
	if s.q.home != "" && s.q.home != n.ID {
		add(refusal{elsewhere, string(s.q.home)})
	}
	if n.Pool != s.sh.pool {
		add(refusal{isNot, "in pool " + string(s.sh.pool)})
	}
	for _, con := range s.q.spec.Constraints {
		if value, ok := n.Attribute(con.Attribute); !con.Holds(value, ok) {
			r := refusal{doesNotHold, con.String()}
			text := fmt.Sprintf("%s does not hold: it is %q", con, value)
			if !ok {
				text = s.c.hint(r, fmt.Sprintf("%s does not hold: the node has no such attribute", con))
			}
			out = append(out, api.Shortcoming{Name: r.name(), Text: text})
		}
	}
	for _, state := range []struct {
		holds bool
		word  string
	}{{n.Status != api.NodeReady, "down"}, {n.Draining, "draining"}, {n.Cordoned, "cordoned"}} {
		if state.holds {
			add(refusal{is, state.word})
		}
	}
	free, ask := s.c.table[i].free, s.sh.ask
	out = append(out, lack("memory", int64(ask.Memory), int64(free.Memory), func(n int64) string { return api.Bytes(n).String() })...)
	out = append(out, lack("cpu", int64(ask.CPU), int64(free.CPU), func(n int64) string { return api.MilliCPU(n).String() })...)
	out = append(out, lack("disk", int64(ask.Disk), int64(free.Disk), func(n int64) string { return api.Bytes(n).String() })...)
	if r := s.sh.withheld(s.c, i); r != (refusal{}) {
		add(r)
	}
	if r := s.reserved(i); r != (refusal{}) {
		add(r)
	}
	return out
}

// lack says by how much a resource is too small.
func lack(name string, needs, has int64, unit func(int64) string) []api.Shortcoming {
	if needs <= has {
		return nil
	}
	text := fmt.Sprintf("not enough %s: needs %s, %s are free (%s short)", name, unit(needs), unit(max(0, has)), unit(needs-has))
	return []api.Shortcoming{{Name: name, Text: text, Needs: needs, Has: has}}
}

// name is the filter that a refusal belongs to.
func (r refusal) name() string {
	switch r.kind {
	case is:
		return "status"
	case isNot:
		return "pool"
	case doesNotHold:
		return "constraint"
	case notEnough:
		return r.what
	case taken:
		return "port"
	case hasNo, lacks:
		return "device"
	case elsewhere:
		return "volume"
	}
	return r.what
}

// text says a refusal of one or many nodes.
func (r refusal) text(ask api.Amount) string {
	switch r.kind {
	case is:
		return "the node is " + r.what
	case isNot:
		return "the node is not " + r.what
	case doesNotHold:
		return r.what + " does not hold"
	case notEnough:
		return fmt.Sprintf("not enough %s, a copy needs %s", r.what, part(ask, r.what))
	case taken:
		return r.what + " is taken"
	case hasNo:
		return "the node has no " + r.what
	case lacks:
		return "not " + r.what + " free"
	case hasCopy:
		return "the node has a copy already"
	case elsewhere:
		return "its volume is on node " + r.what
	}
	return "all the copies that distinct_property of " + r.what + " allows are there"
}

// part names one part of an amount.
func part(a api.Amount, name string) string {
	switch name {
	case "cpu":
		return a.CPU.String()
	case "disk":
		return a.Disk.String()
	}
	return a.Memory.String()
}

// hint adds what may have been meant to a refusal that no node can satisfy because of a name.
func (c *Cluster) hint(r refusal, text string) string {
	name, names, none := "", map[string]bool{}, "no node has %s"
	switch r.kind {
	case isNot:
		name, none = strings.TrimPrefix(r.what, "in pool "), "no node is in pool %s"
		for _, i := range c.inOrder() {
			names[string(c.nodes[i].Pool)] = true
		}
	case doesNotHold:
		name, _, _ = strings.Cut(r.what, " ")
		name = "node." + strings.TrimPrefix(name, "node.")
		if isName(name) || name == "node.pool" {
			return text
		}
		for _, i := range c.inOrder() {
			for k := range c.nodes[i].Labels {
				names["node.label."+k] = true
			}
			for k := range c.nodes[i].Attributes {
				names["node."+k] = true
			}
		}
	case hasNo:
		name = r.what
		for _, i := range c.inOrder() {
			for _, d := range c.nodes[i].Devices {
				for _, ask := range []api.DeviceAsk{{}, {Vendor: d.Vendor}, {Model: d.Model}, {Vendor: d.Vendor, Model: d.Model}} {
					ask.Kind = d.Kind
					names[ask.String()] = true
				}
			}
		}
	default:
		return text
	}
	if names[name] {
		return text
	}
	text += "; " + fmt.Sprintf(none, name)
	if near := api.Nearest(name, slices.Sorted(maps.Keys(names))); near != "" {
		text += fmt.Sprintf(", did you mean %s?", near)
	}
	return text
}

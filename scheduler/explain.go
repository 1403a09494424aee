package scheduler

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"slipway/api"
)

// refusal is why a node cannot take a copy.
type refusal struct {
	kind refusalKind
	what string
}

type refusalKind int

const (
	is          refusalKind = iota + 1 // "3 nodes are down"
	isNot                              // "3 nodes are not in pool gpu"
	doesNotHold                        // "node.arch = arm64 does not hold on 3 nodes"
	notEnough                          // "not enough memory on 3 nodes (needs …, largest free …)"
	taken                              // "host port 80/tcp is taken on 3 nodes"
	hasNo                              // "3 nodes have no nvidia gpu"
	lacks                              // "3 nodes have no 2 nvidia gpu free"
	hasCopy                            // "3 nodes have a copy already (distinct_hosts)"
	elsewhere                          // "its volume is on node n3"
	isFull                             // "3 nodes have all copies they may have per node.label.zone"
)

// reasons collects why copies of a service wait.
type reasons struct {
	copies  int             // that wait
	nodes   map[refusal]int // how many nodes refused, by cause
	held    map[string]int  // how many copies wait for something that is not about nodes
	ask     api.Amount
	largest api.Amount         // free on the nodes that refused for it, each part by itself
	prefix  string             // what narrows the choice of nodes
	hints   map[refusal]string // what may have been meant
}

func newReasons(ask api.Amount) *reasons {
	return &reasons{nodes: map[refusal]int{}, held: map[string]int{}, hints: map[refusal]string{}, ask: ask}
}

// why says why a search found nothing.
func (s *search) why() *reasons {
	if s.q.home != "" {
		return s.whyNotHome()
	}
	r := *s.sh.refusals(s.c)
	r.nodes, r.held = maps.Clone(r.nodes), map[string]int{}
	if len(s.c.inOrder()) == 0 {
		r.held["the rack has no nodes"]++
	}
	for i, at := range s.sh.spots {
		if at.why == candidate {
			if no := s.reserved(int32(i)); no != (refusal{}) {
				r.nodes[no]++
			}
		}
	}
	return &r
}

// reserved returns why a candidate of the shape takes no copy of this service.
func (s *search) reserved(i int32) refusal {
	if s.hosts && s.c.marks[i].own > 0 {
		return refusal{hasCopy, api.DistinctHosts}
	}
	for j, most := range s.limits {
		if most > 0 && s.crowd[j][s.ids[s.sh.spots[i].in][j]] >= most {
			return refusal{isFull, s.sh.keyed[j]}
		}
	}
	if s.q.barred != nil {
		if why := s.q.barred(s.c.ids[i]); why != "" {
			return refusal{is, why}
		}
	}
	return refusal{}
}

// whyNotHome says why the node that has the data takes no copy.
func (s *search) whyNotHome() *reasons {
	r := newReasons(s.sh.ask)
	i, ok := s.c.index[s.q.home]
	if !ok || s.c.nodes[i] == nil {
		r.held[fmt.Sprintf("its volume is on node %s, which is gone", s.q.home)]++
		return r
	}
	r.prefix = fmt.Sprintf("its volume is on node %s: ", s.q.home)
	switch why := s.sh.spots[i].why; {
	case why >= 0:
		r.refuse(s.sh.causes[why], s.c.table[i].free)
	case why == candidate:
		if no := s.reserved(i); no != (refusal{}) {
			r.nodes[no]++
		}
	}
	return r
}

// refusals counts the nodes that refuse the shape, by cause.
func (sh *shape) refusals(c *Cluster) *reasons {
	if sh.reasons != nil {
		return sh.reasons
	}
	r := newReasons(sh.ask)
	for i, at := range sh.spots {
		if at.why >= 0 {
			r.refuse(sh.causes[at.why], c.table[i].free)
		}
	}
	for _, why := range sh.causes {
		if r.nodes[why] > 0 {
			if r.hints[why] = strings.TrimPrefix(c.hint(why, ""), "; "); r.hints[why] != "" {
				r.hints[why] = " (" + r.hints[why] + ")"
			}
		}
	}
	sh.reasons = r
	return r
}

// refuse counts one node that cannot take a copy, with what is free there.
func (r *reasons) refuse(why refusal, free api.Amount) {
	r.nodes[why]++
	if why.kind != notEnough {
		return
	}
	switch why.what {
	case "memory":
		r.largest.Memory = max(r.largest.Memory, free.Memory)
	case "cpu":
		r.largest.CPU = max(r.largest.CPU, free.CPU)
	case "disk":
		r.largest.Disk = max(r.largest.Disk, free.Disk)
	}
}

// hold counts n copies that wait for something that is not about nodes.
func (r *reasons) hold(n int, format string, args ...any) {
	r.copies += n
	r.held[fmt.Sprintf(format, args...)] += n
}

// merge takes in why n copies found no node.
func (r *reasons) merge(o *reasons, n int) {
	r.copies += n
	for why, k := range o.nodes {
		r.nodes[why] = max(r.nodes[why], k)
	}
	for why := range o.held {
		r.held[why] += n
	}
	r.ask, r.largest, r.prefix, r.hints = o.ask, o.largest, o.prefix, o.hints
}

// sentence says it to a user, most frequent cause first: "1 waiting: not enough memory on 3
// nodes (needs 512 MiB, largest free 300 MiB)". Empty when nothing waits.
func (r *reasons) sentence() string {
	if r.copies == 0 {
		return ""
	}
	return fmt.Sprintf("%d waiting: %s", r.copies, r.causes())
}

// causes is the sentence without the number of copies.
func (r *reasons) causes() string {
	type part struct {
		n    int
		text string
	}
	var parts []part
	for why, n := range r.held {
		parts = append(parts, part{n, why})
	}
	for _, why := range slices.SortedFunc(maps.Keys(r.nodes), func(a, b refusal) int {
		return cmp.Or(cmp.Compare(a.kind, b.kind), strings.Compare(a.what, b.what))
	}) {
		parts = append(parts, part{r.nodes[why], r.phrase(why, r.nodes[why]) + r.hints[why]})
	}
	slices.SortFunc(parts, func(a, b part) int { return cmp.Or(cmp.Compare(b.n, a.n), strings.Compare(a.text, b.text)) })
	var texts []string
	for _, p := range parts {
		texts = append(texts, p.text)
	}
	return r.prefix + strings.Join(texts, "; ")
}

// tooMany says why copies of a release go.
func tooMany(wanted int, release api.ReleaseID, alive int) string {
	copies, verb := "copies", "are"
	if wanted == 1 {
		copies, verb = "copy", "is"
	}
	return fmt.Sprintf("%d %s of release %s %s wanted, %d were alive", wanted, copies, release, verb, alive)
}

// phrase says why n nodes refused.
func (r *reasons) phrase(why refusal, n int) string {
	nodes, verb := fmt.Sprintf("%d nodes", n), "are"
	if n == 1 {
		nodes, verb = "1 node", "is"
	}
	switch why.kind {
	case is:
		return fmt.Sprintf("%s %s %s", nodes, verb, why.what)
	case isNot:
		return fmt.Sprintf("%s %s not %s", nodes, verb, why.what)
	case doesNotHold:
		return fmt.Sprintf("%s does not hold on %s", why.what, nodes)
	case taken:
		return fmt.Sprintf("%s is taken on %s", why.what, nodes)
	case hasNo, lacks, hasCopy, isFull:
		return nodes + " " + r.having(why, n)
	}
	needs, largest := "", ""
	switch why.what {
	case "memory":
		needs, largest = r.ask.Memory.String(), r.largest.Memory.String()
	case "cpu":
		needs, largest = r.ask.CPU.String(), r.largest.CPU.String()
	default:
		needs, largest = r.ask.Disk.String(), r.largest.Disk.String()
	}
	return fmt.Sprintf("not enough %s on %s (needs %s, largest free %s)", why.what, nodes, needs, largest)
}

// having says what n nodes have or do not have.
func (r *reasons) having(why refusal, n int) string {
	have := "have"
	if n == 1 {
		have = "has"
	}
	switch why.kind {
	case hasNo:
		return fmt.Sprintf("%s no %s", have, why.what)
	case lacks:
		return fmt.Sprintf("%s not %s free", have, why.what)
	case hasCopy:
		return fmt.Sprintf("%s a copy already (%s)", have, why.what)
	}
	return fmt.Sprintf("%s all the copies that %s allows", have, why.what)
}

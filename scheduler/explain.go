package scheduler

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"slipway/api"
)

// reasons collects why copies are not placed.
type reasons struct {
	copies  int            // that wait
	counts  map[string]int // reason → how often
	largest api.Amount     // free on the node that came nearest
	ask     api.Amount
}

func newReasons() *reasons { return &reasons{counts: map[string]int{}} }

// add counts one copy that waits for a reason that is not about nodes.
func (r *reasons) add(format string, args ...any) {
	r.copies++
	r.counts[fmt.Sprintf(format, args...)]++
}

// refuse counts one node that cannot take the copy.
func (r *reasons) refuse(n *api.Node, reason string, ask, free api.Amount) {
	r.counts[reason]++
	r.ask = ask
	if n.Eligible() {
		r.largest.CPU = max(r.largest.CPU, free.CPU)
		r.largest.Memory = max(r.largest.Memory, free.Memory)
	}
}

// merge takes in why one copy found no node.
func (r *reasons) merge(o *reasons) {
	r.copies++
	for reason, n := range o.counts {
		r.counts[reason] = max(r.counts[reason], n)
	}
	r.ask, r.largest = o.ask, o.largest
}

// sentence says it to a user, most frequent reason first: "1 waiting: not enough memory on 3
// nodes (needs 512 MiB, largest free 300 MiB)". Empty when nothing waits.
func (r *reasons) sentence() string {
	if r.copies == 0 {
		return ""
	}
	keys := slices.SortedFunc(maps.Keys(r.counts), func(a, b string) int {
		return cmp.Or(cmp.Compare(r.counts[b], r.counts[a]), cmp.Compare(a, b))
	})
	var parts []string
	for _, k := range keys {
		parts = append(parts, r.part(k))
	}
	return fmt.Sprintf("%d waiting: %s", r.copies, strings.Join(parts, "; "))
}

func (r *reasons) part(k string) string {
	nodes := fmt.Sprintf("%d nodes", r.counts[k])
	if r.counts[k] == 1 {
		nodes = "1 node"
	}
	switch {
	case k == "not enough memory":
		return fmt.Sprintf("%s on %s (needs %s, largest free %s)", k, nodes, r.ask.Memory, max(0, r.largest.Memory))
	case k == "not enough cpu":
		return fmt.Sprintf("%s on %s (needs %s, largest free %s)", k, nodes, r.ask.CPU, max(0, r.largest.CPU))
	case strings.HasPrefix(k, "not enough"):
		return fmt.Sprintf("%s on %s", k, nodes)
	case strings.HasPrefix(k, "the node") || strings.HasSuffix(k, "does not hold") || strings.HasPrefix(k, "its volume"):
		return fmt.Sprintf("%s (%s)", k, nodes)
	}
	return k
}

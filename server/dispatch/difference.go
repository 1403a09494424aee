package dispatch

import (
	"iter"

	"slipway/api"
)

// known is what an agent was told of one process.
type known struct {
	id      api.ProcessID
	desired api.Desired
}

// difference is what an agent has to be told.
type difference struct {
	now   []known        // what there is, in the order of IDs
	fresh []*api.Process // what it does not know so
	gone  []string       // what it knows and is not there
}

// compare compares what an agent knows with the processes that there are, both in the order of
// their IDs.
func compare(has []known, is iter.Seq[*api.Process]) (d difference) {
	for p := range is {
		for len(has) > 0 && has[0].id < p.ID {
			d.gone = append(d.gone, string(has[0].id))
			has = has[1:]
		}
		d.now = append(d.now, known{p.ID, p.Desired})
		if len(has) > 0 && has[0].id == p.ID {
			if has[0].desired != p.Desired {
				d.fresh = append(d.fresh, p)
			}
			has = has[1:]
			continue
		}
		d.fresh = append(d.fresh, p)
	}
	for _, k := range has {
		d.gone = append(d.gone, string(k.id))
	}
	return d
}

// without is what an agent knows afterwards if it is not told of some processes: of those it knows
// what it knew. The next look tries again.
func (d difference) without(left map[api.ProcessID]bool, had []known) []known {
	if len(left) == 0 {
		return d.now
	}
	before := map[api.ProcessID]known{}
	for _, k := range had {
		before[k.id] = k
	}
	var out []known
	for _, k := range d.now {
		if !left[k.id] {
			out = append(out, k)
		} else if old, ok := before[k.id]; ok {
			out = append(out, old)
		}
	}
	return out
}

package scheduler

import (
	"cmp"
	"fmt"
	"slices"

	"slipway/api"
)

// preemptGap is by how much more important a service has to be than one that goes for it.
const preemptGap = 10

// makesRoom is how the reason of a preemption begins.
const makesRoom = "makes room for"

// exactMost is up to how many victims on a node all sets of them are compared. With more, they
// are taken cheapest first, and those that turn out not to be needed stay.
const exactMost = 10

// eviction is the least costly way to make room for one copy on a node.
type eviction struct {
	node    int32
	victims []*api.Process
	cost    cost
}

// cost is what ending some copies costs: importance first, then number, then memory to be
// filled again.
type cost struct {
	priority int
	copies   int
	memory   api.Bytes
}

func (c cost) plus(p *api.Process, priority int) cost {
	return cost{c.priority + priority + 1, c.copies + 1, c.memory + p.Ask.Memory}
}

func (c cost) compare(o cost) int {
	return cmp.Or(cmp.Compare(c.priority, o.priority), cmp.Compare(c.copies, o.copies), cmp.Compare(c.memory, o.memory))
}

// makeRoom finds places for copies that found no node: first where room is being freed anyway,
// then where copies of less important services can go. It returns how many copies are still
// without a prospect. A copy that is promised room waits until the room is there.
func (r *run) makeRoom(nodes *search, missing int, waiting *reasons) int {
	mine := nodes.q.priority
	missing = r.awaitRoom(nodes, missing, waiting)
	if missing == 0 || mine < preemptGap {
		return missing
	}
	var ways []eviction
	for _, i := range nodes.contested() {
		if e, ok := r.evict(nodes, i, mine); ok {
			ways = append(ways, e)
		}
	}
	for ; missing > 0 && len(ways) > 0; missing-- {
		best := 0
		for k := range ways {
			if c := ways[k].cost.compare(ways[best].cost); c < 0 || c == 0 && nodes.c.nodes[ways[k].node].ID < nodes.c.nodes[ways[best].node].ID {
				best = k
			}
		}
		e := ways[best]
		for _, v := range e.victims {
			r.stop(v, fmt.Sprintf("%s %s (priority %d)", makesRoom, nodes.q.key, mine))
			r.victims[v.ID] = true
		}
		r.promise(nodes, e.node, waiting)
		again, ok := r.evict(nodes, e.node, mine)
		if ways[best] = again; !ok || nodes.hosts {
			ways = slices.Delete(ways, best, best+1)
		}
	}
	return missing
}

// awaitRoom promises room that is being freed: processes that are about to end, of whatever
// service, still hold it.
func (r *run) awaitRoom(nodes *search, missing int, waiting *reasons) int {
	for _, i := range nodes.contested() {
		for missing > 0 && r.fitsWithout(nodes, i, r.ending(i)) {
			r.promise(nodes, i, waiting)
			missing--
			if nodes.hosts {
				break
			}
		}
	}
	return missing
}

// promise notes that one copy waits for room on a node.
func (r *run) promise(nodes *search, i int32, waiting *reasons) {
	r.promised[i] = true
	r.cluster.take(i, nodes.q.ask, nil) // or less important services would take what is free of it
	nodes.stirred = append(nodes.stirred, i)
	nodes.crowding(i, 1)
	waiting.hold(1, "room is being made on node %s", nodes.c.ids[i])
}

// contested returns the nodes that lack nothing but room, in ID order.
func (s *search) contested() []int32 {
	var out []int32
	for _, i := range s.c.inOrder() {
		if why := s.sh.spots[i].why; why >= 0 && s.sh.causes[why].kind.scarce() && s.reserved(i) == (refusal{}) && (s.q.home == "" || s.q.home == s.c.ids[i]) {
			out = append(out, i)
		}
	}
	return out
}

// scarce reports whether a node refuses for what others hold there.
func (k refusalKind) scarce() bool { return k == notEnough || k == taken || k == lacks }

// ending returns the processes of a node that are about to end, those that this plan stops among
// them.
func (r *run) ending(i int32) []*api.Process {
	var out []*api.Process
	for p := range r.state.ProcessesOn(r.cluster.ids[i]) {
		if p.Desired != api.DesiredRun || r.victims[p.ID] {
			out = append(out, p)
		}
	}
	return out
}

// fitsWithout reports whether a copy fits on a node once some processes have ended, beside
// what others were promised.
func (r *run) fitsWithout(nodes *search, i int32, gone []*api.Process) bool {
	c := r.cluster
	free, held := c.table[i].free, api.Usage{Grant: c.held[i]}
	for _, p := range gone {
		free = free.Add(p.Ask)
		held = held.Sub(api.Amount{}, p.Grant)
	}
	if !nodes.q.ask.Fits(free) || nodes.reserved(i) != (refusal{}) {
		return false
	}
	if spec := nodes.q.spec; len(spec.Devices)+len(spec.HostPorts) > 0 {
		if r.promised[i] {
			return false // of ports and devices there is enough for one at a time
		}
		_, no := grant(spec, c.nodes[i], held, 0)
		return no == (refusal{})
	}
	return true
}

// evict finds the least costly copies on a node whose end makes room.
func (r *run) evict(nodes *search, i int32, mine int) (eviction, bool) {
	ending := r.ending(i)
	victims, priority := r.lesser(i, mine, nodes.q.key)
	if !r.fitsWithout(nodes, i, append(slices.Clone(ending), victims...)) {
		return eviction{}, false
	}
	fits := func(set []*api.Process) bool {
		return r.fitsWithout(nodes, i, append(slices.Clone(ending), set...))
	}
	if len(victims) <= exactMost {
		return exact(i, victims, priority, fits)
	}
	return greedy(i, victims, priority, fits), true
}

// lesser returns the copies on a node that may go for a service of a priority, least important
// first, and how important they are. One-offs and builds would lose their work, and singletons,
// agents and what keeps data on the node could not go elsewhere.
func (r *run) lesser(i int32, mine int, me api.ServiceKey) ([]*api.Process, map[api.ProcessID]int) {
	var out []*api.Process
	priority := map[api.ProcessID]int{}
	for p := range r.state.ProcessesOn(r.cluster.ids[i]) {
		if p.Kind != api.KindService || p.Desired != api.DesiredRun || r.victims[p.ID] || p.Key() == me {
			continue
		}
		spec, ok := r.state.Spec(p.Release, p.Service)
		svc, inForce := r.state.Service(p.Key())
		if !ok || !inForce || spec.Singleton || spec.Agent || keepsData(spec) {
			continue
		}
		if n := priorityOf(r.state, svc); n <= mine-preemptGap {
			priority[p.ID] = n
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b *api.Process) int {
		return cmp.Or(cmp.Compare(priority[a.ID], priority[b.ID]), b.Created.Compare(a.Created), cmp.Compare(a.ID, b.ID))
	})
	return out, priority
}

// exact compares all sets of victims.
func exact(node int32, victims []*api.Process, priority map[api.ProcessID]int, fits func([]*api.Process) bool) (eviction, bool) {
	best, found := eviction{node: node}, false
	for bits := 1; bits < 1<<len(victims); bits++ {
		var set []*api.Process
		var sum cost
		for k, v := range victims {
			if bits&(1<<k) != 0 {
				set, sum = append(set, v), sum.plus(v, priority[v.ID])
			}
		}
		if (!found || sum.compare(best.cost) < 0) && fits(set) {
			best.victims, best.cost, found = set, sum, true
		}
	}
	return best, found
}

// greedy takes victims in order until there is room, and leaves out again whom it did not need.
func greedy(node int32, victims []*api.Process, priority map[api.ProcessID]int, fits func([]*api.Process) bool) eviction {
	n := 0
	for n < len(victims) && !fits(victims[:n]) {
		n++
	}
	set := slices.Clone(victims[:n])
	for k := len(set) - 1; k >= 0; k-- {
		if without := slices.Delete(slices.Clone(set), k, k+1); fits(without) {
			set = without
		}
	}
	e := eviction{node: node, victims: set}
	for _, v := range set {
		e.cost = e.cost.plus(v, priority[v.ID])
	}
	return e
}

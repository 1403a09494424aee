package scheduler

import "slipway/api"

// The parts of a score, in points. Copies of a release keep apart first; then nodes where the
// service failed lately are avoided, then what the manifest prefers counts, then how full the
// node is. Spreads come before all of that, see search.next.
const (
	pointsOwn      = 10_000 // less for each copy of the same release on the node
	pointsFailed   = 5_000  // less for each failure there that is not forgotten yet
	pointsAffinity = 4_000  // more or less, when all affinities agree
	pointsFit      = 1_000  // more for a full node, or for an empty one if the pool spreads
	pointsOther    = 100    // less for each copy of another release
)

// failuresMost bounds how many failures count: a node is avoided, it is not ruled out.
const failuresMost = 10

// keyBase makes the shared part of a score, which may be below zero, sortable as unsigned.
const keyBase = 1 << 20

// key is the entry key of a candidate: the shared part of its score, then its tie.
func (sh *shape) key(c *Cluster, i int32, k kind) uint64 {
	return uint64(int64(k.affinity)+fit(c.table[i].avail, c.table[i].free, sh.ask, sh.strategy)+keyBase)<<32 | uint64(c.table[i].tie)
}

// shared takes the shared part of a score out of an entry key.
func shared(key uint64) int64 { return int64(key>>32) - keyBase }

// fit is how full the node would be with one copy more, processors and memory alike.
func fit(avail, free, ask api.Amount, s api.Strategy) int64 {
	left := free.Sub(ask)
	empty := (portion(int64(left.CPU), int64(avail.CPU)) + portion(int64(left.Memory), int64(avail.Memory))) / 2
	if s == api.EvenOut {
		return empty
	}
	return pointsFit - empty
}

// portion is part/whole in points of pointsFit.
func portion(part, whole int64) int64 {
	if whole <= 0 {
		return 0
	}
	return min(pointsFit, max(-pointsFit, int64(float64(part)*pointsFit/float64(whole))))
}

// affinity sums the weights of the affinities that a node satisfies, from -100 to 100.
func affinity(spec *api.ServiceSpec, n *api.Node) int64 {
	sum, all := 0, 0
	for _, a := range spec.Affinities {
		all += max(a.Weight, -a.Weight)
		c := api.Constraint{Attribute: a.Attribute, Operator: a.Operator, Value: a.Value}
		if value, ok := n.Attribute(a.Attribute); c.Holds(value, ok) {
			sum += a.Weight
		}
	}
	return int64(100 * sum / max(1, all))
}

// penalty is what a service takes off the score of a node: what it has there already.
func (c *Cluster) penalty(i int32) int64 {
	return pointsOwn*int64(c.marks[i].own) + pointsOther*int64(c.marks[i].others) + pointsFailed*int64(min(failuresMost, c.marks[i].failed))
}

// share is the percentage of copies that a value should have. Values without a target divide
// what the targets leave; without targets all are equal.
func share(s api.Spread, value string) int64 {
	if len(s.Targets) == 0 {
		return 100
	}
	if t, ok := s.Targets[value]; ok {
		return int64(max(1, t))
	}
	rest := 100
	for _, t := range s.Targets {
		rest -= t
	}
	return int64(max(1, rest))
}

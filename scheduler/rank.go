package scheduler

import (
	"hash/fnv"

	"slipway/api"
)

// Weights of the parts of a score. Spreading the copies of a service counts most, then where
// the last one failed, then what the manifest prefers, then how full the node is: copies go
// where the fewest are, and of equal nodes to the fuller one, so that room stays in one piece.
const (
	weightCopies   = 1000
	weightFailed   = 500
	weightAffinity = 4 // per point, points are -100 to 100
	weightFit      = 100
)

// best returns the feasible node with the highest score, or why there is none. Equal scores
// are broken by a hash of service, slot and node: the same question has the same answer, and
// different services do not crowd on the same node.
func (c *cluster) best(q request) (*api.Node, *reasons) {
	why := newReasons()
	var best *api.Node
	var bestScore float64
	var bestTie uint64
	for _, n := range c.nodes {
		if reason := c.refuses(n, q); reason != "" {
			why.refuse(n, reason, q.ask, c.free[n.ID])
			continue
		}
		score, tie := c.score(n, q), tieOf(q, n)
		if best == nil || score > bestScore || score == bestScore && tie > bestTie {
			best, bestScore, bestTie = n, score, tie
		}
	}
	if best == nil && len(c.nodes) == 0 {
		why.add("the rack has no nodes")
	}
	return best, why
}

// score rates a feasible node; higher is better.
func (c *cluster) score(n *api.Node, q request) float64 {
	score := -weightCopies * float64(q.copies[n.ID])
	if n.ID == q.avoid {
		score -= weightFailed
	}
	for _, a := range q.spec.Affinities {
		if holds(api.Constraint{Attribute: a.Attribute, Operator: a.Operator, Value: a.Value}, n) {
			score += weightAffinity * float64(a.Weight)
		}
	}
	score -= weightCopies / 2 * c.crowding(n, q)
	free, all := c.free[n.ID].Sub(q.ask), n.Available()
	used := 2 - ratio(int64(free.CPU), int64(all.CPU)) - ratio(int64(free.Memory), int64(all.Memory))
	return score + weightFit*used/2
}

// crowding is the share of the copies that a node's spread values hold already, weighted,
// 0 to 1.
func (c *cluster) crowding(n *api.Node, q request) float64 {
	total := 0
	for _, k := range q.copies {
		total += k
	}
	if total == 0 || len(q.spec.Spreads) == 0 {
		return 0
	}
	sum, weights := 0.0, 0.0
	for _, s := range q.spec.Spreads {
		mine, _ := attribute(n, s.Attribute)
		same := 0
		for _, other := range c.nodes {
			if v, _ := attribute(other, s.Attribute); v == mine {
				same += q.copies[other.ID]
			}
		}
		share := float64(same) / float64(total)
		if target, ok := s.Targets[mine]; ok && target > 0 {
			share /= float64(target) / 100
		}
		sum += float64(s.Weight) * share
		weights += float64(s.Weight)
	}
	return sum / max(weights, 1)
}

func ratio(a, b int64) float64 {
	if b <= 0 {
		return 0
	}
	return float64(a) / float64(b)
}

// tieOf is FNV-1a over what identifies the question and the node.
func tieOf(q request, n *api.Node) uint64 {
	h := fnv.New64a()
	h.Write([]byte(q.key.String()))
	h.Write([]byte{0, byte(q.slot), byte(q.slot >> 8)})
	h.Write([]byte(n.ID))
	return h.Sum64()
}

package scheduler

import (
	"cmp"
	"slices"

	"slipway/api"
)

// Capacity says what each pool has, holds and has left, in order of the pools' names.
func Capacity(s State) []api.Capacity {
	pools := map[api.PoolName]*api.Capacity{}
	for n := range s.Nodes() {
		c := pools[n.Pool]
		if c == nil {
			c = &api.Capacity{Pool: n.Pool, Strategy: api.BinPack}
			if p, ok := s.Pool(n.Pool); ok {
				c.Strategy = p.Strategy
			}
			pools[n.Pool] = c
		}
		c.Nodes++
		if !n.Eligible() {
			continue
		}
		used := s.Used(n.ID).Amount
		free := n.Available().Sub(used)
		if c.Eligible == 0 || free.Memory > c.Largest.Memory {
			c.Largest, c.On = free, n.ID
		}
		c.Eligible++
		c.Total, c.Reserved, c.Used = c.Total.Add(n.Available()), c.Reserved.Add(n.Reserved), c.Used.Add(used)
	}
	out := []api.Capacity{}
	for _, c := range pools {
		out = append(out, *c)
	}
	slices.SortFunc(out, func(a, b api.Capacity) int { return cmp.Compare(a.Pool, b.Pool) })
	return out
}

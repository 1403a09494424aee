package scheduler

// The heaps of a search are slices, the first element first in the order of before. container/heap
// does the same behind an interface, with an allocation for each push.

// push adds an element to a heap.
func push[T any](h []T, x T, before func(a, b T) bool) []T {
	h = append(h, x)
	for at := len(h) - 1; at > 0; {
		parent := (at - 1) / 2
		if !before(h[at], h[parent]) {
			break
		}
		h[at], h[parent] = h[parent], h[at]
		at = parent
	}
	return h
}

// pop takes the first element out of a heap that has one.
func pop[T any](h []T, before func(a, b T) bool) []T {
	last := len(h) - 1
	h[0] = h[last]
	h = h[:last]
	if last > 0 {
		sink(h, 0, before)
	}
	return h
}

// sink moves an element of a heap towards the end, to where it belongs.
func sink[T any](h []T, at int, before func(a, b T) bool) {
	for {
		child := 2*at + 1
		if child >= len(h) {
			return
		}
		if child+1 < len(h) && before(h[child+1], h[child]) {
			child++
		}
		if !before(h[child], h[at]) {
			return
		}
		h[at], h[child] = h[child], h[at]
		at = child
	}
}

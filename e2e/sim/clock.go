package sim

import (
	"container/heap"
	"time"

	"slipway/raftstore/state"
)

// event happens at a time; equal times happen in the order they were planned.
type event struct {
	at  time.Time
	seq int
	do  func()
}

type queue []event

func (q queue) Len() int { return len(q) }
func (q queue) Less(i, j int) bool {
	if q[i].at.Equal(q[j].at) {
		return q[i].seq < q[j].seq
	}
	return q[i].at.Before(q[j].at)
}
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }

// Push implements heap.Interface.
func (q *queue) Push(x any) { *q = append(*q, x.(event)) }

// Pop implements heap.Interface.
func (q *queue) Pop() any {
	old := *q
	e := old[len(old)-1]
	old[len(old)-1] = event{}
	*q = old[:len(old)-1]
	return e
}

// at plans an event.
func (w *World) at(t time.Time, do func()) {
	w.seq++
	heap.Push(&w.events, event{at: t, seq: w.seq, do: do})
}

// after plans an event a while from now.
func (w *World) after(d time.Duration, do func()) { w.at(w.Now.Add(d), do) }

// step lets the next event happen, if it is not after end.
func (w *World) step(end time.Time) bool {
	if len(w.events) == 0 || w.events[0].at.After(end) || len(w.broken) > 0 {
		return false
	}
	e := heap.Pop(&w.events).(event)
	w.Now = e.at
	w.Events++
	e.do()
	return true
}

// Run lets time pass.
func (w *World) Run(d time.Duration) {
	end := w.Now.Add(d)
	for w.step(end) {
	}
	if len(w.broken) == 0 {
		w.Now = end
	}
}

// RunUntil lets time pass until ok says so of what is committed, and reports whether that was within limit.
func (w *World) RunUntil(limit time.Duration, ok func(*state.View) bool) bool {
	end := w.Now.Add(limit)
	for !ok(w.State.View()) {
		if !w.step(end) {
			return false
		}
	}
	return true
}

func laterOf(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

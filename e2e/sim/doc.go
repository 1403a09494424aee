// Package sim runs the control plane in virtual time, in one goroutine, from one seed: the
// real state.Apply as the log, the real steps of the leader, and agents that drive the real
// agent.Next over a modelled node. The same seed gives the same history, byte by byte.
//
// Invariants are checked after every entry; when the faults of a run end, the rack must reach
// what is wanted within a bound.
package sim

// Package state is the pure heart of the control plane: tables, views and the verb Apply,
// state + entry → state' + changes + events.
//
// It does no I/O, reads no clock, starts no goroutine and depends on no map order, so that
// replicas fed the same log hold byte-equal states. The simulator imports it without Raft.
package state

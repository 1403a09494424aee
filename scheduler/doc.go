// Package scheduler decides where processes run. It is one pure function, Schedule: state +
// the services that changed + now → plan. It does no I/O, reads no clock, and gives the same
// plan for the same arguments.
//
// The stages are files, in order: diff.go compares what is wanted with what lives, pace.go
// holds back slots that keep crashing, feasible.go removes nodes that cannot take a copy and
// counts why, rank.go orders the rest, plan.go collects the answer. schedule.go joins them for
// services with a count, everywhere.go for those with one copy per node. explain.go turns the
// counts into the sentence that users read.
//
// The package imports only api; whoever holds a state adapts it to State. DESIGN.md tells why
// it is as it is.
package scheduler

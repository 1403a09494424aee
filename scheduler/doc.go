// Package scheduler decides where processes run. It is one pure function, Schedule: state +
// the services that changed + now → plan. It does no I/O, reads no clock, and gives the same
// plan for the same arguments.
//
// The stages are files, in order: diff.go compares what is wanted with what lives, pace.go
// holds back slots that keep crashing, feasible.go removes nodes that cannot take a copy and
// counts why, rank.go orders the rest, schedule.go joins them into a plan. explain.go turns
// the counts into the sentence that users read.
//
// The package imports only api; whoever holds a state adapts it to State.
package scheduler

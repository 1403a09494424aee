// Package liveness decides that a node is down: it has been silent for longer than its grace.
// A new leader has heard of nobody, so that every node's silence counts from the election at
// the earliest. When a large part of the rack falls silent at once, the decision is held back
// for a while. Heartbeats are the one input that is not in the state.
package liveness

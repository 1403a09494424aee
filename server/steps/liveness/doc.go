// Package liveness decides that a node is down: it has been silent for longer than its grace.
// A new leader has heard of nobody, so that every node's silence counts from the election at
// the earliest.
package liveness

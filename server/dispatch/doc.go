// Package dispatch is the servers' side of the agents: it tells each node its newest truth and
// takes in what the node reports.
//
// Everything that goes down is derived from a view of the state: assignments by the pure functions in
// assign.go, for each node; names, peers, routes and servers once for all, at the desk. A session is
// told of tables whole at first and of their changes then, so that an agent that missed a message
// misses nothing. What comes up is proposed as commands, batched per message, and acknowledged when it
// is durable.
//
// Heartbeats are the one truth that lives in memory only. A new leader starts with none and
// grants every node a fresh grace period.
package dispatch

// Package network gives each process its own network namespace on a bridge of the node, and makes
// the bridges of all nodes of a rack reach one another (DESIGN.md).
//
// Everything is derived from what is there: addresses in use are read from the namespaces that
// exist, routes to peers from the kernel, and the node's nft table is one text that replaces the
// last one in a single transaction. Nothing is kept in memory that a crash could lose, so that
// nothing leaks: whatever belongs to no known process or peer is removed by Collect and SetPeers.
//
// Names carry the rack's, so that several racks, or tests, on one machine never meet. The
// package needs root and Linux; it is imported by whoever starts an agent. Goroutines: the
// subscription of Run, as long as Run runs.
package network

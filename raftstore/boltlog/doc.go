// Package boltlog keeps a Raft log and the stable values beside it in one bbolt file.
//
// Appends are batched: one call is one transaction and one fsync. The free list is kept as a
// map and not written with every commit, which keeps commits short when the file is large. It
// knows Raft's types and nothing else of the rack.
package boltlog

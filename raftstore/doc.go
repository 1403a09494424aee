// Package raftstore replicates the state of the rack: hashicorp/raft with its log on bbolt,
// and the pure package state as its machine.
//
// A write is proposed with Propose and is durable on a quorum when it returns. Writers that
// propose at the same time share Raft entries. A read is a View, which is immutable and free:
// View gives the newest one here, Linearizable one that no acknowledged write is missing from.
// Next and Subscribe follow the state without a gap.
//
// Subpackages: state is the pure heart; boltlog keeps log and stable values; keyring encrypts
// what must not stand in the log in plain text.
//
// Goroutines: those of hashicorp/raft, and one that groups proposals.
package raftstore

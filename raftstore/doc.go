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
// A watchdog moves the leadership away from a server whose disk hangs or is full or whose loop is
// stuck, and ends the program if that does not help. Backup and RestoreDir carry a rack to other
// machines, Recover goes on with the one server that is left.
//
// Goroutines: those of hashicorp/raft, one that groups proposals, and the watchdog.
package raftstore

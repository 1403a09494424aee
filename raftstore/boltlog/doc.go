// Package boltlog keeps a Raft log and the stable values beside it: a tree of bbolt, and before it
// a journal of two files that are written over and over.
//
// An append is one write to the journal and one fdatasync. When a file of the journal is full,
// one transaction brings it into the tree while appends go on in the other. What the journal has
// no room for, because it is large or the disk is full, goes to the tree at once; the tree holds
// a reserve of the disk for that. Cuts go to the tree. Values have a small file that is written
// over. A log that was closed is in the tree as a whole.
//
// A disk without room is an error of one append. After any other error the log takes nothing more
// (Failed). It knows Raft's types and nothing else of the rack.
//
// Goroutines: the transaction behind the appends, at most one; Close waits for it.
package boltlog

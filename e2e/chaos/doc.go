// Package chaos checks that what the rack promises about reads and writes holds while its
// servers are killed, restarted, paused and cut from one another: histories of concurrent calls
// have to be linearizable (github.com/anishathalye/porcupine), every acknowledged write has to
// be there at the end, events have to come in order, none missing and none twice, and all
// replicas have to end with equal bytes.
//
// The servers are real replicas (raftstore, hashicorp/raft, bbolt) with directories of their
// own; the network between them, and between them and their clients, is one that loses, delays
// and repeats what it carries. All of it runs in virtual time (testing/synctest) with the
// timeouts of the product, so that an election costs no waiting and a busy machine changes
// nothing.
//
// Above them stand three real servers, each on a host and a disk of its own (e2e/hosts): killed,
// paused with SIGSTOP, without power and what was not synced, with a disk that is full, slow or
// stands still, cut, parted, exchanged for new ones, all in real time. They are called through the
// API as the CLI calls them, and three followers are told their events.
//
//	go test ./e2e/chaos                                 what CI runs
//	go test ./e2e/chaos -run TestReplicas -args -seed 7 one seed
//	go test ./e2e/chaos -args -faults 10000             for longer
//	go test ./e2e/chaos -run TestServers -args -server-faults 5000
//
// A seed decides which faults and calls there are and when; the order of goroutines is the
// machine's, so that a failure may need a few runs to come again. Of what failed, the test prints the
// calls around the answer that is wrong, and the path of a page for a browser with all of them.
package chaos

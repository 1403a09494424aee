// Package bubble runs a whole rack in one process and in virtual time: a real server with its
// Raft log on disk, real agents with their stores, real gRPC over connections in memory, and
// the Go client. Only what touches the kernel is replaced: the container engine by
// runtime/fake, networks, probes, image builds and the router by models that keep their
// contracts.
//
// It stands between the simulator, which runs the pure verbs alone, and the end-to-end tests,
// which wait for real time: a deadline of ten minutes passes in milliseconds, and no sleep of
// a test can be too short.
package bubble

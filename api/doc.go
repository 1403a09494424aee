// Package api holds the nouns of a Slipway rack and the rules that are always true of them.
//
// Everything in the system speaks these types: the manifest loader produces them, the Raft
// state stores them, the scheduler places them, the agent runs them and the CLI prints them.
// The package imports nothing but the standard library, so that every other package may
// import it.
//
// # Words
//
// A Rack is one cluster: servers, nodes and everything in it. A Node is a machine that runs
// the agent; nodes belong to a Pool. An App is what a user owns: a name, an environment,
// services. A Build turns source into image digests and never changes once complete. A
// Release is numbered and immutable: a build, an environment, a manifest, an author and a
// message. A Service is one process type of an app. A Deployment is the promotion of a
// release; it ends with an outcome, a cause and a Receipt. A Process is one placed copy of a
// service, a one-off, a timer run or a build, on one node; it is never moved, only replaced.
// A Route leads from a host and path to Targets, the processes that may receive traffic. A
// Plan is the scheduler's answer.
//
// # Spec and Status
//
// What a user asked for is a Spec, and the system never edits it. What the system knows is a
// Status. Of a process, Desired is written only by servers and Observed only by the agent of
// its node; the single exception is StateLost, which a server writes when a node cannot speak
// for its processes any more.
package api

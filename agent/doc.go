// Package agent is the node process: it runs exactly what the servers assigned to its node.
//
// The worker keeps a session with a server: the newest assignment set comes down, reports go
// up. One supervisor per process drives the pure verb Next: what is wanted and what is known →
// one action, executed, until nothing is left to do. Everything that happened is written to
// the store before it is reported, so that a restarted agent continues where the last one
// ended, adopts the containers that outlived it, and reports their exit codes.
//
// Subpackages own one concern each and do not know one another: build, dns, exec,
// fingerprint, health, logs, network, router. Package agent joins them; it never imports
// package server.
//
// Goroutines: Run starts one per session, one per process and a few loops, and returns when
// all of them have ended. Containers and the router outlive it on purpose.
package agent

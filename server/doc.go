// Package server is the control plane process: one replica of the state, the services that
// clients and agents dial, the registry, and, on the leader, the loop that decides.
//
// It joins its subpackages, which do not know one another, and owns no decision itself: those
// are in steps and in package scheduler. It never imports package agent.
//
// Goroutines: Run starts the listeners and, while this server leads,
// the loop, the finisher of builds and the collection of images. All end with its context.
package server

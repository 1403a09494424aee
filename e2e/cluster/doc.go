// Package cluster runs a whole rack of several machines on this one: servers and nodes, each in a
// host of its own (e2e/hosts), with the programs of bin/ as an operator starts them. Tests of
// failures use it, and so does `make cluster`.
//
// A part of the rack is a program in a host. It can be killed, started again with what it left on
// disk, and powered off together with its host.
package cluster

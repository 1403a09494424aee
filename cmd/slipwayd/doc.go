// Command slipwayd is what runs on the machines of a rack.
//
//	slipwayd dev       server and agent in one process: a whole rack on one machine
//	slipwayd server    a server of the control plane
//	slipwayd agent     a node that runs processes
//	slipwayd router    the ingress router of a node; agents start it
//	slipwayd builder   the image builder of a node; agents start it
//	slipwayd down      stop everything that dev started
//	slipwayd image     put base images into the rack's registry
//	slipwayd inspect   questions about placement, answered from a snapshot
//	slipwayd check     whether this machine can be a server or a node
//	slipwayd version
//
// It is the only package that sees both the server's side and the agent's.
package main

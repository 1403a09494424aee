// Package ingress decides who receives traffic: it keeps the route table equal to the healthy
// processes, calls a process ready when every router has acknowledged it, and lets a process
// that is to go stop only when every router has drained it or its limit has passed.
//
// A router on a node that is down is not waited for: it cannot reach anyone, and gets the
// newest table before anything else when it comes back.
package ingress

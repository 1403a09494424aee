// Package health finds out whether a process may receive traffic, is alive, and has started.
//
// Machine is the pure part: results of probes in, health and verdict out. Probe is the part
// that does I/O: one request, one call of the health protocol of gRPC, or one connection. Watch
// joins them for one process.
package health

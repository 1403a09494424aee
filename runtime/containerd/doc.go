// Package containerd is the engine that racks run: a client of a containerd daemon of version
// 1.6 or newer, reached by its socket.
//
// A container of ours is a containerd container, its snapshot, its task and a small directory
// of files that are mounted into it. Output goes to cmd/sliplog, which the shim starts, so that
// neither a restart of the agent nor one of the daemon loses a line. Labels of images are never
// copied to containers.
//
// The engine keeps nothing that it cannot find again: List reads everything from the daemon.
// Goroutines: one per Events call, those of attached streams, and those of the client.
package containerd

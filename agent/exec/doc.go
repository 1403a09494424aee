// Package exec serves the sessions that servers open towards the processes of a node: further
// commands in a container, the standard streams of a one-off, copies of files, and connections to
// the ports of a process.
//
// A session is a stream of frames both ways. Input waits in the stream, so that a process that
// does not read slows its own client only. Files are reached through the process's root in /proc
// and package os.Root, which no link inside the container leads out of; the image needs no tar.
// The agent's rights are the node's: it opens regular files only, and replaces what is there
// instead of writing into it.
package exec

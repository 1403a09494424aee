// Command sliplog writes the output of one container to its log. It is started by containerd's
// shim as a binary logger (a "binary://" URI) and lives exactly as long as the output: neither
// a restart of the agent nor one of containerd touches it, and it never blocks the application.
//
// The protocol: descriptors 3 and 4 are the read ends of the container's stdout and stderr;
// descriptor 5 is closed once sliplog is ready. The arguments are pairs, in any order:
//
//	dir <path>     where the log is kept; required
//	max <bytes>    bound of all segments together; 16 MiB if not given
//
// The format of the log is documented in package runtime/logfmt. Signals that would end sliplog
// are ignored: it ends at the end of its input. It imports only the standard library and
// runtime/logfmt, and uses about 3 MiB of memory. Goroutines: one per stream.
package main

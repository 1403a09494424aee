// Package logs keeps what processes write on this node and serves it: history, then what
// comes, without a gap.
//
// A process has a directory with a description and two logs in the format of runtime/logfmt:
// out, which cmd/sliplog writes, and system, which the agent writes. A reader has its own
// position in the files: a slow one falls behind, and when the oldest segment is removed under
// it, it gets a line that says how many it missed. Nothing here can block an app.
package logs

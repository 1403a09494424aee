// Package control answers the CLI and other clients of a rack: it implements pb.ControlServer,
// one file per area.
//
// A call reads one linearizable view, decides, and proposes at most a few commands. IDs, times
// and sealed secrets are made here, before a command enters the log. IDs are derived from the
// request ID of the call where it has one, so that a call that is tried again names the same
// objects and changes nothing twice.
//
// Who may call what was decided before, by the interceptors of server/auth; here an app only
// disappears from lists when the caller may not see it.
//
// Streams hold no state of their own: they follow the views of the store, and end with their
// call. Bytes of processes come from the agents through Agents and are never stored here.
//
// RunFinisher is the only loop: it belongs to the leader and turns a build that ended well
// into a release.
package control

// Package runtime says what an agent needs from a container engine, in interfaces of at most
// five methods, and holds the types that go over them.
//
// Package containerd is the engine that racks run; package fake is a small honest one in
// memory, for tests. Both pass the suite in package runtimetest. Package logfmt is the format
// of the files that a container's output is kept in.
//
// # Rules that every engine keeps
//
// A container has the ID of its process, and carries only the labels that were given to it:
// labels of the image never reach the engine. Create makes everything but the start, Start
// runs the main process, Remove ends and removes whatever is left and may be called any number
// of times at any moment. Containers outlive the agent and, where the engine is a daemon, the
// daemon. An exit code is kept until Remove, so that an agent that was away still learns it
// from List. All that was written before an exit is in the log a moment later; the mark of the
// log's end may wait until a moment after Remove.
//
// Errors are *api.Error: CodeNotFound for a container or image that is not there, CodeConflict
// for an ID that is taken or a state that forbids the call, CodeInvalid for a spec or an image
// that can never run, CodeDenied for a registry that refuses, CodeUnavailable for an engine or
// registry that does not answer.
//
// The package is imported by agent and by its engines, and imports only package api.
package runtime

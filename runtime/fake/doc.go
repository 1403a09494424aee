// Package fake is a container engine in memory, for tests. It keeps the rules of package
// runtime (it passes the suite in runtimetest) and has knobs for what goes wrong: slow and
// failing pulls, starts that fail, processes that end, ignore SIGTERM or run out of memory, a
// daemon that is away, helpers that die.
//
// A container runs a Program: a function in place of an executable. Signals arrive on a
// channel, SIGKILL ends its context. Output goes to the log directory of the spec, in the
// format of runtime/logfmt, or to Attach.
//
// It works in testing/synctest bubbles: it waits only on channels, conditions and timers.
// Goroutines: one per running process, which ends with it; Close kills all and waits.
package fake

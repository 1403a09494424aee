// Package steps is what the decisions of the leader have in common. Each lives in a small
// package of its own below and has the same shape:
//
//	func Step(v *state.View, ch state.Changes, in steps.Input) (cmds []state.Command, wake time.Time)
//
// A step is pure and level-triggered: it sees the whole present, changes only tell it where to
// look. It is idempotent: asked again about a state in which its commands were applied, it has
// none. wake is when it has work without a change, zero for never.
package steps

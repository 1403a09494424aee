// Package drain empties nodes that are to go of the copies that run once on every node. Those of
// other services are replaced by the rollout, at their service's pace; one-offs and builds get to
// their own end.
package drain

// Package drain empties nodes that are to go. A copy of a service leaves only as far as enough
// others are ready elsewhere, and comes back on another node before the next one leaves;
// one-offs and builds get to their own end.
package drain

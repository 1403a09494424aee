// Package reap removes records that nobody needs any more: old processes, deployments,
// releases and builds beyond what is kept for explanation and rollback, answered requests, and
// deleted apps once nothing of them lives.
package reap

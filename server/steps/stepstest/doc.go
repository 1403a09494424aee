// Package stepstest plays whole deployments as text, in virtual time: a real state, the
// decisions under test, and agents that follow a script. A reader sees what the leader decided
// and when.
package stepstest

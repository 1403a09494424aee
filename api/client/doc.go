// Package client speaks to a rack in the nouns of package api.
//
// Dial returns a Client; each area of the rack has one file of methods. Every error that a
// rack answers with is an *api.Error. Calls that write carry a request ID, so that trying one
// again, as the client does when the rack elects a new leader, changes nothing twice.
//
// What is followed (WatchDeployment, WatchBuild, Logs, Events) is told to a function until it ends,
// the context does, or the function returns an error, which is the result then. A connection that
// breaks meanwhile is an error with api.CodeUnavailable: the rack goes on, and can be followed again.
//
// A Client may be used by many goroutines at once.
package client

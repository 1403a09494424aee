// Package builds turns a build that was asked for into a process of kind build, and fails the
// build when its process ended without a result.
//
// A build that ended well is left alone: its release needs the environment, which only the
// keyring opens, and so the control service makes it and proposes EndBuild.
package builds

// Package builds turns a build that was asked for into a process of kind build, and fails the
// build when its process ended without a result. A build that ended well becomes a release by
// the hand of the control service, which can read the environment; this step cannot.
package builds

// Package rollout moves services from one release to the next: it decides how many copies of
// which release should be alive now (Service.Want) and how a deployment ends.
//
// A service moves by its own minimum and maximum; the app is atomic: one failed service takes
// all back. Outside deployments it keeps Want equal to the active release and its scale, so
// that a changed scale or a restart takes effect at the same pace.
package rollout

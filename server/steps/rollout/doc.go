// Package rollout moves services from one release to the next: it decides how many copies of
// which release should be alive now (Service.Want) and how a deployment ends.
//
// A service moves by its own minimum and maximum; the app is atomic: one failed service takes
// all back. Outside deployments it keeps Want equal to the active release and its scale, so
// that a changed scale, a restart or the drain of a node takes effect at the same pace: the
// successor starts first wherever the maximum leaves room for it.
package rollout

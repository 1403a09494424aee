// Package rack holds the end-to-end tests: a real rack in processes of its own, with real
// containers, images built by the rack, and requests through its router.
//
// Each test has its own rack: data directory, ports, containerd, bridge and firewall table; the
// stories of TestOneRack share one, each with an app of its own. A test that ends compares the
// machine with what it was before. They need root and Linux. TestAppsOfOthers builds in the
// rack from the module proxy, as any user's build would.
package rack

// Package build makes images on a node: it turns an uploaded source, or the name of a foreign
// image, into images in the rack's registry. It is the only package that imports BuildKit.
//
// # Two processes
//
// The engine (BuildKit as a library: solver, Dockerfile frontend, runc, overlayfs) lives in a
// child process, which ChildMain is. Builder is the other half, in the agent: Builder.Run
// starts the child when a build needs it and stops it when none has for a while, for an idle
// engine holds memory. The child is the first process of its own pid, mount and network
// namespaces and dies with the agent, so that after a kill -9 of either the kernel has ended
// every step and dropped every mount, network and runc state. What stays is the cache, which
// the next child opens, and empty cgroups, which the next start removes.
//
// # What a build may reach
//
// A Dockerfile is code of a stranger. Each step has a network namespace of its own on a bridge
// that leads nowhere but to a relay in the child; the relay opens TCP connections from the
// machine's own namespace, to every address but loopback, link-local (which is where clouds
// keep credentials), the machine's own addresses and the networks in Config.Deny. The engine
// itself lives in that network as well, so that ADD of a URL, git and foreign registries are
// held to the same rule; only the rack's registry has a way of its own. Names are resolved by
// the machine's name servers. UDP, ICMP and IPv6 do not leave. Nothing is changed on the
// machine: no bridge, address, route, firewall rule or sysctl.
//
// "# syntax=" lines are ignored, entitlements (host network, insecure steps) are not given,
// images of other apps are refused by a source policy, all steps share one limit of memory and of
// processes, the engine has one of its own, a build has an hour, and a source archive is unpacked
// with Unpack, which trusts nothing.
//
// # Where images are found
//
// A name in FROM, or of a service with an image, is looked for in the rack's registry under
// the same repository ("library/busybox") and then where it leads. Results are pushed to the
// app's repository and named by digest.
//
// # Goroutines
//
// Run owns the child and a goroutine that waits for it; Build owns what it starts and returns
// after it has ended. A Builder may run any number of builds at once.
package build

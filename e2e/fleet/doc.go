// Package fleet runs a rack of thousands of nodes on one machine: three real servers, each a
// process of its own with a disk of its own, and light agents that join, attach, report and beat
// by the real protocol, over connections and with certificates of their own. What they run is
// made up: a process runs and is healthy as soon as it is assigned. The agents of a fleet share
// one process, which tests and measurements are in.
package fleet

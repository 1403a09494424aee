// Package dns answers the names of a rack on one node: <service>.<app>.<rack>.local, for healthy
// processes only. <service>.<app> alone is answered as well where the app's name is no top-level
// domain of the outside. Anything else goes to the name servers of the machine.
//
// The table is replaced whole; a query reads one immutable table and takes no lock. Goroutines:
// one listener each for UDP and TCP, and one per query; a bounded number of them may wait for
// other name servers.
package dns

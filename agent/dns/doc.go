// Package dns answers the names of a rack on one node: <service>.<app>.<rack>.local, for healthy
// processes only. Anything else goes to the name servers of the machine.
//
// The table is replaced whole; a query reads one immutable table and takes no lock. Goroutines:
// one listener each for UDP and TCP, and one per query.
package dns

// Package dns answers the names of a rack on one node: <service>.<app>.<rack>.local, for healthy
// processes only. <service>.<app> alone is answered as well where the app's name is no top-level
// domain of the outside. Where the servers tell ports, _<service>._tcp.<app>.<rack>.local
// has SRV records, whose targets are the names of single processes:
// <address with dashes>.<service>.<app>.<rack>.local. An address of the rack has that name as well.
// Anything else goes to the name servers of the machine.
//
// There is no IPv6: an AAAA question for a name that exists gets an empty answer. Answers may be
// kept for 2 seconds, the absence of a name for one. Nobody outside is answered.
//
// The table is replaced whole; a query reads one immutable table and takes no lock. Goroutines:
// one listener each for UDP and TCP, and one per query; a bounded number of them may wait for
// other name servers.
package dns

// Package link carries Raft between the servers of one rack.
//
// Each connection is TLS with a certificate on both sides. Only servers of the same rack get
// through: an agent's certificate, or one of another rack, is refused at the handshake. After it
// both ends compare their epoch, which changes when a rack is recovered from a survivor: servers
// of before cannot take part in what came after (raftstore.Recover).
//
// Goroutines: one accepts, and one for each connection until its greeting is over.
package link

package server

import (
	"net"
	"runtime"

	"google.golang.org/grpc/credentials"
)

// handshakes leave processors to the work of a server that leads: when another server becomes the
// leader all agents come to it at once, and a leader that only greets them is not one for long. Half of
// the processors compute handshakes at any moment; who waits for the other end holds none.
type handshakes struct {
	credentials.TransportCredentials
	turns chan struct{} // holds one for each handshake that computes
}

func newHandshakes(c credentials.TransportCredentials) handshakes {
	return handshakes{TransportCredentials: c, turns: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2))}
}

// ServerHandshake greets one who connects.
func (h handshakes) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	in := &greeting{Conn: raw, turns: h.turns}
	h.turns <- struct{}{}
	defer func() {
		in.over = true
		<-h.turns
	}()
	return h.TransportCredentials.ServerHandshake(in)
}

// Clone returns credentials that share the turns.
func (h handshakes) Clone() credentials.TransportCredentials {
	return handshakes{TransportCredentials: h.TransportCredentials.Clone(), turns: h.turns}
}

// greeting is a connection that gives its turn away while it waits, until its handshake is over.
type greeting struct {
	net.Conn
	turns chan struct{}
	over  bool // written by the handshake before anybody else has the connection
}

// Read waits without a turn.
func (g *greeting) Read(b []byte) (int, error) {
	if g.over {
		return g.Conn.Read(b)
	}
	<-g.turns
	defer func() { g.turns <- struct{}{} }()
	return g.Conn.Read(b)
}

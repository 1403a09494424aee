package server

import (
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"google.golang.org/grpc/credentials"
)

// TestSilenceHoldsNoTurn: whoever connects and says nothing keeps nobody else from being greeted, and
// a connection takes no turn once it is greeted.
func TestSilenceHoldsNoTurn(t *testing.T) {
	https := httptest.NewTLSServer(http.NotFoundHandler())
	defer https.Close()
	h := newHandshakes(credentials.NewTLS(&tls.Config{Certificates: https.TLS.Certificates}))
	greeted := make(chan net.Conn, 1)
	for range cap(h.turns) + 3 {
		here, there := net.Pipe()
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			if _, _, err := h.ServerHandshake(here); err == nil {
				t.Error("silence is a handshake")
			}
		}()
		defer func() {
			there.Close()
			<-ended
		}()
	}
	here, there := net.Pipe()
	go func() {
		conn, _, err := h.Clone().(handshakes).ServerHandshake(here)
		if err != nil {
			t.Error(err)
		}
		greeted <- conn
	}()
	conf := https.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	conf.NextProtos, conf.ServerName = []string{"h2"}, "example.com"
	caller := tls.Client(there, conf)
	defer there.Close()
	if err := caller.HandshakeContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	conn := <-greeted
	if conn == nil {
		t.FailNow()
	}
	for range cap(h.turns) {
		h.turns <- struct{}{}
	}
	said := make(chan error, 1)
	go func() {
		_, err := caller.Write([]byte("x"))
		said <- err
	}()
	if n, err := conn.Read(make([]byte, 1)); n != 1 || err != nil {
		t.Errorf("read %d, %v while no turn is free", n, err)
	}
	if err := <-said; err != nil {
		t.Error(err)
	}
	for range cap(h.turns) {
		<-h.turns
	}
}

package exec

import (
	"bytes"
	"io"
	"net"
	"os"
	"testing"

	"slipway/api"
	"slipway/api/pb"
)

// echo serves one connection on an address of this machine: it sends back what comes, after a
// greeting, and ends when the other side does.
func echo(t *testing.T, network, addr string) (port uint32) {
	t.Helper()
	l, err := net.Listen(network, addr)
	if err != nil {
		t.Skip(err) // a machine without IPv6
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "hello ") // the client reads it or fails the test
		_, _ = io.Copy(conn, conn)
	}()
	return uint32(l.Addr().(*net.TCPAddr).Port)
}

func TestProxyCarriesBytesBothWays(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("enters a network namespace, which needs root")
	}
	big := bytes.Repeat([]byte("x"), 1<<20)
	for _, c := range []struct{ name, network, addr string }{{"IPv4", "tcp4", "127.0.0.1:0"}, {"IPv6", "tcp6", "[::1]:0"}} {
		t.Run(c.name, func(t *testing.T) {
			w := newWire()
			defer close(w.in)
			ended := serve(t, &chrooted{pids: []int{os.Getpid()}}, &pb.Open{Kind: "proxy", Port: echo(t, c.network, c.addr)}, w)
			w.in <- stdin(string(big))
			w.in <- stdin("end")
			w.in <- &pb.Frame{Kind: &pb.Frame_StdinClose{StdinClose: true}}
			must(t, <-ended)
			out, _, code := w.got()
			if want := "hello " + string(big) + "end"; out != want || code != 0 || w.widest > chunk {
				t.Errorf("%d bytes came back of %d, code %d, frames of up to %d bytes", len(out), len(want), code, w.widest)
			}
		})
	}
}

func TestProxiesThatCannotBe(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("enters a network namespace, which needs root")
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	must(t, err)
	closed := uint32(l.Addr().(*net.TCPAddr).Port)
	must(t, l.Close())
	for _, c := range []struct {
		name string
		pids []int
		port uint32
	}{
		{"nothing listens", []int{os.Getpid()}, closed},
		{"a process that has changed its number", []int{os.Getpid(), 1}, echo(t, "tcp4", "127.0.0.1:0")},
	} {
		w := newWire()
		err := <-serve(t, &chrooted{pids: c.pids}, &pb.Open{Kind: "proxy", Port: c.port}, w)
		close(w.in)
		if out, _, code := w.got(); api.CodeOf(err) != api.CodeConflict || out != "" || code != -1 {
			t.Errorf("%s: %v, %q, code %d", c.name, err, out, code)
		}
	}
}

// TestProxyOfAClientThatGoes: neither side is left with half a connection.
func TestProxyOfAClientThatGoes(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("enters a network namespace, which needs root")
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	w := newWire()
	ended := serve(t, &chrooted{pids: []int{os.Getpid()}}, &pb.Open{Kind: "proxy", Port: uint32(l.Addr().(*net.TCPAddr).Port)}, w)
	conn, err := l.Accept()
	must(t, err)
	defer conn.Close()
	close(w.in)
	if err := <-ended; err == nil {
		t.Error("a session whose client has gone ended well")
	}
	_, _ = io.Copy(io.Discard, conn) // ends: the agent has closed its end
}

package network

import (
	"fmt"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"slipway/e2e/bench"
)

// TestBench writes the rows of the network to the file in SLIPWAY_BENCH_NET: what one stream of TCP
// carries from a process of one node to a process of another, beside what the link between the nodes
// carries by itself. Both are measured in turns, so that a busy machine slows both.
func TestBench(t *testing.T) {
	rows := bench.To(t, "SLIPWAY_BENCH_NET")
	const rounds = 9
	for _, mode := range []struct {
		name   string
		direct Direct
	}{{"vxlan", DirectNever}, {"direct", DirectAuto}} {
		hosts, _ := rack(t, 2, mode.direct)
		a, b := hosts[0].process("pone"), hosts[1].process("ptwo")
		bare, over := sink(t, hosts[1].ns), sink(t, b.NetNS)
		var raw, ours []float64
		for range rounds {
			raw = append(raw, stream(t, hosts[0].ns, fmt.Sprint(hosts[1].cfg.Underlay, ":", bare)))
			ours = append(ours, stream(t, a.NetNS, fmt.Sprint(b.Addr, ":", over)))
		}
		note := fmt.Sprintf("one TCP stream between processes of two nodes, %s; both ends on one machine; median of %d, %.1f to %.1f against %.1f to %.1f",
			mode.name, rounds, slices.Min(ours), slices.Max(ours), slices.Min(raw), slices.Max(raw))
		rows.Add("net_over_veth_"+mode.name, bench.Median(ours), "Gbit/s", "raw veth and bridge", bench.Median(raw), note)
	}
}

// sink reads whatever comes to a port of a namespace, and answers with a byte at the end.
func sink(t *testing.T, ns string) (port int) {
	t.Helper()
	err := within(t, ns, func() error {
		l, err := net.Listen("tcp4", ":0")
		if err != nil {
			return err
		}
		t.Cleanup(func() { l.Close() })
		port = l.Addr().(*net.TCPAddr).Port
		go func() {
			for c, err := l.Accept(); err == nil; c, err = l.Accept() {
				buffer := make([]byte, 1<<18)
				for _, err := c.Read(buffer); err == nil; _, err = c.Read(buffer) {
				}
				c.Write([]byte("."))
				c.Close()
			}
		}()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// stream sends for a second and returns Gbit/s, until the last byte has arrived.
func stream(t *testing.T, ns, addr string) float64 {
	t.Helper()
	var c net.Conn
	if err := within(t, ns, func() (err error) { c, err = net.Dial("tcp4", addr); return err }); err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	buffer, sent, began := make([]byte, 1<<18), 0, time.Now()
	for time.Since(began) < time.Second {
		k, err := c.Write(buffer)
		if err != nil {
			t.Fatal(err)
		}
		sent += k
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(c); err != nil {
		t.Fatal(err)
	}
	return float64(sent) * 8 / time.Since(began).Seconds() / 1e9
}

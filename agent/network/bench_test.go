package network

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"testing"
	"time"
)

// benchRow is one line of `make bench`.
type benchRow struct {
	Name         string  `json:"name"`
	Value        float64 `json:"value"`
	Unit         string  `json:"unit"`
	Against      string  `json:"against"`
	AgainstValue float64 `json:"against_value"`
	Ratio        float64 `json:"ratio"`
	Note         string  `json:"note"`
}

// TestBench writes the rows of the network to the file in SLIPWAY_BENCH_NET: what one stream of TCP
// carries from a process of one node to a process of another, beside what the link between the nodes
// carries by itself. Both are measured in turns, so that a busy machine slows both.
func TestBench(t *testing.T) {
	file := os.Getenv("SLIPWAY_BENCH_NET")
	if file == "" {
		t.Skip("set SLIPWAY_BENCH_NET to a file, or run: make bench")
	}
	const rounds = 9
	var rows []benchRow
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
		slices.Sort(raw)
		slices.Sort(ours)
		value, peer := ours[rounds/2], raw[rounds/2]
		rows = append(rows, benchRow{"net_over_veth_" + mode.name, value, "Gbit/s", "raw veth and bridge", peer, value / peer,
			fmt.Sprintf("one TCP stream between processes of two nodes, %s; both ends on one machine; median of %d, %.1f to %.1f against %.1f to %.1f",
				mode.name, rounds, ours[0], ours[rounds-1], raw[0], raw[rounds-1])})
	}
	doc, err := json.MarshalIndent(rows, "", "  ")
	if err == nil {
		err = os.WriteFile(file, doc, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		t.Logf("%s %.2f %s, %.2f of %.2f: %s", r.Name, r.Value, r.Unit, r.Ratio, r.AgainstValue, r.Note)
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

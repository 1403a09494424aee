package health

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
)

// socketsMax bounds what is reported.
const socketsMax = 20

// Sockets lists what the network namespace of a process listens on, as "tcp 0.0.0.0:80", from
// /proc/<pid>/net (proc(5)).
func Sockets(pid int) ([]string, error) {
	var out []string
	for _, file := range []string{"tcp", "tcp6"} {
		f, err := os.Open(fmt.Sprintf("/proc/%d/net/%s", pid, file))
		if err != nil {
			return nil, fmt.Errorf("sockets of process %d: %w", pid, err)
		}
		lines := bufio.NewScanner(f)
		for lines.Scan() && len(out) < socketsMax {
			if addr, ok := listening(lines.Text()); ok && !slices.Contains(out, addr) {
				out = append(out, addr)
			}
		}
		f.Close()
	}
	slices.Sort(out)
	return out, nil
}

// listening reads one line of /proc/net/tcp; false for a socket in any other state.
func listening(line string) (string, bool) {
	const stateListen = "0A"
	fields := strings.Fields(line)
	if len(fields) < 4 || fields[3] != stateListen {
		return "", false
	}
	host, port, ok := strings.Cut(fields[1], ":")
	if !ok {
		return "", false
	}
	var p uint16
	if _, err := fmt.Sscanf(port, "%04X", &p); err != nil {
		return "", false
	}
	raw, err := hex.DecodeString(host)
	if err != nil || len(raw)%4 != 0 {
		return "", false
	}
	for i := 0; i < len(raw); i += 4 { // words are in the byte order of the machine, little-endian
		slices.Reverse(raw[i : i+4])
	}
	return "tcp " + net.JoinHostPort(net.IP(raw).String(), fmt.Sprint(p)), true
}

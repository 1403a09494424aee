package cluster

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"slipway/api/client"
)

// The cycles of TestNothingLeaks: rounds of so many copies that start, are killed or asked to stop,
// and go.
const (
	leakRounds = 25
	leakCopies = 12
)

// TestNothingLeaks starts, stops and kills 300 processes on one node and compares what is left
// with what there was before.
func TestNothingLeaks(t *testing.T) {
	r := start(t, 1, 1)
	r.deploy("shop", leakCopies)
	r.complete("shop", leakCopies)
	none := func() {
		t.Helper()
		r.must("scale", "web", "--count", "0", "-a", "shop")
		r.await("end of all copies", time.Minute, func() (string, bool) {
			n, where := r.running()
			list, err := r.Processes(t.Context(), client.ProcessFilter{App: "shop"})
			return fmt.Sprint(where, err), n == 0 && err == nil && len(list) == 0
		})
	}
	none()
	before := r.left()
	for round := range leakRounds {
		r.must("scale", "web", "--count", fmt.Sprint(leakCopies), "-a", "shop")
		r.complete("shop", leakCopies)
		if round%2 == 1 { // half of them do not go willingly
			list, err := r.Cluster.Nodes()[0].Processes()
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range list {
				if len(p.Args) > 0 && p.Args[0] == "/testapp" {
					if q, err := os.FindProcess(p.PID); err == nil {
						_ = q.Kill() // it may have ended
					}
				}
			}
		}
		none()
	}
	var last map[string]int
	r.await("as little as before", idleMax, func() (string, bool) {
		last = r.left()
		var more []string
		for what, n := range last {
			if n > before[what]+slack[what] {
				more = append(more, fmt.Sprintf("%d %s, %d before", n, what, before[what]))
			}
		}
		slices.Sort(more)
		if len(more) > 0 {
			more = append(more, r.sockets())
		}
		return strings.Join(more, "\n"), len(more) == 0
	})
	t.Logf("%d processes later: %v, before: %v", leakRounds*leakCopies, last, before)
}

// idleMax is longer than any connection is kept for its next use: what has leaked stays longer.
const idleMax = 3 * time.Minute

// slack is what may grow a little for reasons of its own: idle connections, and what waits for them.
var slack = map[string]int{"descriptors socket:[N]": 6, "goroutines of slipwayd": 12}

// digits stand for what tells one descriptor from another of its kind.
var digits = regexp.MustCompile(`[0-9]+`)

// left counts what processes could leave behind on the node.
func (r *rack) left() map[string]int {
	r.t.Helper()
	node := r.Cluster.Nodes()[0]
	out := map[string]int{}
	list, err := node.Processes()
	if err != nil {
		r.t.Fatal(err)
	}
	for _, p := range list {
		name := "processes"
		if len(p.Args) > 0 && strings.Contains(p.Args[0], "shim") {
			name = "shims"
		}
		out[name]++
		if len(p.Args) > 1 && strings.HasSuffix(p.Args[0], "slipwayd") && p.Args[1] == "agent" {
			dir := fmt.Sprintf("/proc/%d/fd/", p.PID)
			fds, err := os.ReadDir(dir)
			if err != nil {
				r.t.Fatal(err)
			}
			for _, fd := range fds {
				to, _ := os.Readlink(dir + fd.Name()) // it may be closed
				out["descriptors "+digits.ReplaceAllString(to, "N")]++
			}
		}
	}
	for what, script := range map[string]string{
		"network namespaces":     "ls /run/slipway/*/net/netns | wc -l",
		"links":                  "ip -o link | wc -l",
		"addresses":              "ip -o addr | wc -l",
		"routes":                 "ip route show table all | grep -v multicast | wc -l",
		"rules":                  "nft list ruleset | wc -l",
		"mounts":                 "wc -l < /proc/self/mountinfo",
		"control groups":         "find /sys/fs/cgroup -type d -path '*slipway*' | wc -l",
		"files of containers":    "find /run/slipway -path '*containers*' | wc -l",
		"goroutines of slipwayd": "busybox wget -qO- http://127.0.0.1:7423/metrics | awk '/^go_goroutines/ {print $2}'",
	} {
		cmd := node.Command(r.t.Context(), "sh", "-c", script)
		cmd.Env = append(os.Environ(), "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
		b, err := cmd.Output()
		n := 0
		if _, scan := fmt.Sscan(string(b), &n); err != nil || scan != nil {
			r.t.Fatalf("count %s: %q %v", what, b, err)
		}
		out[what] = n
	}
	return out
}

// sockets lists those of the node's processes, for who looks for one too many.
func (r *rack) sockets() string {
	cmd := r.Cluster.Nodes()[0].Command(r.t.Context(), "/usr/bin/ss", "-Hanp", "-A", "inet,unix_stream,netlink")
	b, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Sprintf("sockets: %v %s", err, b)
	}
	lines := slices.DeleteFunc(strings.Split(string(b), "\n"), func(l string) bool { return !strings.Contains(l, `"slipwayd"`) })
	return strings.Join(lines, "\n")
}

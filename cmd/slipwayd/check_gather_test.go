package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"slipway/api"
)

func TestReadsFirewalls(t *testing.T) {
	got, err := nftChains([]byte(`{"nftables": [{"metainfo": {"version": "1.0.6"}},
{"chain": {"family": "ip", "table": "filter", "name": "FORWARD", "handle": 2, "type": "filter", "hook": "forward", "prio": 0, "policy": "drop"}},
{"chain": {"family": "ip", "table": "filter", "name": "ufw-before-forward", "handle": 3}},
{"chain": {"family": "ip", "table": "nat", "name": "POSTROUTING", "hook": "postrouting", "policy": "accept"}},
{"chain": {"family": "inet", "table": "own", "name": "in", "hook": "input", "policy": "accept"}}]}`))
	want := []chainFact{
		{family: "ip", table: "filter", name: "FORWARD", hook: "forward", policy: "drop", ufw: true},
		{family: "inet", table: "own", name: "in", hook: "input", policy: "accept"},
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
	if _, err := nftChains([]byte("no JSON")); err == nil {
		t.Error("read what is no JSON")
	}
	got = legacyChains("-P INPUT ACCEPT\n-P FORWARD DROP\n-P OUTPUT ACCEPT\n-N DOCKER\n-A FORWARD -j DOCKER\n")
	want = []chainFact{
		{family: "ip", table: "filter", name: "INPUT", hook: "input", policy: "accept", legacy: true},
		{family: "ip", table: "filter", name: "FORWARD", hook: "forward", policy: "drop", legacy: true},
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %+v", got)
	}
}

func TestReadsSystemFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	swap := swapOf(write("swaps", "Filename\tType\tSize\tUsed\tPriority\n/dev/sda2 partition 1048576 0 -2\n/swapfile file 1024 0 -3\n"))
	if swap.size != api.GiB+api.MiB || !slices.Equal(swap.devices, []string{"/dev/sda2", "/swapfile"}) {
		t.Errorf("swap %+v", swap)
	}
	for text, want := range map[string]string{
		"0::/system.slice/nginx.service\n":                                          "nginx.service",
		"12:pids:/system.slice/docker.service/sub\n0::/\n":                          "docker.service",
		"0::/user.slice/user-0.slice/user@0.service/app.slice/x.scope":              "",
		"0::/user.slice/user-1000.slice/user@1000.service/app.slice/mine.service\n": "mine.service",
		"0::/\n": "", "": "",
	} {
		if got := unitOf(text); got != want {
			t.Errorf("unit of %q: %q", text, got)
		}
	}
	write("v1/cpu,cpuacct/cgroup.procs", "")
	write("v1/memory/cgroup.procs", "")
	write("v1/memory/memory.memsw.limit_in_bytes", "")
	write("v1/systemd/cgroup.procs", "")
	if c := lookAtCgroups(filepath.Join(dir, "v1")); c.version != 1 || !slices.Equal(c.controllers, []string{"cpu", "cpuacct", "memory"}) || !c.boundsSwap || c.writable != "" {
		t.Errorf("version 1: %+v", c)
	}
	write("v2/cgroup.controllers", "cpu memory pids\n")
	write("v2/init.scope/memory.swap.max", "max")
	if c := lookAtCgroups(filepath.Join(dir, "v2")); c.version != 2 || len(c.controllers) != 3 || !c.boundsSwap || c.writable != "" {
		t.Errorf("version 2: %+v", c)
	}
	if c := lookAtCgroups(filepath.Join(dir, "none")); c.version != 0 {
		t.Errorf("none: %+v", c)
	}
}

// checked runs the command for real and returns its document.
func checked(t *testing.T, args ...string) (checkReport, error) {
	t.Helper()
	var out bytes.Buffer
	failed := run(t.Context(), append([]string{"check", "--json"}, args...), nil, &out, t.Output())
	var doc checkReport
	if err := json.Unmarshal(out.Bytes(), &doc); err != nil {
		t.Fatalf("%v: %v: %s", failed, err, out.String())
	}
	return doc, failed
}

func (r checkReport) find(check, object string) finding {
	for _, f := range r.Findings {
		if f.Check == check && f.Object == object {
			return f
		}
	}
	return finding{}
}

// TestCheckThisMachine looks at the machine of the test: what it says is compared with what is
// known otherwise, and nothing is left behind.
func TestCheckThisMachine(t *testing.T) {
	dir := t.TempDir()
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	port := fmt.Sprint(busy.Addr().(*net.TCPAddr).Port)
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refused := gone.Addr().String()
	if err := gone.Close(); err != nil {
		t.Fatal(err)
	}
	before := traces(t)
	doc, failed := checked(t, "--role", "agent", "--dir", filepath.Join(dir, "not", "there"), "--listen", "127.0.0.1", "--http", port, "--peer", busy.Addr().String(), "--peer", refused)
	if !errors.Is(failed, errUnfit) || doc.Ready || doc.Role != roleAgent {
		t.Errorf("%v, ready %v, role %s", failed, doc.Ready, doc.Role)
	}
	if f := doc.find("port", "tcp/"+port); f.Status != statusFailed || !strings.Contains(f.Message, fmt.Sprintf("(process %d) has it", os.Getpid())) {
		t.Errorf("a port that this test has: %+v", f)
	}
	if f := doc.find("peer", busy.Addr().String()); f.Status != statusOK {
		t.Errorf("a peer that is there: %+v", f)
	}
	if f := doc.find("peer", refused); f.Status != statusFailed {
		t.Errorf("a peer that is not there: %+v", f)
	}
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		t.Fatal(err)
	}
	if f := doc.find("kernel", ""); !strings.HasPrefix(f.Message, unix.ByteSliceToString(uts.Release[:])) {
		t.Errorf("kernel: %+v", f)
	}
	if f := doc.find("sync", filepath.Join(dir, "not", "there")); !strings.Contains(f.Message, "(p99)") {
		t.Errorf("syncs: %+v", f)
	}
	if os.Geteuid() == 0 {
		for _, name := range []string{"overlay", "bridge", "veth", "vxlan", "nftables"} {
			if f := doc.find("kernel", name); f.Status != statusOK {
				t.Errorf("kernel: %+v", f)
			}
		}
	}
	if after := traces(t); !slices.Equal(before, after) {
		t.Errorf("traces before and after:\n%q\n%q", before, after)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left in the directory: %v, %v", left, err)
	}
}

// traces lists what a check could leave on the machine.
func traces(t *testing.T) (out []string) {
	t.Helper()
	for _, pattern := range []string{"/sys/class/net/check-*", "/sys/fs/cgroup/slipway-check-*", "/sys/fs/cgroup/*/slipway-check-*"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, found...)
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, ".slipway-check-") {
			out = append(out, line)
		}
	}
	return out
}

// TestCheckMeasuresClocks asks a registry whose clock is wrong.
func TestCheckMeasuresClocks(t *testing.T) {
	for wrong, want := range map[time.Duration]outcome{0: statusOK, -time.Hour: statusFailed, time.Minute: statusFailed} {
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Date", time.Now().Add(wrong).UTC().Format(http.TimeFormat))
		}))
		s.Config.ErrorLog = log.New(io.Discard, "", 0) // of connections that only time the way
		s.StartTLS()
		addr := s.Listener.Addr().String()
		p := askPeer(t.Context(), addr)
		s.Close()
		var out findings
		out.offset(p)
		if len(out) != 1 || out[0].Status != want {
			t.Errorf("a clock that is %s wrong: %+v of %+v", wrong, out, p)
		}
	}
}

// TestCheckFindsTheHolder: of two programs on one port, it names the one at the address that counts.
func TestCheckFindsTheHolder(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tcp")
	text := "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n" +
		"   0: 0100007F:1CFC 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 11 1\n" +
		"   1: 0B00000A:1CFC 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 12 1\n" +
		"   2: 0B00000A:1CFC 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 13 1\n" +
		"   3: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 14 1\n"
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		host string
		port int
		want string
	}{{"10.0.0.11", 7420, "13"}, {"127.0.0.1", 7420, "11"}, {"", 7420, "11"}, {"10.0.0.12", 7420, ""}, {"10.0.0.11", 80, "14"}, {"", 81, ""}} {
		if got := boundInode(file, api.TCP, c.host, c.port); got != c.want {
			t.Errorf("%s:%d: %q, want %q", c.host, c.port, got, c.want)
		}
	}
}

// TestCheckTellsErrorsOfPeersApart reaches for peers that cannot be reached, each in its way.
func TestCheckTellsErrorsOfPeersApart(t *testing.T) {
	if _, err := exec.LookPath("nft"); err != nil {
		t.Skip("nft is not installed")
	}
	inNetwork(t, func(ctx context.Context) error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		drop := exec.CommandContext(ctx, "nft", "-f", "-")
		drop.Stdin = strings.NewReader("table ip check {\n chain in {\n type filter hook input priority 0; policy accept;\n tcp dport 7420 drop\n }\n}\n")
		if err := errors.Join(netlink.LinkSetUp(lo), drop.Run()); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
		defer cancel()
		for _, c := range []struct {
			addr string
			want dialError
		}{{"127.0.0.1:7422", dialRefused}, {"192.0.2.1:7420", dialOther}, {"127.0.0.1:7420", dialSilent}} {
			if p := askPeer(ctx, c.addr); p.err != c.want || p.cause == "" {
				return fmt.Errorf("%s: %q, want %q: %s", c.addr, p.err, c.want, p.cause)
			}
		}
		return nil
	})
	if got := kindOf(fmt.Errorf("dial: %w", &net.DNSError{Err: "no such host", Name: "s1", IsNotFound: true})); got != dialUnknown {
		t.Errorf("a name that nobody has: %q", got)
	}
}

func TestCheckSaysWhatLosesData(t *testing.T) {
	var fs unix.Statfs_t
	if err := unix.Statfs("/dev/shm", &fs); err != nil || fs.Type != unix.TMPFS_MAGIC {
		t.Skip("/dev/shm is no tmpfs here")
	}
	doc, failed := checked(t, "--role", "server", "--listen", "127.0.0.1", "--dir", "/dev/shm/slipway-check-test")
	if f := doc.find("directory", "/dev/shm/slipway-check-test"); !errors.Is(failed, errUnfit) || f.Status != statusFailed || !strings.Contains(f.Message, "tmpfs") {
		t.Errorf("%v: %+v", failed, f)
	}
}

func TestCheckForPeople(t *testing.T) {
	var out bytes.Buffer
	if err := writeFindings(&out, roleServer, []finding{
		{Check: "kernel", Status: statusOK, Message: "6.1"},
		{Check: "port", Object: "tcp/80", Status: statusFailed, Message: "nginx has it", Fix: "systemctl stop nginx"},
		{Check: "clock", Status: statusWarning, Message: "loose"},
	}); err != nil {
		t.Fatal(err)
	}
	const want = `ok       kernel       6.1
FAILED   port tcp/80  nginx has it
                      → systemctl stop nginx
warning  clock        loose

3 checks: 1 failed, 1 warning
`
	if out.String() != want {
		t.Errorf("printed\n%s", out.String())
	}
}

func TestCheckRefusesWrongWords(t *testing.T) {
	for args, says := range map[string]string{
		"--role boss": "server, agent, dev", "--peer 10.0.0.1": "HOST:PORT", "--peer :7420": "HOST:PORT", "--listen eth0": "not an address",
		"--network 10.0.0": "not a network", "--network fd00::/64": "not a network", "--http 0": "between 1 and 65535", "--https 65536": "between 1 and 65535",
	} {
		err := run(t.Context(), append([]string{"check"}, strings.Fields(args)...), nil, t.Output(), t.Output())
		if exitCode(err) != 2 || !strings.Contains(fmt.Sprint(err), says) {
			t.Errorf("%s: %v", args, err)
		}
	}
}

// inNetwork calls f in a network namespace of its own.
func inNetwork(t *testing.T, f func(context.Context) error) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to make a network namespace")
	}
	done := make(chan error)
	go func() {
		goruntime.LockOSThread() // and not given back: the network ends with the thread
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			err = f(t.Context())
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestCheckFindsRoutes has routes into the network of processes: of somebody else and of a rack.
func TestCheckFindsRoutes(t *testing.T) {
	inNetwork(t, func(context.Context) error {
		for name, addr := range map[string]string{"lan0": "10.99.0.1/24", "lan1": "10.0.0.1/16", "lan2": "10.0.0.2/8", "slw0": "10.64.3.1/24"} {
			link := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: name}}
			parsed, err := netlink.ParseAddr(addr)
			if err != nil {
				return err
			}
			if err := errors.Join(netlink.LinkAdd(link), netlink.LinkSetUp(link), netlink.AddrAdd(link, parsed)); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		var got []string
		for _, r := range overlaps(netip.MustParsePrefix("10.64.0.0/10")) {
			got = append(got, r.to.String()+" "+r.link)
		}
		slices.Sort(got)
		if want := []string{"10.0.0.0/8 lan2", "10.99.0.0/24 lan0"}; !slices.Equal(got, want) {
			return fmt.Errorf("found %q, want %q", got, want)
		}
		return nil
	})
}

// TestCheckFindsOverlays: a port that a device of the kernel has belongs to no process.
func TestCheckFindsOverlays(t *testing.T) {
	inNetwork(t, func(ctx context.Context) error {
		link := &netlink.Vxlan{LinkAttrs: netlink.LinkAttrs{Name: "flannel.1"}, VxlanId: 1, Port: vxlanPort}
		if err := errors.Join(netlink.LinkAdd(link), netlink.LinkSetUp(link)); err != nil {
			return err
		}
		for _, p := range tryPorts(ctx, &checkOptions{role: roleAgent, http: 80, https: 443}) {
			want := ""
			if p.port == vxlanPort {
				want = "flannel.1"
			}
			if p.holder.device != want || (p.err == "") != (want == "") {
				return fmt.Errorf("%s/%d: %+v", p.protocol, p.port, p)
			}
		}
		return nil
	})
}

// TestCheckFindsFirewalls makes a chain that drops, and carries out what is said to help.
func TestCheckFindsFirewalls(t *testing.T) {
	if _, err := exec.LookPath("nft"); err != nil {
		t.Skip("nft is not installed")
	}
	inNetwork(t, dropAndAccept)
}

func dropAndAccept(ctx context.Context) error {
	nft := func(script string) error {
		out, err := exec.CommandContext(ctx, "nft", script).CombinedOutput()
		if err != nil {
			return fmt.Errorf("nft %s: %w: %s", script, err, out)
		}
		return nil
	}
	if err := errors.Join(nft("add table inet site"), nft("add chain inet site fw { type filter hook forward priority 0; policy drop; }")); err != nil {
		return err
	}
	for _, want := range []outcome{statusFailed, statusOK} {
		var f facts
		f.chains, f.chainsError = chains(ctx)
		f.forwarding = true
		var out findings
		out.firewall(&checkOptions{role: roleAgent}, &f)
		if len(out) != 1 || out[0].Status != want {
			return fmt.Errorf("found %+v, want %s", out, want)
		}
		if fix, ok := strings.CutPrefix(out[0].Fix, "nft "); ok {
			if err := nft(strings.Trim(fix, "'")); err != nil {
				return err
			}
		}
	}
	return nil
}

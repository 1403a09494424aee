package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/client"
	"golang.org/x/sys/unix"

	"slipway/api"
)

const (
	cgroupRoot = "/sys/fs/cgroup"
	// programMax bounds how long a program may take to say its version.
	programMax = 5 * time.Second
)

// gather looks at the machine. It leaves nothing behind, also when it is killed: the file whose
// syncs are timed has no name, and what the kernel is asked to make is in namespaces of a thread.
func gather(ctx context.Context, o *checkOptions) *facts {
	f := &facts{root: os.Geteuid() == 0, installer: installer(), files: filesMax(), clock: clockNow(), swap: swapOf("/proc/swaps")}
	var uts unix.Utsname
	if unix.Uname(&uts) == nil {
		f.kernel = unix.ByteSliceToString(uts.Release[:])
	}
	f.dir = lookAtDir(o.dir)
	f.ports = tryPorts(ctx, o)
	f.peers = askPeers(ctx, o.peers)
	f.link = linkTo("")
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_forward")
	f.forwarding = err == nil && strings.TrimSpace(string(text)) == "1"
	f.chains, f.chainsError = chains(ctx)
	if o.role != roleDev {
		f.overlaps = overlaps(o.network)
	}
	if !o.role.runs() {
		return f
	}
	f.cgroup = lookAtCgroups(cgroupRoot)
	f.programs = lookAtPrograms(ctx)
	f.daemon = daemonVersion(ctx, o.containerd)
	if f.root {
		f.probes = probe(ctx, f.dir.tried)
	}
	return f
}

// installer finds the package manager of the machine.
func installer() string {
	for _, m := range []string{"apt-get", "dnf", "yum", "zypper"} {
		if _, err := exec.LookPath(m); err == nil {
			return m + " install -y"
		}
	}
	return ""
}

// filesMax is how many files a process may open: Go raises the soft limit to the hard one.
func filesMax() uint64 {
	var l unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &l) != nil {
		return 0
	}
	return l.Max
}

// clockNow asks the kernel what it thinks of its clock.
func clockNow() clockFacts {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	return clockFacts{
		synchronised: err == nil && state != unix.TIME_ERROR && t.Status&unix.STA_UNSYNC == 0,
		errorMax:     time.Duration(t.Maxerror) * time.Microsecond,
	}
}

// swapOf reads a file such as /proc/swaps (proc(5)); sizes in it are in KiB.
func swapOf(file string) (s swapFacts) {
	text, _ := os.ReadFile(file) // a kernel without swap has none
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) < 3 {
			continue
		}
		if kib, err := strconv.ParseInt(fields[2], 10, 64); err == nil {
			s.size += api.Bytes(kib) * api.KiB
			s.devices = append(s.devices, fields[0])
		}
	}
	return s
}

// lookAtCgroups finds out which control groups there are, and whether one can be made.
func lookAtCgroups(root string) (c cgroupFacts) {
	if text, err := os.ReadFile(filepath.Join(root, "cgroup.controllers")); err == nil {
		c.version = 2
		c.controllers = strings.Fields(string(text))
		bounds, _ := filepath.Glob(filepath.Join(root, "*", "memory.swap.max")) // the pattern is well formed
		c.boundsSwap = len(bounds) > 0
		c.writable = tryGroup(root)
		return c
	}
	found, _ := filepath.Glob(filepath.Join(root, "*", "cgroup.procs")) // the pattern is well formed
	for _, file := range found {
		name := filepath.Base(filepath.Dir(file))
		if name == "systemd" || name == "unified" {
			continue
		}
		c.version = 1
		for one := range strings.SplitSeq(name, ",") { // "cpu,cpuacct" is one hierarchy
			if !slices.Contains(c.controllers, one) {
				c.controllers = append(c.controllers, one)
			}
		}
		if c.writable == "" {
			c.writable = tryGroup(filepath.Dir(file))
		}
	}
	_, err := os.Stat(filepath.Join(root, "memory", "memory.memsw.limit_in_bytes"))
	c.boundsSwap = err == nil
	return c
}

// tryGroup makes a group and removes it; it returns what is in the way.
func tryGroup(parent string) string {
	dir := filepath.Join(parent, fmt.Sprintf("slipway-check-%d", os.Getpid()))
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err.Error()
	}
	if err := os.Remove(dir); err != nil {
		return err.Error()
	}
	return ""
}

// versionRule finds the first version in what a program says of itself.
var versionRule = regexp.MustCompile(`\d+\.\d+(\.\d+)?`)

// lookAtPrograms finds the programs that a node runs, on the path that agents have as well.
func lookAtPrograms(ctx context.Context) (out []programFact) {
	for _, p := range []struct {
		name string
		args []string // that make it say its version, nil for one that says none
	}{
		{"containerd", []string{"--version"}},
		{"containerd-shim-runc-v2", nil},
		{"runc", []string{"--version"}},
		{"nft", []string{"--version"}},
		{"ip", []string{"-V"}},
	} {
		out = append(out, lookAtProgram(ctx, p.name, p.args))
	}
	tini := programFact{name: "tini-static", path: initProgram()}
	logger := programFact{name: "sliplog"}
	if path, err := sliplog(); err == nil {
		logger.path = path
	}
	return append(out, tini, logger)
}

func lookAtProgram(ctx context.Context, name string, args []string) programFact {
	p := programFact{name: name}
	path, err := exec.LookPath(name)
	if err != nil {
		for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/local/sbin", "/usr/local/bin"} {
			if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
				p.aside = filepath.Join(dir, name)
				break
			}
		}
		return p
	}
	p.path = path
	if args == nil {
		return p
	}
	ctx, cancel := context.WithTimeout(ctx, programMax)
	defer cancel()
	if text, err := exec.CommandContext(ctx, path, args...).Output(); err == nil { //nolint:gosec // ours
		p.version = versionRule.FindString(string(text))
	}
	return p
}

// daemonVersion asks the containerd that an agent would use; "" if none answers.
func daemonVersion(ctx context.Context, which string) string {
	socket := which
	switch which {
	case containerdOwn:
		return ""
	case containerdAuto:
		socket = systemSocket
	}
	if _, err := os.Stat(socket); err != nil {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, programMax)
	defer cancel()
	c, err := client.New(socket, client.WithTimeout(programMax))
	if err != nil {
		return ""
	}
	defer c.Close()
	v, err := c.Version(ctx)
	if err != nil {
		return ""
	}
	return versionRule.FindString(v.Version)
}

// chains lists the base chains that packets to, or through, the machine pass.
func chains(ctx context.Context) (out []chainFact, problem string) {
	ctx, cancel := context.WithTimeout(ctx, programMax)
	defer cancel()
	if names, err := os.ReadFile("/proc/net/ip_tables_names"); err == nil && strings.Contains(string(names), "filter") {
		text, err := exec.CommandContext(ctx, "iptables-legacy", "-S").Output()
		if err == nil {
			out = legacyChains(string(text))
		}
	}
	nft, err := exec.LookPath("nft")
	if err != nil {
		return out, "nft is not on the path"
	}
	cmd := exec.CommandContext(ctx, nft, "-j", "list", "chains") //nolint:gosec // found above
	var complaint strings.Builder
	cmd.Stderr = &complaint
	text, err := cmd.Output()
	if err != nil {
		return out, strings.TrimSpace(fmt.Sprintf("nft: %v %s", err, firstLine(complaint.String())))
	}
	found, err := nftChains(text)
	if err != nil {
		return out, err.Error()
	}
	return append(out, found...), ""
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}

// nftChains reads the answer to "nft -j list chains".
func nftChains(text []byte) (out []chainFact, err error) {
	var answer struct {
		Nftables []struct {
			Chain *struct{ Family, Table, Name, Hook, Policy string }
		}
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		return nil, fmt.Errorf("read what nft says: %w", err)
	}
	ufw := map[string]bool{} // by family and table
	for _, n := range answer.Nftables {
		c := n.Chain
		if c == nil {
			continue
		}
		if strings.HasPrefix(c.Name, "ufw-") {
			ufw[c.Family+" "+c.Table] = true
		}
		if c.Hook == "input" || c.Hook == "forward" {
			out = append(out, chainFact{family: c.Family, table: c.Table, name: c.Name, hook: c.Hook, policy: c.Policy})
		}
	}
	for i, c := range out {
		out[i].ufw = ufw[c.family+" "+c.table]
	}
	return out, nil
}

// legacyChains reads the policies in what "iptables-legacy -S" prints.
func legacyChains(text string) (out []chainFact) {
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) == 3 && fields[0] == "-P" && (fields[1] == "INPUT" || fields[1] == "FORWARD") {
			out = append(out, chainFact{
				family: "ip", table: "filter", name: fields[1], hook: strings.ToLower(fields[1]), policy: strings.ToLower(fields[2]),
				legacy: true, ufw: strings.Contains(text, "-N ufw-"),
			})
		}
	}
	return out
}

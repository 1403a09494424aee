package main

import (
	"net/netip"
	"strings"
	"time"

	"slipway/api"
)

// fault is one thing that is wrong with a machine, and what is said of it.
type fault struct {
	name   string
	role   checkRole
	change func(*facts)
	check  string
	object string
	status outcome
	says   string
	fix    string
}

func hostFaults() []fault {
	slow := func(last time.Duration) func(*facts) {
		return func(f *facts) { f.dir.syncs[syncCount-1] = last }
	}
	on := func(filesystem string) func(*facts) { return func(f *facts) { f.dir.filesystem = filesystem } }
	swap := func(bounded bool) func(*facts) {
		return func(f *facts) {
			f.swap, f.cgroup.boundsSwap = swapFacts{size: api.GiB, devices: []string{"/dev/sda2"}}, bounded
		}
	}
	return []fault{
		{"old kernel", roleServer, func(f *facts) { f.kernel = "4.19.0-27" }, "kernel", "", statusFailed, "4.19.0-27 is older than 5.3", "apt-get install -y linux-image"},
		{"kernel not run", roleAgent, func(f *facts) { f.kernel = "5.4.0" }, "kernel", "", statusWarning, "5.10", ""},
		{"user", roleAgent, func(f *facts) { f.root = false }, "root", "", statusFailed, "runs as root", "sudo slipwayd check --role agent"},
		{"no vxlan", roleAgent, func(f *facts) { f.probes[3].err = "operation not supported" }, "kernel", "vxlan", statusFailed, "operation not supported", "modprobe vxlan"},
		{"no nftables", roleDev, func(f *facts) { f.probes[4].err = "no such file" }, "kernel", "nftables", statusFailed, "no such file", "modprobe nf_tables"},
		{"no overlay", roleAgent, func(f *facts) { f.probes[0].err = "no such device" }, "kernel", "overlay", statusFailed, "no such device", "modprobe overlay"},
		{"no groups", roleAgent, func(f *facts) { f.cgroup = cgroupFacts{} }, "cgroups", "", statusFailed, "no control groups", "mount -t cgroup2"},
		{"no memory", roleAgent, func(f *facts) { f.cgroup.controllers = []string{"cpu", "pids"} }, "cgroups", "memory", statusFailed, "no control of memory", "cgroup_enable=memory"},
		{"v2 without pids", roleAgent, func(f *facts) { f.cgroup.controllers = []string{"cpu", "memory"} }, "cgroups", "pids", statusFailed, "not enabled", "echo '+pids'"},
		{"v1 without freezer", roleDev, func(f *facts) {
			f.cgroup = cgroupFacts{version: 1, controllers: strings.Fields("cpu memory pids devices"), boundsSwap: true}
		}, "cgroups", "freezer", statusFailed, "not mounted", "-o freezer"},
		{"groups read only", roleAgent, func(f *facts) { f.cgroup.writable = "read-only file system" }, "cgroups", "", statusFailed, "read-only", "remount,rw"},

		{"no runc", roleAgent, program("runc", programFact{}), "program", "runc", statusFailed, "not installed", "apt-get install -y runc"},
		{"no shim", roleAgent, program("containerd-shim-runc-v2", programFact{}), "program", "containerd-shim-runc-v2", statusFailed, "not installed", "apt-get install -y containerd"},
		{"nft aside", roleAgent, program("nft", programFact{aside: "/usr/sbin/nft"}), "program", "nft", statusFailed, "not on the path", "export PATH="},
		{"dnf", roleAgent, func(f *facts) {
			f.installer = "dnf install -y"
			program("ip", programFact{})(f)
		}, "program", "ip", statusWarning, "not installed", "dnf install -y iproute"},
		{"no package manager", roleAgent, func(f *facts) {
			f.installer = ""
			program("nft", programFact{})(f)
		}, "program", "nft", statusFailed, "not installed", "install nftables with"},
		{"old runc", roleAgent, program("runc", programFact{path: "/usr/sbin/runc", version: "1.0.3"}), "program", "runc", statusFailed, "older than 1.1", "runc"},
		{"runc with holes", roleAgent, program("runc", programFact{path: "/usr/sbin/runc", version: "1.1.5"}), "program", "runc", statusWarning, "CVE-2025-31133", "runc"},
		{"old daemon", roleAgent, func(f *facts) { f.daemon = "1.4.13" }, "program", "containerd", statusFailed, "older than 1.6", "containerd"},
		{"no containerd", roleDev, func(f *facts) {
			f.daemon = ""
			program("containerd", programFact{})(f)
		}, "program", "containerd", statusFailed, "not installed", "apt-get install -y containerd"},
		{"no init", roleAgent, program("tini-static", programFact{}), "program", "tini-static", statusWarning, "reaps", "apt-get install -y tini"},
		{"no log writer", roleAgent, program("sliplog", programFact{}), "program", "sliplog", statusFailed, "not beside slipwayd", "make build"},

		{"tmpfs", roleServer, on("tmpfs"), "directory", "/var/lib/slipway", statusFailed, "gone after a restart", "--dir"},
		{"nfs", roleAgent, on("nfs"), "directory", "/var/lib/slipway", statusFailed, "locks and syncs", "--dir"},
		{"not run", roleServer, on("f2fs"), "directory", "/var/lib/slipway", statusWarning, "f2fs", ""},
		{"not writable", roleServer, func(f *facts) { f.dir = dirFacts{path: "/x", err: "permission denied"} }, "directory", "/x", statusFailed, "permission denied", "install -d"},
		{"server's disk full", roleServer, func(f *facts) { f.dir.free = api.GiB - 1 }, "space", "/var/lib/slipway", statusFailed, "less than 1 GiB", "du -xh"},
		{"node's disk full", roleAgent, func(f *facts) { f.dir.free = 4 * api.GiB }, "space", "/var/lib/slipway", statusFailed, "less than 5 GiB", "df -h /var/lib"},
		{"disk nearly full", roleDev, func(f *facts) { f.dir.free = 19 * api.GiB }, "space", "/var/lib/slipway", statusWarning, "20 GiB", "df -h"},
		{"no inodes", roleServer, func(f *facts) { f.dir.inodes = 9 }, "space", "/var/lib/slipway", statusFailed, "inodes", "df -i"},
		{"slow disk", roleServer, slow(11 * time.Millisecond), "sync", "/var/lib/slipway", statusWarning, "11ms (p99)", "lsblk"},
		{"hanging disk", roleServer, slow(time.Second), "sync", "/var/lib/slipway", statusFailed, "take one another for dead", "lsblk"},
		{"slow disk of a node", roleAgent, slow(time.Second), "sync", "/var/lib/slipway", statusWarning, "starts of processes", "lsblk"},

		{"clock", roleAgent, func(f *facts) { f.clock.synchronised = false }, "clock", "", statusWarning, "nothing keeps it right", "apt-get install -y chrony"},
		{"clock of dnf", roleServer, func(f *facts) { f.clock.synchronised, f.installer = false, "dnf install -y" }, "clock", "", statusWarning, "nothing keeps it right", "chronyd"},
		{"loose clock", roleServer, func(f *facts) { f.clock.errorMax = 3 * time.Second }, "clock", "", statusWarning, "3s", "makestep"},
		{"few files", roleServer, func(f *facts) { f.files = 4096 }, "limit", "files", statusWarning, "4096", "ulimit -n 1048576"},
		{"swap", roleServer, swap(true), "swap", "", statusWarning, "1 GiB on /dev/sda2", "swapoff -a"},
		{"swap that is not counted", roleAgent, swap(false), "swap", "", statusWarning, "more than its memory", "swapaccount=1"},
	}
}

func networkFaults() []fault {
	apart := func(d time.Duration) func(*facts) { return func(f *facts) { f.peers[0].offset = d } }
	away := func(d time.Duration) func(*facts) {
		return func(f *facts) { f.peers[0].trips = []time.Duration{d, d, d} }
	}
	mtuOf := func(mtu int) func(*facts) { return func(f *facts) { f.link.mtu = mtu } }
	return []fault{
		{"small packets", roleAgent, mtuOf(1400), "mtu", "eth0", statusWarning, "processes get 1350", "mtu 1500"},
		{"smaller packets", roleAgent, mtuOf(1300), "mtu", "eth0", statusFailed, "1300", "ip link set dev eth0 mtu"},
		{"addresses of somebody else", roleServer, func(f *facts) {
			f.overlaps = []routeFact{{to: netip.MustParsePrefix("10.200.0.0/24"), link: "eth1"}}
		}, "network", "10.192.0.0/10", statusFailed, "10.200.0.0/24 on eth1", "--network"},
		{"no route", roleAgent, func(f *facts) { f.link = linkFacts{} }, "mtu", "", statusWarning, "no default route", "ip route"},
		{"small packets to a peer", roleAgent, func(f *facts) { f.peers[0].link = linkFacts{"wg0", 1280} }, "mtu", "10.0.0.12:7420", statusFailed, "1280 on wg0", "dev wg0"},
		{"not forwarding", roleAgent, func(f *facts) { f.forwarding = false }, "forwarding", "", statusWarning, "off", "net.ipv4.ip_forward=1"},
		{"docker", roleAgent, forwardDrops(chainFact{family: "ip", table: "filter", name: "FORWARD"}), "firewall", "ip filter FORWARD", statusFailed, "drops what is forwarded", "iptables -P FORWARD ACCEPT"},
		{"legacy", roleDev, forwardDrops(chainFact{family: "ip", table: "filter", name: "FORWARD", legacy: true}), "firewall", "ip filter FORWARD", statusFailed, "drops", "iptables-legacy -P FORWARD ACCEPT"},
		{"ufw", roleAgent, forwardDrops(chainFact{family: "ip", table: "filter", name: "FORWARD", ufw: true}), "firewall", "ip filter FORWARD", statusFailed, "drops", "ufw reload"},
		{"own rules", roleAgent, forwardDrops(chainFact{family: "inet", table: "site", name: "fw"}), "firewall", "inet site fw", statusFailed, "drops", "nft 'chain inet site fw { policy accept; }'"},
		{"input", roleServer, func(f *facts) {
			f.chains = append(f.chains, chainFact{family: "inet", table: "filter", name: "input", hook: "input", policy: "drop"})
		}, "firewall", "inet filter input", statusWarning, "docs/operate.md", ""},
		{"firewalld", roleAgent, func(f *facts) {
			f.chains = append(f.chains, chainFact{family: "inet", table: "firewalld", name: "filter_FORWARD", hook: "forward", policy: "accept"})
		}, "firewall", "inet firewalld filter_FORWARD", statusWarning, "zones", "firewalld"},
		{"rules unread", roleServer, func(f *facts) { f.chainsError = "nft is not on the path" }, "firewall", "", statusWarning, "nft is not", ""},

		{"web server", roleAgent, taken(80, holder{program: "nginx", pid: 7, unit: "nginx.service"}), "port", "tcp/80", statusFailed, "nginx (process 7) has it", "systemctl disable --now nginx.service (or another port with --http)"},
		{"by hand", roleServer, taken(7422, holder{program: "nc", pid: 8}), "port", "tcp/7422", statusFailed, "nc (process 8)", "kill 8 (or another port with --raft-addr)"},
		{"nobody known", roleServer, taken(7420, holder{}), "port", "tcp/7420", statusFailed, "address already in use", "ss -lnp 'sport = :7420'"},
		{"flannel", roleAgent, taken(4789, holder{device: "flannel.1"}), "port", "udp/4789", statusWarning, "flannel.1", "ip link delete flannel.1"},

		{"unknown name", roleServer, peerIs(dialUnknown), "peer", "10.0.0.12:7420", statusFailed, "no address", "/etc/hosts"},
		{"refused", roleAgent, peerIs(dialRefused), "peer", "10.0.0.12:7420", statusFailed, "nothing listens", "systemctl start slipway-server (on 10.0.0.12)"},
		{"silent", roleAgent, peerIs(dialSilent), "peer", "10.0.0.12:7420", statusFailed, "a firewall drops", "tcp dport 7420 accept"},
		{"no way", roleServer, peerIs(dialOther), "peer", "10.0.0.12:7420", statusFailed, "the cause", "ip route get 10.0.0.12"},
		{"far", roleServer, away(30 * time.Millisecond), "peer", "10.0.0.12:7420", statusWarning, "30ms away", "ping"},
		{"too far", roleServer, away(300 * time.Millisecond), "peer", "10.0.0.12:7420", statusFailed, "300ms away", "one region"},
		{"far for a node", roleAgent, away(300 * time.Millisecond), "peer", "10.0.0.12:7420", statusWarning, "300ms away", "ping"},
		{"late", roleServer, apart(-4 * time.Second), "clock", "10.0.0.12:7420", statusWarning, "4s apart", "makestep"},
		{"early", roleAgent, apart(time.Minute), "clock", "10.0.0.12:7420", statusFailed, "1m0s apart", "makestep"},
	}
}

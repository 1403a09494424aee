package main

import (
	"fmt"
	"strings"
	"time"
)

// volatile are file systems that a data directory must not lie on, and why.
var volatile = map[string]string{
	"tmpfs": "its content is gone after a restart", "ramfs": "its content is gone after a restart",
	"nfs": "its locks and syncs are not those of a disk", "cifs": "its locks and syncs are not those of a disk",
	"smb2": "its locks and syncs are not those of a disk", "9p": "its locks and syncs are not those of a disk",
}

// proven are the file systems that data directories are known to be well on.
var proven = map[string]bool{"ext4": true, "xfs": true, "btrfs": true, "zfs": true}

func (out *findings) directory(o *checkOptions, d *dirFacts) {
	if d.err != "" {
		out.fail("directory", d.path, "install -d -m 0711 "+d.path, "%s", d.err)
		return
	}
	elsewhere := fmt.Sprintf("slipwayd check --role %s --dir DIRECTORY (and the same --dir for slipwayd %s)", o.role, o.role)
	switch why := volatile[d.filesystem]; {
	case why != "":
		out.fail("directory", d.path, elsewhere, "on %s: %s", d.filesystem, why)
	case !proven[d.filesystem]:
		out.warn("directory", d.path, "", "on %s, with which Slipway has not been run; ext4 and xfs are known to be well", d.filesystem)
	default:
		out.ok("directory", d.path, "on %s", d.filesystem)
	}
	low, advised := freeServerMin, freeServerAdvised
	if o.role.runs() {
		low, advised = freeNodeMin, freeNodeAdvised
	}
	grow := "df -h " + d.tried + "; du -xh --max-depth=2 " + d.tried + " | sort -h | tail (what may go?), or a larger disk"
	switch {
	case d.free < low:
		out.fail("space", d.path, grow, "%s of %s free, less than %s", d.free, d.total, low)
	case d.free < advised:
		out.warn("space", d.path, grow, "%s of %s free; %s leave room for logs and images", d.free, d.total, advised)
	case d.inodesAll > 0 && d.inodes < inodesMin:
		out.fail("space", d.path, "df -i "+d.tried+" (many small files: where?), or a file system with more inodes", "%d of %d inodes free", d.inodes, d.inodesAll)
	default:
		out.ok("space", d.path, "%s of %s free", d.free, d.total)
	}
	out.sync(o, d)
}

// quantile returns the value that a share of them does not exceed; they are in ascending order.
func quantile(times []time.Duration, percent int) time.Duration {
	if len(times) == 0 {
		return 0
	}
	return times[max(0, (len(times)*percent+99)/100-1)]
}

func (out *findings) sync(o *checkOptions, d *dirFacts) {
	p50, p99 := quantile(d.syncs, 50), quantile(d.syncs, 99)
	said := fmt.Sprintf("4 KiB are safe after %s (p50), %s (p99)", rounded(p50), rounded(p99))
	disks := "lsblk -d -o NAME,ROTA,MODEL,SIZE (a solid-state disk for --dir, that nothing else writes to much)"
	switch {
	case o.role.serves() && p99 > syncMax:
		out.fail("sync", d.path, disks, "%s; above %s servers take one another for dead", said, syncMax)
	case o.role.serves() && p99 > syncAdvised:
		out.warn("sync", d.path, disks, "%s; every change of the rack waits for one, %s are good", said, syncAdvised)
	case p99 > syncNodeAdvised:
		out.warn("sync", d.path, disks, "%s; starts of processes wait for it, %s are good", said, syncNodeAdvised)
	default:
		out.ok("sync", d.path, "%s", said)
	}
}

// rounded keeps three figures or so.
func rounded(d time.Duration) time.Duration {
	switch {
	case d > time.Second:
		return d.Round(10 * time.Millisecond)
	case d > time.Millisecond:
		return d.Round(10 * time.Microsecond)
	}
	return d.Round(time.Microsecond)
}

func (out *findings) clock(f *facts) {
	fix := f.install("chrony") + " && systemctl enable --now chrony"
	if strings.HasPrefix(f.installer, "dnf") || strings.HasPrefix(f.installer, "yum") {
		fix = f.install("chrony") + " && systemctl enable --now chronyd"
	}
	switch {
	case !f.clock.synchronised:
		out.warn("clock", "", fix, "nothing keeps it right: certificates and timers go by it, and logs of machines are compared by it")
	case f.clock.errorMax > clockErrorMax:
		out.warn("clock", "", "chronyc -a makestep", "the kernel believes it right to %s only", rounded(f.clock.errorMax))
	default:
		out.ok("clock", "", "synchronised, right to %s", rounded(f.clock.errorMax))
	}
}

func (out *findings) limits(o *checkOptions, f *facts) {
	if f.files < filesAdvised {
		out.warn("limit", "files", "ulimit -Hn 1048576 && ulimit -n 1048576 (the units of the package set LimitNOFILE)", "a process may open %d files here; connections are files, %d are good", f.files, filesAdvised)
	} else {
		out.ok("limit", "files", "%d", f.files)
	}
	off := "swapoff -a && sed -i '/[[:space:]]swap[[:space:]]/s/^/#/' /etc/fstab"
	switch {
	case f.swap.size == 0:
		out.ok("swap", "", "none")
	case o.role.runs() && !f.cgroup.boundsSwap:
		out.warn("swap", "", bootWith(enableSwaps)+" (or "+off+")", "%s on %s, and the kernel does not count it: a process can take more than its memory", f.swap.size, strings.Join(f.swap.devices, ", "))
	default:
		out.warn("swap", "", off, "%s on %s: a server or router that is swapped out answers late", f.swap.size, strings.Join(f.swap.devices, ", "))
	}
}

// network looks for addresses that lead elsewhere already.
func (out *findings) network(o *checkOptions, f *facts) {
	if o.role == roleDev {
		return // the node chooses a network of its own
	}
	for _, r := range f.overlaps {
		out.fail("network", o.network.String(), "slipwayd server --bootstrap --network 172.20.0.0/14 (or another that is free; when the rack is made)", "%s on %s is part of it: processes of the rack and what is there would have the same addresses", r.to, r.link)
	}
	if len(f.overlaps) == 0 {
		out.ok("network", o.network.String(), "free, for processes")
	}
}

func (out *findings) links(f *facts) {
	switch {
	case f.link.name == "":
		out.warn("mtu", "", "ip route show default", "no default route: images of other registries are out of reach")
	case f.link.mtu < mtuMin:
		out.fail("mtu", f.link.name, fmt.Sprintf("ip link set dev %s mtu %d", f.link.name, mtuUsual), "%d; below %d processes could not be sent the smallest packets of IPv6", f.link.mtu, mtuMin)
	case f.link.mtu < mtuUsual:
		out.warn("mtu", f.link.name, fmt.Sprintf("ip link set dev %s mtu %d (if all of its network has it)", f.link.name, mtuUsual), "%d: processes get %d", f.link.mtu, f.link.mtu-overlayHead)
	default:
		out.ok("mtu", f.link.name, "%d: processes get %d between nodes", f.link.mtu, f.link.mtu-overlayHead)
	}
	if f.forwarding {
		out.ok("forwarding", "", "on")
	} else {
		out.warn("forwarding", "", persistForwarding, "off: the agent turns it on, but something else may turn it off again")
	}
}

// firewall looks for chains that drop what they do not name.
func (out *findings) firewall(o *checkOptions, f *facts) {
	if f.chainsError != "" {
		out.warn("firewall", "", "", "its rules could not be read: %s", f.chainsError)
		return
	}
	before := len(*out)
	for _, c := range f.chains {
		object := strings.Join([]string{c.family, c.table, c.name}, " ")
		dropping := c.policy == "drop" && (c.family == "ip" || c.family == "inet")
		switch {
		case dropping && c.hook == "forward" && o.role.runs():
			fix, why := c.accept(), "it drops what is forwarded to and from processes"
			if !c.ufw && !f.forwarding {
				fix += " && " + persistForwarding
				why += "; Docker makes it so where it is the one to turn forwarding on"
			}
			out.fail("firewall", object, fix, "%s", why)
		case dropping && c.hook == "input":
			out.warn("firewall", object, "", "it drops what it has no rule for: machines of the rack need the ports below, see the table of ports in docs/operate.md")
		case c.table == "firewalld" && c.hook == "forward" && o.role.runs():
			out.warn("firewall", object, "systemctl disable --now firewalld (or a policy that lets processes through)", "firewalld rejects what is forwarded between its zones")
		}
	}
	if len(*out) == before {
		out.ok("firewall", "", "no chain drops by default")
	}
}

// accept is the command that makes a chain accept what it has no rule for.
func (c chainFact) accept() string {
	switch {
	case c.ufw:
		return `sed -i 's/^DEFAULT_FORWARD_POLICY=.*/DEFAULT_FORWARD_POLICY="ACCEPT"/' /etc/default/ufw && ufw reload`
	case c.legacy:
		return "iptables-legacy -P " + c.name + " ACCEPT"
	case c.table == "filter" && c.name == "FORWARD":
		return "iptables -P FORWARD ACCEPT"
	}
	return fmt.Sprintf("nft 'chain %s %s %s { policy accept; }'", c.family, c.table, c.name)
}

func (out *findings) port(f *facts, p portFact) {
	object := fmt.Sprintf("%s/%d", p.protocol, p.port)
	h := p.holder
	other := ""
	if p.flag != "" {
		other = " (or another port with --" + p.flag + ")"
	}
	switch {
	case p.err == "":
		out.ok("port", object, "free, for %s", p.use)
	case h.program == "slipwayd":
		out.ok("port", object, "slipwayd has it already (process %d), for %s", h.pid, p.use)
	case ourLink(h.device):
		out.ok("port", object, "device %s of a rack has it already, for %s", h.device, p.use)
	case h.device != "":
		out.warn("port", object, "ip link delete "+h.device+" (if nothing uses it)", "device %s has it, for %s: two networks on one port work as long as their numbers differ", h.device, p.use)
	case h.unit != "":
		out.fail("port", object, "systemctl disable --now "+h.unit+other, "%s (process %d) has it; it is for %s", h.program, h.pid, p.use)
	case h.pid != 0:
		out.fail("port", object, fmt.Sprintf("kill %d%s", h.pid, other), "%s (process %d) has it; it is for %s", h.program, h.pid, p.use)
	case !f.root && p.port < 1024:
		out.fail("port", object, "sudo slipwayd check", "not for this user: %s", p.err)
	default:
		out.fail("port", object, fmt.Sprintf("ss -lnp 'sport = :%d'%s", p.port, other), "not free, it is for %s: %s", p.use, p.err)
	}
}

func (out *findings) peer(o *checkOptions, p peerFact) {
	host, port := splitPeer(p.addr)
	switch p.err {
	case "":
	case dialUnknown:
		out.fail("peer", p.addr, fmt.Sprintf("echo 'ADDRESS %s' >>/etc/hosts (or its name in DNS)", host), "no address has this name: %s", p.cause)
		return
	case dialRefused:
		out.fail("peer", p.addr, "systemctl start slipway-server (on "+host+")", "the machine is there and nothing listens, or its firewall refuses")
		return
	case dialSilent:
		out.fail("peer", p.addr, fmt.Sprintf("nft add rule inet filter input tcp dport %s accept (on %s; on EC2: aws ec2 authorize-security-group-ingress --group-id GROUP --protocol tcp --port %s --source-group GROUP)", port, host, port),
			"no answer: the machine is down, or a firewall drops the way there")
		return
	default:
		out.fail("peer", p.addr, "ip route get "+host, "%s", p.cause)
		return
	}
	trip, advised := quantile(p.trips, 50), tripAdvised
	if !o.role.serves() {
		advised = tripNodeAdvised
	}
	switch {
	case o.role.serves() && trip > tripMax:
		out.fail("peer", p.addr, "ping -c 5 "+host+" (servers of one rack belong into one region)", "%s away; above %s servers take one another for dead", rounded(trip), tripMax)
	case trip > advised:
		out.warn("peer", p.addr, "ping -c 5 "+host, "%s away; %s are good", rounded(trip), advised)
	default:
		out.ok("peer", p.addr, "%s away", rounded(trip))
	}
	out.offset(p)
	if o.role.runs() && p.link.name != "" && p.link.mtu < mtuMin {
		out.fail("mtu", p.addr, fmt.Sprintf("ip link set dev %s mtu %d", p.link.name, mtuUsual), "%d on %s, the way there; %d is the least", p.link.mtu, p.link.name, mtuMin)
	}
}

// offset judges the clock of a peer against ours. The time to and from it is part of precision.
func (out *findings) offset(p peerFact) {
	if !p.dated {
		return // it has no registry to ask
	}
	apart := max(0, p.offset.Abs()-p.precision)
	fix := "chronyc -a makestep (on the machine that is wrong)"
	switch {
	case apart > offsetMax:
		out.fail("clock", p.addr, fix, "its clock and this one are %s apart; certificates would not be valid yet", rounded(p.offset.Abs()))
	case apart > offsetAdvised:
		out.warn("clock", p.addr, fix, "its clock and this one are %s apart", rounded(p.offset.Abs()))
	default:
		out.ok("clock", p.addr, "its clock agrees to %s", rounded(p.precision))
	}
}

package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"slipway/api"
)

// What a machine has to have. Sizes and times are of the smallest rack that is worth running.
const (
	kernelMin     = "5.3"  // pidfd_open, without which an agent would signal by number
	kernelAdvised = "5.10" // older ones have not been run
	filesAdvised  = 65536

	freeServerMin, freeServerAdvised = 1 * api.GiB, 10 * api.GiB
	freeNodeMin, freeNodeAdvised     = 5 * api.GiB, 20 * api.GiB
	inodesMin                        = 10_000

	// A server waits for one sync per write; half a second is half of what it takes others to
	// believe that it is gone.
	syncAdvised, syncMax = 10 * time.Millisecond, 500 * time.Millisecond
	syncNodeAdvised      = 100 * time.Millisecond

	clockErrorMax                 = time.Second
	offsetAdvised, offsetMax      = 2 * time.Second, 5 * time.Second
	tripAdvised, tripMax          = 20 * time.Millisecond, 250 * time.Millisecond
	tripNodeAdvised               = 150 * time.Millisecond
	overlayHead, mtuMin, mtuUsual = 50, 1330, 1500 // of vxlan; IPv6's smallest with it; of an Ethernet
	containerdMin, runcMin        = "1.6", "1.1"
	runcAdvised, nftMin           = "1.2.8", "0.9.3"
	persistForwarding             = "echo net.ipv4.ip_forward=1 >/etc/sysctl.d/60-slipway.conf && sysctl -p /etc/sysctl.d/60-slipway.conf"
	persistModules                = "echo %[1]s >/etc/modules-load.d/slipway-%[1]s.conf && modprobe %[1]s"
	enableMemory, enableSwaps     = "cgroup_enable=memory", "swapaccount=1"
)

// judge says what the facts mean for the role. It is pure.
func judge(o *checkOptions, f *facts) []finding {
	var out findings
	out.kernel(o, f)
	if o.role.runs() {
		out.cgroups(f)
		out.programs(o, f)
	}
	out.directory(o, &f.dir)
	out.clock(f)
	out.limits(o, f)
	if o.role.runs() {
		out.links(f)
	}
	out.network(o, f)
	out.firewall(o, f)
	for _, p := range f.ports {
		out.port(f, p)
	}
	for _, p := range f.peers {
		out.peer(o, p)
	}
	return out
}

// findings grow by one kind of check after the other.
type findings []finding

func (f *findings) ok(check, object, format string, args ...any) {
	*f = append(*f, finding{Check: check, Object: object, Status: statusOK, Message: fmt.Sprintf(format, args...)})
}

func (f *findings) warn(check, object, fix, format string, args ...any) {
	*f = append(*f, finding{Check: check, Object: object, Status: statusWarning, Message: fmt.Sprintf(format, args...), Fix: fix})
}

func (f *findings) fail(check, object, fix, format string, args ...any) {
	*f = append(*f, finding{Check: check, Object: object, Status: statusFailed, Message: fmt.Sprintf(format, args...), Fix: fix})
}

// older compares versions by their numbers; one that cannot be read is not older.
func older(version, than string) bool {
	a, b := numbers(version), numbers(than)
	return len(a) > 0 && slices.Compare(a, b) < 0
}

// numbers reads the leading numbers of a version: 5, 10, 0 of "5.10.0-28-amd64".
func numbers(version string) (out []int) {
	for part := range strings.SplitSeq(version, ".") {
		digits := part[:len(part)-len(strings.TrimLeft(part, "0123456789"))]
		n, err := strconv.Atoi(digits)
		if err != nil {
			break
		}
		out = append(out, n)
		if len(digits) < len(part) {
			break
		}
	}
	return out
}

// install is the command that installs a program.
func (f *facts) install(program string) string {
	name, ok := map[string]string{"nft": "nftables", "ip": "iproute2", "containerd-shim-runc-v2": "containerd", "tini-static": "tini"}[program]
	if !ok {
		name = program
	}
	switch {
	case f.installer == "":
		return "install " + name + " with the system's package manager"
	case name == "iproute2" && (strings.HasPrefix(f.installer, "dnf") || strings.HasPrefix(f.installer, "yum")):
		name = "iproute"
	}
	return f.installer + " " + name
}

func (out *findings) kernel(o *checkOptions, f *facts) {
	switch {
	case older(f.kernel, kernelMin):
		out.fail("kernel", "", "install a newer kernel, for example: "+f.install("linux-image-amd64"), "%s is older than %s: processes could not be told apart safely", f.kernel, kernelMin)
	case older(f.kernel, kernelAdvised):
		out.warn("kernel", "", "", "%s is older than %s, with which Slipway has not been run", f.kernel, kernelAdvised)
	default:
		out.ok("kernel", "", "%s", f.kernel)
	}
	if !o.role.runs() {
		return
	}
	if !f.root {
		out.fail("root", "", "sudo slipwayd check --role "+string(o.role), "an agent runs as root, and so do the checks of the kernel")
		return
	}
	modules := map[string]string{"overlay": "overlay", "bridge": "bridge", "veth": "veth", "vxlan": "vxlan", "nftables": "nf_tables"}
	for _, p := range f.probes {
		switch {
		case p.err == "":
			out.ok("kernel", p.name, "works")
		case p.name == "overlay" && unlayered[f.dir.filesystem]:
			out.fail("kernel", p.name, "slipwayd check --role "+string(o.role)+" --dir DIRECTORY (on ext4 or xfs)", "%s, a %s, cannot hold layers of images: %s", f.dir.tried, f.dir.filesystem, p.err)
		case p.name == "nftables" && strings.Contains(p.err, "executable file not found"):
			// The program is a finding of its own; without it the kernel was not asked.
		default:
			out.fail("kernel", p.name, fmt.Sprintf(persistModules, modules[p.name]), "does not work: %s", p.err)
		}
	}
}

// unlayered are file systems that cannot be the upper layer of an overlay.
var unlayered = map[string]bool{"overlay": true, "nfs": true, "cifs": true, "smb2": true, "fuse": true, "9p": true, "vfat": true}

func (out *findings) cgroups(f *facts) {
	c := f.cgroup
	needed := []string{"cpu", "memory", "pids"}
	switch c.version {
	case 0:
		out.fail("cgroups", "", "mount -t cgroup2 none /sys/fs/cgroup", "/sys/fs/cgroup has no control groups")
		return
	case 1:
		needed = append(needed, "devices", "freezer")
	}
	var missing []string
	for _, n := range needed {
		if !slices.Contains(c.controllers, n) {
			missing = append(missing, n)
		}
	}
	switch {
	case slices.Contains(missing, "memory"):
		out.fail("cgroups", "memory", bootWith(enableMemory), "the kernel has no control of memory")
	case len(missing) > 0 && c.version == 2:
		out.fail("cgroups", strings.Join(missing, ", "), "echo '+"+strings.Join(missing, " +")+"' >/sys/fs/cgroup/cgroup.subtree_control", "not enabled (version 2)")
	case len(missing) > 0:
		out.fail("cgroups", strings.Join(missing, ", "), fmt.Sprintf("mkdir -p /sys/fs/cgroup/%[1]s && mount -t cgroup -o %[1]s cgroup /sys/fs/cgroup/%[1]s", missing[0]), "not mounted (version 1)")
	case c.writable != "":
		out.fail("cgroups", "", "mount -o remount,rw /sys/fs/cgroup", "no group can be made: %s", c.writable)
	default:
		out.ok("cgroups", "", "version %d: %s", c.version, strings.Join(c.controllers, " "))
	}
}

// bootWith is the command that starts the kernel with a parameter from now on.
func bootWith(parameter string) string {
	return fmt.Sprintf(`sed -i 's/^GRUB_CMDLINE_LINUX="/&%s /' /etc/default/grub && update-grub && reboot`, parameter)
}

func (out *findings) programs(o *checkOptions, f *facts) {
	if f.daemon != "" {
		out.version(f, "containerd", "daemon "+f.daemon+" answers", f.daemon, containerdMin, "")
	} else if o.containerd != containerdAuto && o.containerd != containerdOwn {
		out.fail("program", "containerd", "systemctl enable --now containerd", "nothing answers at %s", o.containerd)
	}
	for _, p := range f.programs {
		switch {
		case p.name == "containerd" && f.daemon != "":
		case p.path != "":
			low, advised := "", ""
			switch p.name {
			case "containerd":
				low = containerdMin
			case "runc":
				low, advised = runcMin, runcAdvised
			case "nft":
				low = nftMin
			}
			out.version(f, p.name, strings.TrimSpace(p.path+" "+p.version), p.version, low, advised)
		case p.aside != "":
			out.fail("program", p.name, "export PATH=$PATH:/usr/sbin:/sbin:/usr/local/sbin", "it is %s, which is not on the path", p.aside)
		case p.name == "ip":
			out.warn("program", p.name, f.install(p.name), "not installed; Slipway does not need it, who looks for a fault does")
		case p.name == "tini-static":
			out.warn("program", p.name, f.install(p.name), "not installed: processes get no init that reaps their children")
		case p.name == "sliplog":
			out.fail("program", p.name, "make build (or install the package of Slipway)", "the log writer is not beside slipwayd")
		default:
			out.fail("program", p.name, f.install(p.name), "not installed")
		}
	}
}

// version judges the version of a program that is there.
func (out *findings) version(f *facts, program, found, version, low, advised string) {
	switch {
	case low != "" && older(version, low):
		out.fail("program", program, f.install(program), "%s: older than %s", found, low)
	case advised != "" && older(version, advised):
		out.warn("program", program, f.install(program), "%s: upstream closed ways out of a container in %s (CVE-2025-31133, -52565, -52881); see whether the distribution did as well", found, advised)
	default:
		out.ok("program", program, "%s", found)
	}
}

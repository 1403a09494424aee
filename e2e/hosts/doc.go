// Package hosts makes several hosts on one machine, for tests and for `make cluster`: what runs
// in one of them sees a machine of its own, on a network that can be cut, parted, made lossy or
// slow, and with a power switch.
//
//	rig, err := hosts.New(hosts.Config{Dir: dir, Names: []string{"server", "one", "two"}})
//	if err != nil {
//		return err
//	}
//	defer rig.Close()
//	agent := rig.Host(1).Command(ctx, "/usr/bin/slipwayd", "agent", "--dir", rig.Host(1).Dir())
//	if err := agent.Start(); err != nil {
//		return err
//	}
//	addr, err := rig.Uplink()            // a browser on the machine reaches the hosts' addresses
//	err = rig.Partition([]int{0, 1}, []int{2})
//	err = rig.HealAll()
//	err = rig.Host(1).PowerOff()         // agent.Wait() returns "signal: killed"
//	err = rig.Host(1).PowerOn()          // a new boot ID, nothing runs, the disk is there
//
// # A host
//
// A host has network, process numbers, mounts, host name, System V IPC and control groups of its
// own (namespaces(7)). It sees its link eth0, an empty /run, its own boot ID, /sys and /proc, the
// names of all hosts in /etc/hosts, and control groups as if it were alone. It shares with the
// machine the kernel and its clock, CPUs and memory, and all files: Dir is for it alone and its
// disk. It has no way out of the rig, and nobody has a way in but by the uplink.
//
// A Cmd is the program itself, not one that runs it: its process can be signalled and waited for,
// and ctx kills it. Inside, the program has another pid than outside. It may outlive whoever
// started it. All that it starts, and all that those start, belongs to the host, until the power
// goes off.
//
// # The network
//
// All hosts are ports of one switch, a bridge in a namespace of its own: the machine's links,
// routes and firewall stay as they are. Hosts are numbered from 0 and have the addresses .10,
// .11, … of a /24; the uplink has .254. Faults are set on the switch, but for the rate of what a
// host sends, and stay until they are healed, whatever the hosts do. Cut is a pulled plug, which a
// host can see; all others look to it as if its peers had fallen silent. A fault acts on whole
// frames: a link that loses a tenth of them may lose as much as 64 KiB of TCP at once.
//
// # Power
//
// PowerOff takes the carrier first, so that no peer hears FIN or RST, and then kills the host's
// first process, with which the kernel kills all others: orphans, shims, containers, and frozen
// ones once they are thawed. PowerOn makes a new host with the old name, addresses and disk.
// Freeze stops a host's processes where they are: a leader that wakes up after its lease has
// passed.
//
// # Who knows what
//
// State lies in Dir/.rig, is replaced as a whole, and is changed under a lock on Dir: one
// program may make a rig, others Open it, change it at the same time and close it. Nothing of a
// rig depends on the program that made it, but for latency, unless the rig is Bound to it. Two
// rigs never meet, because all that the machine sees is named after the absolute Dir: the uplink
// slh<tag> and the control groups slipway-hosts-<tag>. The processes that hold the namespaces
// carry SLIPWAY_RIG and SLIPWAY_HOST in their environment. To look round by hand: nsenter --all
// --target PID, with such a pid from Dir/.rig/state.json.
//
// The package needs root, Linux 5.8 or newer with control groups of version 1 or 2, the programs
// nft, mount, unshare and env (coreutils 8.31 or newer). One goroutine per host reaps the host's
// first process; those that hold frames end with Heal or Close.
package hosts
